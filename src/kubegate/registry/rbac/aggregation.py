"""Cluster roles that are gathered from others by label: what their rules should be now.

Follows k8s.io/kubernetes/pkg/controller/clusterroleaggregation. A pure function; `controllers` runs it whenever a
cluster role changes, and applies what it says by server-side apply as `FIELD_MANAGER`, forced.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubegate.api import Object
from kubegate.api.selectors import SelectorError, from_object
from kubegate.authorization.rules import Rule

FIELD_MANAGER = "clusterrole-aggregation-controller"


def gathered(role: Object, roles: Iterable[Object]) -> list[Rule] | None:
    """The rules that an aggregated role should have, None where it is not aggregated.

    Selector by selector, each one's roles in order of name, never the role itself; an equal rule is taken once.
    Raises SelectorError where a stored selector cannot be read.
    """
    aggregation = role.get("aggregationRule")
    if aggregation is None:
        return None
    own = role["metadata"]["name"]
    ordered = sorted(roles, key=lambda each: str(each["metadata"]["name"]))
    rules: list[Rule] = []
    for selector in map(from_object, aggregation.get("clusterRoleSelectors") or ()):
        for each in ordered:
            if each["metadata"]["name"] != own and selector.matches(each["metadata"].get("labels")):
                rules.extend(rule for rule in each.get("rules") or () if rule not in rules)
    return rules


def aggregate(roles: Iterable[Object]) -> dict[str, list[Rule]]:
    """The aggregated roles whose rules are not what they should be: name -> the rules to apply.

    An empty list means to apply the role without `rules`: those that this manager set go, those of others stay, which
    is why a role whose own rules are all that it selects is left alone. One step may make the next one necessary
    (roles gathered from gathered roles): call it again after the changes.
    """
    known = list(roles)
    changes: dict[str, list[Rule]] = {}
    for role in known:
        try:
            wanted = gathered(role, known)
        except SelectorError:
            continue
        if wanted is not None and wanted != list(role.get("rules") or ()):
            changes[role["metadata"]["name"]] = wanted
    return changes


def resolve(roles: Iterable[Object]) -> list[Object]:
    """The roles with all aggregation done, as tools need it that read manifests and have no controller."""
    known = {role["metadata"]["name"]: role for role in roles}
    for _ in range(len(known) + 1):
        changes = {name: rules for name, rules in aggregate(known.values()).items() if rules}
        if not changes:
            break
        known.update({name: {**known[name], "rules": rules} for name, rules in changes.items()})
    return list(known.values())


def applied(name: str, rules: list[Rule]) -> Object:
    """The object to apply for one change."""
    obj: Object = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
    }
    if rules:
        obj["rules"] = [dict(rule) for rule in rules]
    return obj
