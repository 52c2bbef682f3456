"""What each subject holds: lookup, rolesum, matrix and policy rules are views of the same list of grants."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubegate.analysis.sources import Cluster
from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import Binding, Role
from kubegate.authorization.rules import Rule, rule_allows

STANDARD_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True, slots=True)
class Holding:
    """A subject and one binding that names it. `namespace` is a service account's; `scope` "" is the whole cluster."""

    kind: str
    name: str
    namespace: str
    scope: str
    binding: Binding

    @property
    def role(self) -> Role:
        return self.binding.role

    @property
    def label(self) -> str:
        """`alice`, `ns/name` for service accounts."""
        return f"{self.namespace}/{self.name}" if self.kind == "ServiceAccount" else self.name

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "subject": {"kind": self.kind, "name": self.name},
            "scope": self.scope or "cluster",
            "role": {"kind": self.role.kind, "name": self.role.name},
            "binding": {"kind": self.binding.kind, "name": self.binding.name},
        }
        if self.namespace:
            found["subject"]["namespace"] = self.namespace
        if self.role.rules is None:
            found["role"]["missing"] = True
        return found


def holdings(cluster: Cluster, *, system: bool = True) -> Iterator[Holding]:
    """Every subject of every binding; without those of every cluster's own bindings where not `system`."""
    for binding in cluster.index.bindings():
        if not system and cluster.is_system(binding):
            continue
        for kind, name, namespace in binding.subjects:
            home = (namespace or binding.namespace) if kind == "ServiceAccount" else ""
            yield Holding(kind, name, home, binding.namespace, binding)


def _order(holding: Holding) -> tuple[str, ...]:
    return holding.kind, holding.label, holding.scope, holding.binding.name


def lookup(cluster: Cluster, pattern: str = "", *, regex: bool = False, kind: str = "") -> list[Holding]:
    """Bindings of the subjects with this name (NAMESPACE/NAME or NAMESPACE:NAME for one service account's), or whose
    name a regular expression is found in; all of them where no name is given. Raises re.error.
    """
    wanted = re.compile(pattern) if regex else None

    def chosen(holding: Holding) -> bool:
        if kind and holding.kind != kind:
            return False
        if wanted is not None:
            return bool(wanted.search(holding.name))
        full = f"system:serviceaccount:{holding.namespace}:{holding.name}"
        names = (holding.name, holding.label, holding.label.replace("/", ":"), full)
        return not pattern or pattern in names

    return sorted((each for each in holdings(cluster) if chosen(each)), key=_order)


@dataclass(slots=True)
class Line:
    """One line of a role summary: verbs on a resource (or path), of all names or of one."""

    resource: str
    name: str
    verbs: set[str] = field(default_factory=set)

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"resource": self.resource, "verbs": ordered_verbs(self.verbs)}
        if self.name != "*":
            found["name"] = self.name
        return found


@dataclass(slots=True)
class Summary:
    """What a user holds in one scope ("" the whole cluster), through which bindings."""

    scope: str
    bindings: list[Binding] = field(default_factory=list)
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)

    def add(self, rule: Rule) -> None:
        names = rule.get("resourceNames") or ("*",)
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                for name in names:
                    self._line(qualified(resource, group), name).verbs.update(rule.get("verbs") or ())
        for url in rule.get("nonResourceURLs") or ():
            self._line(url, "*").verbs.update(rule.get("verbs") or ())

    def _line(self, resource: str, name: str) -> Line:
        return self.lines.setdefault((resource, name), Line(resource, name))

    def to_dict(self) -> dict[str, Any]:
        bindings = [{"binding": b.name, "role": b.role.name, "missing": b.role.rules is None} for b in self.bindings]
        lines = [self.lines[key].to_dict() for key in sorted(self.lines)]
        return {"scope": self.scope or "cluster", "bindings": bindings, "permissions": lines}


def rolesum(cluster: Cluster, user: UserInfo) -> list[Summary]:
    """What a user (with its groups) holds, scope by scope: the whole cluster first, then namespaces by name."""
    found = []
    for scope in ("", *sorted(cluster.index.namespaces())):
        summary = Summary(scope)
        for binding in cluster.index.bindings_of(user, scope):
            if binding.namespace == scope:
                summary.bindings.append(binding)
                for rule in binding.role.rules or ():
                    # paths are not in any namespace
                    summary.add(rule if not scope else {**rule, "nonResourceURLs": ()})
        if summary.bindings:
            found.append(summary)
    return found


@dataclass(frozen=True, slots=True)
class PolicyLine:
    """One rule of one subject, one resource (or path) a line; `namespace` is where it holds ("*": everywhere)."""

    kind: str
    subject: str
    namespace: str
    api_group: str
    resource: str
    names: tuple[str, ...]
    path: str
    verbs: tuple[str, ...]
    origin: str

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": self.kind, "subject": self.subject, "verbs": list(self.verbs)}
        if self.path:
            found["nonResourceURL"] = self.path
        else:
            found |= {"namespace": self.namespace, "apiGroup": self.api_group, "resource": self.resource}
        if self.names:
            found["resourceNames"] = list(self.names)
        found["origin"] = self.origin
        return found


def policy_rules(cluster: Cluster, chosen: Sequence[Holding]) -> Iterator[PolicyLine]:
    """The rules behind holdings, each with the role and binding that it comes from."""
    for holding in chosen:
        role = holding.role
        origin = f"{role.kind} {role.name} through {holding.binding.kind} {holding.binding.name}"
        for rule in role.rules or ():
            verbs = tuple(ordered_verbs(rule.get("verbs") or ()))
            names = tuple(rule.get("resourceNames") or ())
            scope = holding.scope or "*"
            for group in rule.get("apiGroups") or ():
                for resource in rule.get("resources") or ():
                    yield PolicyLine(holding.kind, holding.label, scope, group, resource, names, "", verbs, origin)
            if not holding.scope:
                for url in rule.get("nonResourceURLs") or ():
                    yield PolicyLine(holding.kind, holding.label, "", "", "", (), url, verbs, origin)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Subjects by resources; a cell is the verbs that a subject has on a resource in `namespace` ("": everywhere)."""

    namespace: str
    resources: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[tuple[str, ...], ...]], ...]
    """Kind and label of each subject, and its verbs for each resource."""

    def to_dict(self) -> dict[str, Any]:
        rows = [
            {"kind": kind, "subject": label, "verbs": dict(zip(self.resources, map(list, cells), strict=True))}
            for kind, label, cells in self.rows
        ]
        return {"namespace": self.namespace or None, "resources": list(self.resources), "rows": rows}


def matrix(cluster: Cluster, resources: Sequence[Attributes], namespace: str = "", *, system: bool = False) -> Matrix:
    """For each subject of a binding that reaches `namespace`, its verbs on each of `resources` (see `questions`).

    A subject is judged by the bindings that name it, not by groups that it may be in. Subjects without any are left
    out. Verbs are the standard ones, and others that rules name.
    """
    from kubegate.analysis.questions import resource_text

    subjects: dict[tuple[str, str], list[Binding]] = {}
    for holding in holdings(cluster, system=system):
        if holding.scope in ("", namespace):
            subjects.setdefault((holding.kind, holding.label), []).append(holding.binding)
    verbs_of: dict[tuple[Role, int], tuple[str, ...]] = {}
    rows = []
    for (kind, label), bindings in sorted(subjects.items()):
        cells = []
        for place, attributes in enumerate(resources):
            verbs: set[str] = set()
            for role in dict.fromkeys(binding.role for binding in bindings):
                known = verbs_of.get((role, place))
                if known is None:
                    known = verbs_of[(role, place)] = _verbs_on(role, attributes)
                verbs.update(known)
            cells.append(tuple(ordered_verbs(verbs)))
        if any(cells):
            rows.append((kind, label, tuple(cells)))
    return Matrix(namespace, tuple(resource_text(each) for each in resources), tuple(rows))


def _verbs_on(role: Role, attributes: Attributes) -> tuple[str, ...]:
    found: set[str] = set()
    for rule in role.rules or ():
        if rule_allows({**rule, "verbs": ["*"]}, attributes):
            verbs = rule.get("verbs") or ()
            found.update(STANDARD_VERBS if "*" in verbs else verbs)
    return tuple(found)


def qualified(resource: str, group: str) -> str:
    """`deployments.apps`, `deployments.apps/scale`; `*.*` for everything of every group."""
    if not group:
        return resource
    name, slash, subresource = resource.partition("/")
    return f"{name}.{group}{slash}{subresource}"


def ordered_verbs(verbs: Sequence[str] | set[str]) -> list[str]:
    """The standard ones in their usual order, then others by name."""
    standard = [verb for verb in STANDARD_VERBS if verb in verbs]
    return [*(["*"] if "*" in verbs else []), *standard, *sorted(set(verbs) - set(standard) - {"*"})]
