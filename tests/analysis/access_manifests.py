"""A small cluster in manifests, for tests of questions about access."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubegate.analysis.sources import Cluster

RBAC = "rbac.authorization.k8s.io"

MANIFESTS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: prod}
rules:
- {apiGroups: [""], resources: [pods, configmaps], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [secrets], verbs: [get], resourceNames: [tls]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: prod}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {kind: User, name: alice}
- {kind: Group, name: dev}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: editors, namespace: staging}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects:
- {kind: User, name: alice}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: lost, namespace: prod}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: gone}
subjects:
- {kind: User, name: bob}
---
apiVersion: v1
kind: List
items:
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: deployer, labels: {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}
  rules:
  - {apiGroups: [apps], resources: [deployments, deployments/scale], verbs: ["*"]}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRoleBinding
  metadata: {name: deployers}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: deployer}
  subjects:
  - {kind: ServiceAccount, name: robot, namespace: ci}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: something-else}
"""


def write(folder: Path, text: str = MANIFESTS, name: str = "rbac.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder


def role(kind: str, name: str, rules: list[Any], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"kind": kind, "metadata": metadata, "rules": rules}


def rule(verbs: str, resources: str, group: str = "", *names: str) -> dict[str, Any]:
    found: dict[str, Any] = {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}
    return {**found, "resourceNames": list(names)} if names else found


def bound(name: str, role_kind: str, role_name: str, *subjects: str, namespace: str = "") -> dict[str, Any]:
    """Subjects as `User alice`, `ServiceAccount ns/name`."""
    found = []
    for text in subjects:
        kind, _, who = text.partition(" ")
        home, slash, short = who.partition("/")
        named = kind == "ServiceAccount" and slash
        found.append({"kind": kind, "name": short, "namespace": home} if named else {"kind": kind, "name": who})
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    reference = {"apiGroup": RBAC, "kind": role_kind, "name": role_name}
    return {"kind": kind, "metadata": metadata, "roleRef": reference, "subjects": found}


def cluster(*objects: dict[str, Any]) -> Cluster:
    return Cluster.of_objects(objects)
