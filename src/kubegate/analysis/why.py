"""Why may they, and why not: every binding that grants, or why each that names the subject does not; and what would.

A decision of the RBAC index is one reason; an explanation is all of them. It is worked out from the rules themselves,
so that it may be asked of a server, a cluster or a folder alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from kubegate.analysis.changes import Change, smallest_changes
from kubegate.analysis.questions import resource_text, text_of
from kubegate.analysis.sources import Cluster
from kubegate.analysis.whocan import applies, grants, subject_text
from kubegate.authentication import MASTERS_GROUP
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import SERVICE_ACCOUNT_PREFIX, Binding, Subject
from kubegate.authorization.rules import (
    Rule,
    api_group_matches,
    resource_matches,
    resource_name_matches,
    rule_allows,
    url_matches,
    verb_matches,
)

_SHOWN = 8
_NAMELESS = frozenset({"create", "deletecollection"})
_FAR = {"apiGroup": 3, "resource": 3, "nonResourceURL": 3, "request": 9}
"""How much a problem weighs that is not a matter of one word; the others weigh 1."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A binding that gives it, the subject through which, and the first rule of its role that does."""

    binding: Binding
    subject: Subject
    rule_number: int
    rule: Rule

    def to_dict(self) -> dict[str, Any]:
        return {**_binding(self.binding, self.subject), "rule": {"number": self.rule_number, **self.rule}}


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A binding that names the subject and gives something else: `problems` say, field by field, what does not fit.

    `rule_number` is the role's rule that comes closest (None: the role has none, or does not exist). `system` bindings
    are those that every cluster has.
    """

    binding: Binding
    subject: Subject
    problems: tuple[tuple[str, str], ...]
    rule_number: int | None = None
    system: bool = False

    def to_dict(self) -> dict[str, Any]:
        problems = [{"field": name, "message": text} for name, text in self.problems]
        return {
            **_binding(self.binding, self.subject),
            "closestRule": self.rule_number,
            "problems": problems,
            "system": self.system,
        }


@dataclass(frozen=True, slots=True)
class Lookalike:
    """A binding that would give it to a subject that is written almost as this one."""

    binding: Binding
    subject: Subject
    message: str

    def to_dict(self) -> dict[str, Any]:
        return {**_binding(self.binding, self.subject), "message": self.message}


@dataclass(frozen=True, slots=True)
class Explanation:
    attributes: Attributes
    masters: bool
    grants: tuple[Grant, ...]
    near_misses: tuple[NearMiss, ...]
    lookalikes: tuple[Lookalike, ...]
    changes: tuple[Change, ...]

    @property
    def allowed(self) -> bool:
        return self.masters or bool(self.grants)

    def to_dict(self) -> dict[str, Any]:
        user = self.attributes.user
        return {
            "user": {"name": user.name, "groups": list(user.groups)},
            "question": text_of(self.attributes),
            "allowed": self.allowed,
            "masters": self.masters,
            "grants": [grant.to_dict() for grant in self.grants],
            "nearMisses": [miss.to_dict() for miss in self.near_misses],
            "lookalikes": [each.to_dict() for each in self.lookalikes],
            "changes": [change.to_dict() for change in self.changes],
        }


def explain(cluster: Cluster, attributes: Attributes) -> Explanation:
    """All that there is to say about one question."""
    found: list[Grant] = []
    misses: list[NearMiss] = []
    for binding in bindings_naming(cluster, attributes):
        subject = binding.subject_for(attributes.user)
        if subject is None:
            continue
        number = _granting_rule(binding, attributes)
        if number is not None and applies(binding, attributes):
            rules = binding.role.rules or ()
            found.append(Grant(binding, subject, number, rules[number]))
        else:
            misses.append(replace(_miss(binding, subject, attributes), system=cluster.is_system(binding)))
    masters = MASTERS_GROUP in attributes.user.groups
    if masters or found:
        return Explanation(attributes, masters, tuple(found), (), (), ())
    misses.sort(key=lambda miss: (_distance(miss.problems), miss.binding.name))
    changes = smallest_changes(cluster, attributes)
    return Explanation(attributes, False, (), tuple(misses), tuple(_lookalikes(cluster, attributes)), tuple(changes))


def bindings_naming(cluster: Cluster, attributes: Attributes) -> Iterable[Binding]:
    """All that name the user, one of its groups or its service account, in the cluster and in every namespace."""
    yield from cluster.index.bindings_of(attributes.user)
    for namespace in sorted(cluster.index.namespaces()):
        for binding in cluster.index.bindings_of(attributes.user, namespace):
            if binding.namespace:
                yield binding


def _granting_rule(binding: Binding, attributes: Attributes) -> int | None:
    for number, rule in enumerate(binding.role.rules or ()):
        if rule_allows(rule, attributes):
            return number
    return None


def _miss(binding: Binding, subject: Subject, attributes: Attributes) -> NearMiss:
    problems: list[tuple[str, str]] = []
    if not applies(binding, attributes):
        problems.append(("namespace", _outside(binding, attributes)))
    role = binding.role
    if role.rules is None:
        problems.append(("role", f"{role.kind} {role.name} does not exist"))
        return NearMiss(binding, subject, tuple(problems))
    judged = [(mismatches(rule, attributes), number) for number, rule in enumerate(role.rules)]
    if not judged:
        problems.append(("role", f"{role.kind} {role.name} has no rules"))
        return NearMiss(binding, subject, tuple(problems))
    closest, number = min(judged, key=lambda each: (_distance(each[0]), each[1]))
    return NearMiss(binding, subject, (*problems, *closest), number)


def _distance(problems: tuple[tuple[str, str], ...]) -> int:
    """How far a rule, or a binding, is from granting: one word is near, another kind of thing is far."""
    return sum(_FAR.get(name, 1) for name, _ in problems)


def _outside(binding: Binding, attributes: Attributes) -> str:
    if not attributes.resource_request:
        return f'a RoleBinding gives no paths (it reaches namespace "{binding.namespace}" alone)'
    if not attributes.namespace:
        return f'it reaches namespace "{binding.namespace}" alone, and this is about the whole cluster'
    return f'it reaches namespace "{binding.namespace}", not "{attributes.namespace}"'


def mismatches(rule: Rule, attributes: Attributes) -> tuple[tuple[str, str], ...]:
    """What of the rule does not fit the request: (field, words)."""
    problems: list[tuple[str, str]] = []
    if attributes.resource_request and not rule.get("resources"):
        return (("request", "the rule is about paths, not resources"),)
    if not attributes.resource_request and not rule.get("nonResourceURLs"):
        return (("request", "the rule is about resources, not paths"),)
    if not verb_matches(rule, attributes.verb):
        problems.append(("verb", f"{_list(rule.get('verbs'))}, not {attributes.verb}"))
    if not attributes.resource_request:
        if not url_matches(rule, attributes.path):
            problems.append(("nonResourceURL", f"{_list(rule.get('nonResourceURLs'))}, not {attributes.path}"))
        return tuple(problems)
    if not api_group_matches(rule, attributes.api_group):
        problems.append(("apiGroup", f"{_groups(rule.get('apiGroups'))}, not {_groups([attributes.api_group])}"))
    if not resource_matches(rule, attributes.resource, attributes.subresource):
        problems.append(("resource", _resource_problem(rule, attributes)))
    if not resource_name_matches(rule, attributes.name):
        problems.append(("resourceName", _name_problem(rule, attributes)))
    return tuple(problems)


def _resource_problem(rule: Rule, attributes: Attributes) -> str:
    wanted = resource_text(attributes).replace(f".{attributes.api_group}", "") if attributes.api_group else None
    wanted = wanted or resource_text(attributes)
    text = f"{_list(rule.get('resources'))}, not {wanted}"
    if attributes.subresource and attributes.resource in (rule.get("resources") or ()):
        return f"{text} ({attributes.resource} does not include its subresources)"
    if not attributes.subresource and any(
        each.startswith(f"{attributes.resource}/") for each in rule.get("resources") or ()
    ):
        return f"{text} (a subresource does not include {attributes.resource})"
    return text


def _name_problem(rule: Rule, attributes: Attributes) -> str:
    names = _list(rule.get("resourceNames"))
    if attributes.name:
        return f"{names}, not {attributes.name}"
    if attributes.verb in _NAMELESS:
        return f"{names}, and {attributes.verb} names nothing, so that a rule with names never allows it"
    return f"{names}, and the request names none (list and watch do with --field-selector=metadata.name=NAME)"


def _list(values: Iterable[str] | None) -> str:
    shown = list(values or ())
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return (", ".join(text or '""' for text in shown[:_SHOWN]) or "nothing") + more


def _groups(values: Iterable[str] | None) -> str:
    return _list('""' if group == "" else group for group in values or ())


def _lookalikes(cluster: Cluster, attributes: Attributes) -> Iterable[Lookalike]:
    """Bindings that would allow it, were the subject not of another kind or written a little differently."""
    user = attributes.user
    names = {"User": {user.name}, "Group": set(user.groups)}
    if user.name.startswith(SERVICE_ACCOUNT_PREFIX):
        names["ServiceAccount"] = {user.name.rpartition(":")[2]}
    folded = {_fold(name): (kind, name) for kind, of_kind in names.items() for name in of_kind}
    granting = {role for role in cluster.index.roles() if grants(role, attributes)}
    for binding in cluster.index.bindings():
        if binding.role not in granting or not applies(binding, attributes):
            continue
        for subject in binding.subjects:
            kind, name, _ = subject
            meant = folded.get(_fold(name))
            if meant is None:
                continue
            named = subject_text(subject, binding.namespace)
            if kind != meant[0]:
                text = f"it names {named}, and {name} is a {meant[0]} here"
            elif kind == "ServiceAccount" and name == meant[1]:
                text = f"it names {named}, which is another namespace's"
            else:
                text = f'it names {named}, not "{meant[1]}", letter by letter'
            yield Lookalike(binding, subject, text)


def _fold(name: str) -> str:
    return name.strip().lower()


def _binding(binding: Binding, subject: Subject) -> dict[str, Any]:
    found: dict[str, Any] = {
        "binding": {"kind": binding.kind, "name": binding.name},
        "role": {"kind": binding.role.kind, "name": binding.role.name},
        "subject": subject_text(subject, binding.namespace),
    }
    if binding.namespace:
        found["binding"]["namespace"] = binding.namespace
    return found
