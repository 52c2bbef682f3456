"""IAM roles for service accounts: what a pod is given so that AWS's clients in it find its role and its token.

Follows amazon-eks-pod-identity-webhook. Nothing is given twice, and what a pod brings itself is left as it is.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubegate.api import Object

VOLUME = "aws-iam-token"
TOKEN_FILE = "token"
LEAST_SECONDS, MOST_SECONDS = 600, 86_400
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_IDENTITY = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
_STS = "AWS_STS_REGIONAL_ENDPOINTS"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_OS = ("kubernetes.io/os", "beta.kubernetes.io/os")


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """The webhook's flags. An account's annotations count before them, and a pod's before its account's."""

    annotation_prefix: str = "eks.amazonaws.com"
    token_audience: str = "sts.amazonaws.com"
    token_expiration: int = MOST_SECONDS
    token_mount_path: str = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
    aws_default_region: str = ""
    sts_regional_endpoint: bool = True

    def role(self, account: Object) -> str:
        """The role of an account's pods, "" for none."""
        return _annotation(account, f"{self.annotation_prefix}/role-arn")

    def inject(self, pod: Object, account: Object) -> bool:
        """Give a pod, in place, what its account's annotations say; whether anything changed."""
        role, spec = self.role(account), pod.get("spec")
        if not role or not isinstance(spec, dict):
            return False
        skipped = self._skipped(pod)
        variables = self._variables(role, account, spec)
        changed = False
        for sort in ("initContainers", "containers"):
            for container in spec.get(sort) or ():
                if container.get("name") not in skipped:
                    changed = self._fill(container, variables) or changed
        volumes = spec.get("volumes") or []
        if all(volume.get("name") != VOLUME for volume in volumes):
            spec["volumes"] = [self._volume(pod, account), *volumes]
            changed = True
        return changed

    def seconds(self, pod: Object, account: Object) -> int:
        """How long the pod's token lasts: by the pod's annotation, its account's, or the flag."""
        key = f"{self.annotation_prefix}/token-expiration"
        for asked in (_annotation(pod, key), _annotation(account, key)):
            if asked.removeprefix("-").isdecimal() and asked.isascii():
                return min(max(int(asked), LEAST_SECONDS), MOST_SECONDS)
        return self.token_expiration

    def audience(self, account: Object) -> str:
        return _annotation(account, f"{self.annotation_prefix}/audience") or self.token_audience

    def token_file(self, spec: Mapping[str, Any]) -> str:
        """Where the token is, as containers of the pod's system name files."""
        path = f"{self.token_mount_path.rstrip('/')}/{TOKEN_FILE}"
        selector = spec.get("nodeSelector") or {}
        if any(selector.get(name) == "windows" for name in _OS):
            return "C:" + path.replace("/", "\\")
        return path

    def _variables(self, role: str, account: Object, spec: Object) -> list[tuple[tuple[str, ...], Object]]:
        """Each variable, and those of which none may be there for it to be added."""
        found: list[tuple[tuple[str, ...], Object]] = []
        regional = _annotation(account, f"{self.annotation_prefix}/sts-regional-endpoints")
        if regional in _TRUE or (regional not in _FALSE and self.sts_regional_endpoint):
            found.append(((_STS,), {"name": _STS, "value": "regional"}))
        if self.aws_default_region:
            found += [(_REGIONS, {"name": name, "value": self.aws_default_region}) for name in reversed(_REGIONS)]
        values = (role, self.token_file(spec))
        found += [(_IDENTITY, {"name": name, "value": value}) for name, value in zip(_IDENTITY, values, strict=True)]
        return found

    def _fill(self, container: Object, variables: list[tuple[tuple[str, ...], Object]]) -> bool:
        there = {variable.get("name") for variable in container.get("env") or ()}
        new = [dict(variable) for unless, variable in variables if there.isdisjoint(unless)]
        if new:
            container["env"] = [*(container.get("env") or []), *new]
        mounts = container.get("volumeMounts") or []
        if any(mount.get("name") == VOLUME for mount in mounts):
            return bool(new)
        mount = {"name": VOLUME, "readOnly": True, "mountPath": self.token_mount_path}
        container["volumeMounts"] = [*mounts, mount]
        return True

    def _volume(self, pod: Object, account: Object) -> Object:
        token = {
            "audience": self.audience(account),
            "expirationSeconds": self.seconds(pod, account),
            "path": TOKEN_FILE,
        }
        return {"name": VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}

    def _skipped(self, pod: Object) -> frozenset[str]:
        text = _annotation(pod, f"{self.annotation_prefix}/skip-containers")
        try:
            return frozenset(next(csv.reader([text], strict=True), ()))
        except csv.Error:
            return frozenset()


def _annotation(obj: Object, key: str) -> str:
    found = ((obj.get("metadata") or {}).get("annotations") or {}).get(key)
    return found if isinstance(found, str) else ""
