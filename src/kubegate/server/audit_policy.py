"""The audit policy: which requests are logged, and how much of each. Read from an audit.k8s.io/v1 Policy file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubegate.api.names import is_dns1123_subdomain
from kubegate.server.call import Call
from kubegate.server.options import UsageError

_LEVELS = ("None", "Metadata", "Request", "RequestResponse")
_STAGES = frozenset({"RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of an audit Policy; an empty tuple of a criterion matches everything."""

    level: str
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    namespaces: frozenset[str]
    resources: tuple[tuple[str, tuple[str, ...], frozenset[str]], ...]
    urls: tuple[str, ...]
    omit_stages: frozenset[str]
    omit_managed_fields: bool

    def matches(self, call: Call) -> bool:
        user, info = call.authenticated_user, call.info
        if self.users and user.name not in self.users:
            return False
        if self.groups and self.groups.isdisjoint(user.groups):
            return False
        if self.verbs and info.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            if not info.resource_request or (self.namespaces and info.namespace not in self.namespaces):
                return False
            return not self.resources or any(self._resource_matches(call, *entry) for entry in self.resources)
        if self.urls:
            return not info.resource_request and any(_url_matches(pattern, call.path) for pattern in self.urls)
        return True

    def _resource_matches(self, call: Call, group: str, resources: tuple[str, ...], names: frozenset[str]) -> bool:
        """`pods` is the resource alone, `pods/*` it and its subresources, `*` everything of the group."""
        info = call.info
        if group != info.group:
            return False
        if not resources:
            return True
        if names and info.name not in names:
            return False
        wanted = {"*", f"{info.resource}/*"}
        wanted |= (
            {f"{info.resource}/{info.subresource}", f"*/{info.subresource}"} if info.subresource else {info.resource}
        )
        return not wanted.isdisjoint(resources)


def _url_matches(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


@dataclass(frozen=True, slots=True)
class Policy:
    """The first rule that matches decides; without one nothing is logged."""

    rules: tuple[Rule, ...]

    def rule_for(self, call: Call) -> Rule | None:
        for rule in self.rules:
            if rule.matches(call):
                return rule if rule.level != "None" else None
        return None


def read_policy(path: Path) -> Policy:
    """An audit.k8s.io/v1 Policy. Raises UsageError that names the file and the place in it."""
    import yaml

    from kubegate.api import yamlcodec

    try:
        document = yamlcodec.load(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--audit-policy-file: {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"--audit-policy-file: {path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(document, dict) or document.get("kind") != "Policy":
        raise UsageError(f"--audit-policy-file: {path}: expected kind: Policy of apiVersion: audit.k8s.io/v1")
    if document.get("apiVersion") != "audit.k8s.io/v1":
        found = document.get("apiVersion")
        raise UsageError(f"--audit-policy-file: {path}: apiVersion: {found!r}; expected audit.k8s.io/v1")
    rules = document.get("rules")
    if not isinstance(rules, list) or not rules:
        raise UsageError(f"--audit-policy-file: {path}: rules: at least one rule is expected")
    omitted = _stages(document.get("omitStages") or [], f"{path}: omitStages")
    omit_fields = bool(document.get("omitManagedFields"))
    return Policy(tuple(_rule(r, f"{path}: rules[{i}]", omitted, omit_fields) for i, r in enumerate(rules)))


def _rule(rule: Any, place: str, omitted: frozenset[str], omit_fields: bool) -> Rule:
    if not isinstance(rule, dict):
        raise UsageError(f"--audit-policy-file: {place}: expected a mapping")
    level = rule.get("level")
    if level not in _LEVELS:
        raise UsageError(f"--audit-policy-file: {place}.level: {level!r}; expected one of {', '.join(_LEVELS)}")
    resources = tuple(
        _resources(entry, f"{place}.resources[{number}]") for number, entry in enumerate(rule.get("resources") or [])
    )
    urls = tuple(rule.get("nonResourceURLs") or ())
    if urls and (resources or rule.get("namespaces")):
        raise UsageError(
            f"--audit-policy-file: {place}.nonResourceURLs: "
            "rules cannot apply to both regular resources and non-resource URLs"
        )
    for url in urls:
        if not isinstance(url, str) or (url != "*" and (not url.startswith("/") or "*" in url[:-1])):
            raise UsageError(
                f"--audit-policy-file: {place}.nonResourceURLs: {url!r}; expected a path that begins with '/', "
                "with a wildcard '*' as its last character alone"
            )
    return Rule(
        level=level,
        users=frozenset(rule.get("users") or ()),
        groups=frozenset(rule.get("userGroups") or ()),
        verbs=frozenset(rule.get("verbs") or ()),
        namespaces=frozenset(rule.get("namespaces") or ()),
        resources=resources,
        urls=urls,
        omit_stages=omitted | _stages(rule.get("omitStages") or [], f"{place}.omitStages"),
        omit_managed_fields=bool(rule.get("omitManagedFields", omit_fields)),
    )


def _resources(entry: Any, place: str) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """The group, the resources and the names of one entry of a rule's resources."""
    if not isinstance(entry, dict):
        raise UsageError(f"--audit-policy-file: {place}: expected a mapping")
    group, resources, names = entry.get("group") or "", entry.get("resources") or (), entry.get("resourceNames") or ()
    if group and (not isinstance(group, str) or is_dns1123_subdomain(group)):
        raise UsageError(f"--audit-policy-file: {place}.group: {group!r}; expected the name of one API group")
    if names and not resources:
        raise UsageError(f"--audit-policy-file: {place}.resourceNames: at least one resource is expected with names")
    return group, tuple(resources), frozenset(names)


def _stages(names: Sequence[str], place: str) -> frozenset[str]:
    for name in names:
        if name not in _STAGES:
            raise UsageError(f"--audit-policy-file: {place}: {name!r}; expected of {', '.join(sorted(_STAGES))}")
    return frozenset(names)
