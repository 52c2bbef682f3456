"""What one PolicyRule says: does it allow this, does it cover that. Plain functions over rules as JSON.

Follows k8s.io/kubernetes/pkg/apis/rbac/v1 (helpers) and k8s.io/component-helpers/auth/rbac/validation. The index in
`rbac` decides the same from compiled rules; here is what escalation checks and explanations work with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kubegate.api.field import quoted_list
from kubegate.authorization import Attributes

Rule = Mapping[str, Any]
"""A PolicyRule as decoded JSON; any of its lists may be missing or null."""

ALL = "*"
FULL_AUTHORITY: tuple[Rule, ...] = (
    {"verbs": [ALL], "apiGroups": [ALL], "resources": [ALL]},
    {"verbs": [ALL], "nonResourceURLs": [ALL]},
)
"""What cluster-admin holds, and what setting an aggregationRule needs."""


def verb_matches(rule: Rule, verb: str) -> bool:
    verbs = rule.get("verbs") or ()
    return ALL in verbs or verb in verbs


def api_group_matches(rule: Rule, group: str) -> bool:
    groups = rule.get("apiGroups") or ()
    return ALL in groups or group in groups


def resource_matches(rule: Rule, resource: str, subresource: str) -> bool:
    """`pods`, `pods/log`, `*` (everything, subresources too) and `*/log` (that subresource of everything)."""
    resources = rule.get("resources") or ()
    if ALL in resources:
        return True
    if not subresource:
        return resource in resources
    return f"{resource}/{subresource}" in resources or f"*/{subresource}" in resources


def resource_name_matches(rule: Rule, name: str) -> bool:
    names = rule.get("resourceNames") or ()
    return not names or name in names


def url_matches(rule: Rule, path: str) -> bool:
    """Whole paths; a trailing `*` makes a prefix of what stands before it. A `*` elsewhere is an ordinary character."""
    return any(url_covers(url, path) for url in rule.get("nonResourceURLs") or ())


def url_covers(owner: str, path: str) -> bool:
    return owner == path or (owner.endswith(ALL) and path.startswith(owner.rstrip(ALL)))


def rule_allows(rule: Rule, attributes: Attributes) -> bool:
    if not verb_matches(rule, attributes.verb):
        return False
    if not attributes.resource_request:
        return url_matches(rule, attributes.path)
    return (
        api_group_matches(rule, attributes.api_group)
        and resource_matches(rule, attributes.resource, attributes.subresource)
        and resource_name_matches(rule, attributes.name)
    )


def breakdown(rule: Rule) -> Iterator[Rule]:
    """The rule as rules of one group, one resource, one verb and at most one name each (or one URL and one verb).

    A rule of a few kilobytes may have many millions of them.
    """
    names = rule.get("resourceNames") or ()
    verbs = rule.get("verbs") or ()
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in verbs:
                part = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
                if not names:
                    yield part
                for name in names:
                    yield {**part, "resourceNames": [name]}
    for url in rule.get("nonResourceURLs") or ():
        for verb in verbs:
            yield {"verbs": [verb], "nonResourceURLs": [url]}


def covers(owner: Iterable[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """What of `wanted` the `owner` rules do not cover, broken down; empty where they cover all of it.

    Each smallest part must be covered by a single rule, which is exact because parts cannot be divided further.
    Nothing is expanded: `*` is covered by `*` alone, never by a list of all that it could mean. No more than
    MOST_MISSING parts are given, and a rule that would take too long to compare counts as not covered.
    """
    held = [_Held(rule) for rule in owner]
    missing: list[Rule] = []
    left = _MOST_COMPARISONS
    for rule in wanted:
        if any(each.covers_whole(rule) for each in held):
            continue
        for part in breakdown(rule):
            left -= len(held) + 1
            if left < 0 or len(missing) >= MOST_MISSING:
                return missing or [rule]
            if not any(each.covers(part) for each in held):
                missing.append(part)
    return missing


MOST_MISSING = 10_000
_MOST_COMPARISONS = 3_000_000
"""Of smallest parts with held rules, in one question: about a second."""


class _Held:
    """A rule that somebody holds, ready to be compared with many parts."""

    __slots__ = ("groups", "names", "resources", "urls", "verbs")

    def __init__(self, rule: Rule) -> None:
        self.verbs = frozenset(rule.get("verbs") or ())
        self.groups = frozenset(rule.get("apiGroups") or ())
        self.resources = frozenset(rule.get("resources") or ())
        self.names = frozenset(rule.get("resourceNames") or ())
        self.urls = tuple(rule.get("nonResourceURLs") or ())

    def covers_whole(self, rule: Rule) -> bool:
        """Whether this rule alone covers every part of the other; where it does not, several may."""
        if ALL not in self.verbs and not self.verbs.issuperset(rule.get("verbs") or ()):
            return False
        if self.names or (rule.get("nonResourceURLs") and ALL not in self.urls):
            return False
        if not rule.get("resources"):
            return True
        if ALL not in self.groups and not self.groups.issuperset(rule.get("apiGroups") or ()):
            return False
        return ALL in self.resources or self.resources.issuperset(rule["resources"])

    def covers(self, part: Rule) -> bool:
        if ALL not in self.verbs and part["verbs"][0] not in self.verbs:
            return False
        if "nonResourceURLs" in part:
            return not self.names and any(url_covers(url, part["nonResourceURLs"][0]) for url in self.urls)
        if ALL not in self.groups and part["apiGroups"][0] not in self.groups:
            return False
        if self.names and ("resourceNames" not in part or part["resourceNames"][0] not in self.names):
            return False
        resource = part["resources"][0]
        if ALL in self.resources or resource in self.resources:
            return True
        _, slash, subresource = resource.partition("/")
        return bool(slash) and f"*/{subresource}" in self.resources


def compact(parts: Sequence[Rule]) -> list[Rule]:
    """Parts of the same group, resource and name as one rule with all their verbs; URL rules stay as they are."""
    simple: dict[tuple[str, str, str | None], dict[str, Any]] = {}
    others: list[Rule] = []
    for part in parts:
        if part.get("nonResourceURLs"):
            others.append(part)
            continue
        names = part.get("resourceNames")
        key = (part["apiGroups"][0], part["resources"][0], names[0] if names else None)
        known = simple.setdefault(key, {**part, "verbs": {}})
        known["verbs"].update(dict.fromkeys(part["verbs"]))
    return [*others, *({**rule, "verbs": list(rule["verbs"])} for rule in simple.values())]


# The order in which a rule's lists are written in texts.
_SHOWN = (
    ("apiGroups", "APIGroups"),
    ("resources", "Resources"),
    ("nonResourceURLs", "NonResourceURLs"),
    ("resourceNames", "ResourceNames"),
    ("verbs", "Verbs"),
)


def compact_string(rule: Rule) -> str:
    """`{APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}`, as escalation errors print a rule."""
    shown = (f"{label}:{quoted_list(rule[key])}" for key, label in _SHOWN if rule.get(key))
    return "{" + ", ".join(shown) + "}"
