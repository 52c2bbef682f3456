"""The audit policy: which requests are logged, and how much of each. Read from an audit.k8s.io/v1 Policy file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubegate.api import Object, codec, field
from kubegate.api.field import FieldError
from kubegate.api.names import is_dns1123_subdomain
from kubegate.api.spelling import did_you_mean
from kubegate.server.call import Call
from kubegate.server.options import UsageError

_API_VERSION = "audit.k8s.io/v1"
_LEVELS = ("None", "Metadata", "Request", "RequestResponse")
_STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
_POLICY_FIELDS = ("apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields")
_RULE_FIELDS = (
    "level",
    "users",
    "userGroups",
    "verbs",
    "resources",
    "namespaces",
    "nonResourceURLs",
    "omitStages",
    "omitManagedFields",
)
_RESOURCES_FIELDS = ("group", "resources", "resourceNames")


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
    """An audit.k8s.io/v1 Policy. Raises UsageError that names the file and each place in it that is wrong.

    A field that nobody would read is refused: a misspelt one would make its rule match everything. kube-apiserver
    warns of it and goes on.
    """
    try:
        document, duplicates = codec.decode_yaml(path.read_bytes())
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    except codec.DecodeError as error:
        raise _refused(path, f"not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(document, dict) or document.get("kind") != "Policy":
        raise _refused(path, f"expected kind: Policy of apiVersion: {_API_VERSION}")
    if document.get("apiVersion") != _API_VERSION:
        raise _refused(path, f"apiVersion: {document.get('apiVersion')!r}; expected {_API_VERSION}")
    reader = _Reader()
    policy = reader.policy(document)
    if duplicates or reader.unknown:
        raise _refused(path, f"strict decoding error: {', '.join([*duplicates, *reader.unknown])}")
    if reader.errors:
        raise _refused(path, "; ".join(map(str, reader.errors)))
    if not policy.rules:
        raise _refused(path, "rules: loaded illegal policy with 0 rules")
    return policy


def _refused(path: Path, text: str) -> UsageError:
    return UsageError(f"--audit-policy-file: {path}: {text}")


class _Reader:
    """Reads the document and gathers what is wrong in it, as k8s.io/apiserver/pkg/apis/audit/validation tells it."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.errors: list[FieldError] = []

    def policy(self, document: Object) -> Policy:
        found = self._object(document, "", _POLICY_FIELDS)
        self._object(found.get("metadata"), "metadata", None)
        omitted = self._stages(found, "")
        omit_fields = self._truth(found, "omitManagedFields", "") or False
        rules = self._list(found.get("rules"), "rules")
        return Policy(tuple(self._rule(rule, f"rules[{at}]", omitted, omit_fields) for at, rule in enumerate(rules)))

    def _rule(self, given: Any, path: str, omitted: frozenset[str], omit_fields: bool) -> Rule:
        rule = self._object(given, path, _RULE_FIELDS)
        level = rule.get("level") or ""
        if not level:
            self.errors.append(field.required(f"{path}.level"))
        elif level not in _LEVELS:
            self.errors.append(field.not_supported(f"{path}.level", level, _LEVELS))
        urls = self._texts(rule, "nonResourceURLs", path)
        self._check_urls(urls, f"{path}.nonResourceURLs")
        entries = self._list(rule.get("resources"), f"{path}.resources")
        resources = tuple(self._resources(entry, f"{path}.resources[{at}]") for at, entry in enumerate(entries))
        namespaces = self._texts(rule, "namespaces", path)
        omitted = omitted | self._stages(rule, path)
        if urls and (resources or namespaces):
            text = "rules cannot apply to both regular resources and non-resource URLs"
            self.errors.append(field.invalid(f"{path}.nonResourceURLs", urls, text))
        omit_here = self._truth(rule, "omitManagedFields", path)
        return Rule(
            level=str(level),
            users=frozenset(self._texts(rule, "users", path)),
            groups=frozenset(self._texts(rule, "userGroups", path)),
            verbs=frozenset(self._texts(rule, "verbs", path)),
            namespaces=frozenset(namespaces),
            resources=resources,
            urls=tuple(urls),
            omit_stages=omitted,
            omit_managed_fields=omit_fields if omit_here is None else omit_here,
        )

    def _check_urls(self, urls: list[str], path: str) -> None:
        for position, url in enumerate(urls):
            if url == "*":
                continue
            where = field.index(path, position)
            if not url.startswith("/"):
                text = "non-resource URL rules must begin with a '/' character"
                self.errors.append(field.invalid(where, url, text))
            if "*" in url[:-1]:
                text = "non-resource URL wildcards '*' must be the final character of the rule"
                self.errors.append(field.invalid(where, url, text))

    def _resources(self, given: Any, path: str) -> tuple[str, tuple[str, ...], frozenset[str]]:
        """The group, the resources and the names of one entry of a rule's resources."""
        entry = self._object(given, path, _RESOURCES_FIELDS)
        group = self._text(entry, "group", path)
        problems = is_dns1123_subdomain(group) if group else []
        if problems:
            self.errors.append(field.invalid(f"{path}.group", group, ",".join(problems)))
        resources, names = self._texts(entry, "resources", path), self._texts(entry, "resourceNames", path)
        if names and not resources:
            text = "using resourceNames requires at least one resource"
            self.errors.append(field.invalid(f"{path}.resourceNames", names, text))
        return group, tuple(resources), frozenset(names)

    def _stages(self, mapping: Object, path: str) -> frozenset[str]:
        names = self._texts(mapping, "omitStages", path)
        for position, name in enumerate(names):
            if name not in _STAGES:
                where = field.index(field.child(path, "omitStages"), position)
                self.errors.append(field.invalid(where, name, f"allowed stages are {','.join(_STAGES)}"))
        return frozenset(names)

    # ------------------------------------------------------------------ shapes
    def _object(self, value: Any, path: str, known: Sequence[str] | None) -> Object:
        if value is not None and not isinstance(value, dict):
            self.errors.append(field.invalid(path, value, "must be an object"))
            return {}
        for name in value or ():
            if known is not None and name not in known:
                self.unknown.append(f'unknown field "{field.child(path, name)}"{did_you_mean(name, known)}')
        return value or {}

    def _list(self, value: Any, path: str) -> list[Any]:
        if value is not None and not isinstance(value, list):
            self.errors.append(field.invalid(path, value, "must be a list"))
            return []
        return value or []

    def _texts(self, mapping: Object, name: str, path: str) -> list[str]:
        path = field.child(path, name)
        found = self._list(mapping.get(name), path)
        wrong = [at for at, value in enumerate(found) if not isinstance(value, str)]
        self.errors += [field.invalid(field.index(path, at), found[at], "must be a text") for at in wrong]
        return [] if wrong else found

    def _text(self, mapping: Object, name: str, path: str) -> str:
        value = mapping.get(name)
        if value is not None and not isinstance(value, str):
            self.errors.append(field.invalid(field.child(path, name), value, "must be a text"))
            return ""
        return value or ""

    def _truth(self, mapping: Object, name: str, path: str) -> bool | None:
        value = mapping.get(name)
        if value is not None and not isinstance(value, bool):
            self.errors.append(field.invalid(field.child(path, name), value, "must be true or false"))
            return None
        return value
