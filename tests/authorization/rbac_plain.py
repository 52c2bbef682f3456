"""A plain RBAC evaluator: every binding of the cluster is looked at for each question. Slow, and obviously right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kubegate.authorization import Attributes

Object = dict[str, Any]


def grants(objects: Sequence[Object], asked: Attributes) -> list[str]:
    """What each granting binding would give as reason: those of the cluster, then those of the namespace."""
    found = []
    for binding in applicable(objects, asked.namespace if asked.resource_request else ""):
        subject = first_subject(binding, asked)
        if subject is None:
            continue
        rules = rules_of(objects, binding)
        if rules is not None and any(allows(rule, asked) for rule in rules):
            found.append(f"RBAC: allowed by {describe(binding, subject)}")
    return found


def missing(objects: Sequence[Object], asked: Attributes) -> set[str]:
    """Roles that the user's bindings name and that are not there."""
    found = set()
    for binding in applicable(objects, asked.namespace if asked.resource_request else ""):
        if first_subject(binding, asked) is not None and rules_of(objects, binding) is None:
            reference = binding["roleRef"]
            found.add(f'{reference["kind"].lower()}.rbac.authorization.k8s.io "{reference["name"]}" not found')
    return found


def applicable(objects: Sequence[Object], namespace: str) -> Iterable[Object]:
    for obj in objects:
        if obj["kind"] == "ClusterRoleBinding":
            yield obj
    for obj in objects:
        if obj["kind"] == "RoleBinding" and namespace and obj["metadata"]["namespace"] == namespace:
            yield obj


def first_subject(binding: Object, asked: Attributes) -> Object | None:
    for subject in binding.get("subjects") or []:
        if subject["kind"] == "User" and subject["name"] == asked.user.name:
            return subject
        if subject["kind"] == "Group" and subject["name"] in asked.user.groups:
            return subject
        if subject["kind"] == "ServiceAccount":
            namespace = subject.get("namespace") or binding["metadata"].get("namespace") or ""
            if namespace and asked.user.name == f"system:serviceaccount:{namespace}:{subject['name']}":
                return subject
    return None


def rules_of(objects: Sequence[Object], binding: Object) -> list[Object] | None:
    reference = binding["roleRef"]
    for obj in objects:
        if obj["kind"] != reference["kind"] or obj["metadata"]["name"] != reference["name"]:
            continue
        if obj["kind"] == "ClusterRole" or obj["metadata"]["namespace"] == binding["metadata"].get("namespace"):
            return obj.get("rules") or []
    return None


def allows(rule: Object, asked: Attributes) -> bool:
    verbs = rule.get("verbs") or []
    if "*" not in verbs and asked.verb not in verbs:
        return False
    if not asked.resource_request:
        for url in rule.get("nonResourceURLs") or []:
            if url == asked.path or (url.endswith("*") and asked.path.startswith(url.rstrip("*"))):
                return True
        return False
    groups = rule.get("apiGroups") or []
    if "*" not in groups and asked.api_group not in groups:
        return False
    names = rule.get("resourceNames") or []
    if names and asked.name not in names:
        return False
    for resource in rule.get("resources") or []:
        if resource == "*":
            return True
        if not asked.subresource and resource == asked.resource:
            return True
        if asked.subresource and resource in (f"{asked.resource}/{asked.subresource}", f"*/{asked.subresource}"):
            return True
    return False


def describe(binding: Object, subject: Object) -> str:
    namespace = binding["metadata"].get("namespace") or ""
    name = binding["metadata"]["name"] + (f"/{namespace}" if namespace else "")
    who = subject["name"]
    if subject["kind"] == "ServiceAccount":
        who = f"{who}/{subject.get('namespace') or namespace}"
    role = binding["roleRef"]
    return f'{binding["kind"]} "{name}" of {role["kind"]} "{role["name"]}" to {subject["kind"]} "{who}"'
