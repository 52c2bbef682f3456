"""ABAC: a policy file, one JSON object a line. Follows k8s.io/kubernetes/pkg/auth/authorizer/abac.

Lines with apiVersion `abac.authorization.kubernetes.io/v1beta1` say all they mean in `spec`; lines without one (or
with `v0`) are of the oldest form, where a field that is left out means everything. Empty lines and lines that begin
with `#` are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kubegate.authentication import AUTHENTICATED_GROUP, UserInfo
from kubegate.authorization import Attributes, Decision, SubjectRules, Verdict

VERSION = "abac.authorization.kubernetes.io/v1beta1"
_OLDEST = "abac.authorization.kubernetes.io/v0"
_READS = frozenset({"get", "list", "watch"})
_FIELDS: dict[str, type] = {
    "user": str, "group": str, "readonly": bool, "apiGroup": str, "resource": str, "namespace": str,
    "nonResourcePath": str,
}  # fmt: skip


class PolicyError(ValueError):
    """A policy file that cannot be used: the file, the line, and what is wrong with it."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}, line {line}: {problem}" if line else f"{path}: {problem}")
        self.path, self.line = path, line


@dataclass(frozen=True, slots=True)
class Policy:
    """One line. An empty field allows nothing of its kind; `*` allows everything."""

    user: str = ""
    group: str = ""
    readonly: bool = False
    api_group: str = ""
    resource: str = ""
    namespace: str = ""
    path: str = ""

    def about(self, user: UserInfo) -> bool:
        if not self.user and not self.group:
            return False
        if self.user and self.user not in ("*", user.name):
            return False
        return not self.group or self.group == "*" or self.group in user.groups

    def allows(self, attributes: Attributes) -> bool:
        if self.readonly and attributes.verb not in _READS:
            return False
        if attributes.resource_request:
            return (
                self.namespace in ("*", attributes.namespace)
                and self.resource in ("*", attributes.resource)
                and self.api_group in ("*", attributes.api_group)
            )
        if self.path in ("*", attributes.path):
            return True
        return self.path.endswith("*") and attributes.path.startswith(self.path.rstrip("*"))


class Abac:
    """The policies of a file, in its order."""

    def __init__(self, policies: list[Policy]) -> None:
        self.policies = policies

    @classmethod
    def from_file(cls, path: Path) -> Abac:
        """Raises PolicyError."""
        return cls(load(path))

    async def authorize(self, attributes: Attributes) -> Decision:
        for policy in self.policies:
            if policy.about(attributes.user) and policy.allows(attributes):
                return _ALLOWED
        return _NO_MATCH

    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules:
        found = SubjectRules()
        for policy in self.policies:
            if not policy.about(user) or policy.namespace not in ("*", namespace):
                continue
            verbs = ["get", "list", "watch"] if policy.readonly else ["*"]
            if policy.resource:
                found.resource_rules.append(
                    {"verbs": verbs, "apiGroups": [policy.api_group], "resources": [policy.resource]}
                )
            if policy.path:
                found.non_resource_rules.append({"verbs": verbs, "nonResourceURLs": [policy.path]})
        return found


def load(path: Path) -> list[Policy]:
    """Raises PolicyError, naming the line."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise PolicyError(path, 0, f"cannot be read: {error.strerror}") from None
    policies = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith(b"#"):
            try:
                policies.append(_read(orjson.loads(text)))
            except (orjson.JSONDecodeError, ValueError) as error:
                raise PolicyError(path, number, str(error)) from None
    return policies


def _read(line: Any) -> Policy:
    if not isinstance(line, dict):
        raise ValueError("a policy is a JSON object")
    version = line.get("apiVersion")
    if not version or (version == _OLDEST and line.get("kind") == "Policy"):
        return _oldest(_fields({name: value for name, value in line.items() if name != "apiVersion"}, "the policy"))
    if version != VERSION or line.get("kind") != "Policy":
        raise ValueError(f"apiVersion must be {VERSION} and kind Policy, not {version} {line.get('kind')}")
    spec = line.get("spec")
    if not isinstance(spec, dict):
        raise ValueError("spec is missing")
    return _v1beta1(_fields(spec, "spec"))


def _fields(found: dict[str, Any], place: str) -> dict[str, Any]:
    for name, value in found.items():
        if name == "kind" and place != "spec":
            continue
        wanted = _FIELDS.get(name)
        if wanted is None:
            raise ValueError(f"{place} has no field {name!r}; it has {', '.join(_FIELDS)}")
        if not isinstance(value, wanted):
            raise ValueError(f"{name} must be a {'boolean' if wanted is bool else 'string'}")
    return found


def _v1beta1(spec: dict[str, Any]) -> Policy:
    user, group = spec.get("user", ""), spec.get("group", "")
    # a star means all who logged in, not the anonymous, whatever stands beside it
    if "*" in (user, group):
        user, group = "", AUTHENTICATED_GROUP
    return Policy(
        user=user,
        group=group,
        readonly=spec.get("readonly", False),
        api_group=spec.get("apiGroup", ""),
        resource=spec.get("resource", ""),
        namespace=spec.get("namespace", ""),
        path=spec.get("nonResourcePath", ""),
    )


def _oldest(line: dict[str, Any]) -> Policy:
    user, group = line.get("user", ""), line.get("group", "")
    if "*" in (user, group) or not (user or group):
        user, group = "", AUTHENTICATED_GROUP
    namespace, resource = line.get("namespace", ""), line.get("resource", "")
    return Policy(
        user=user,
        group=group,
        readonly=line.get("readonly", False),
        api_group="*",
        resource=resource or "*",
        namespace=namespace or "*",
        path="" if namespace or resource else "*",
    )


_ALLOWED = Decision(Verdict.ALLOW, "", "", "abac")
_NO_MATCH = Decision(Verdict.NO_OPINION, "No policy matched.", "", "abac")
