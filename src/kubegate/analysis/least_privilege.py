"""The smallest roles that cover what somebody did, of an audit log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kubegate.analysis.auditlog import Recorded
from kubegate.analysis.changes import exact_rule
from kubegate.analysis.subjects import ordered_verbs
from kubegate.api import Object
from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import GROUP, SERVICE_ACCOUNT_PREFIX

_NAMELESS = frozenset({"create", "deletecollection", "list", "watch"})
DEFAULT_NAMES = 5


@dataclass(slots=True)
class Used:
    """What a subject used, by scope ("" the whole cluster): (group, resource) -> verb -> names, and path -> verbs."""

    requests: int = 0
    resources: dict[str, dict[tuple[str, str], dict[str, set[str]]]] = field(default_factory=dict)
    paths: dict[str, set[str]] = field(default_factory=dict)

    def add(self, attributes: Attributes) -> None:
        self.requests += 1
        if not attributes.resource_request:
            self.paths.setdefault(attributes.path, set()).add(attributes.verb)
            return
        resource = exact_rule(attributes)["resources"][0]
        verbs = self.resources.setdefault(attributes.namespace, {}).setdefault((attributes.api_group, resource), {})
        verbs.setdefault(attributes.verb, set()).add(attributes.name)


def used_by(user: UserInfo, requests: Iterable[Recorded], *, refused: bool = False) -> Used:
    """What the user of this name was allowed to do; with `refused`, what it tried as well."""
    found = Used()
    for request in requests:
        if request.attributes.user.name == user.name and (refused or request.allowed is not False):
            found.add(request.attributes)
    return found


def roles_for(user: UserInfo, used: Used, name: str, *, max_names: int = DEFAULT_NAMES) -> list[Object]:
    """Roles and bindings, ready to apply, that give what was used and nothing else.

    A verb is narrowed to names where every use of it named an object, and there were at most `max_names` of them.
    Namespaces in which the same was used share one ClusterRole.
    """
    objects: list[Object] = []
    cluster = _rules(used.resources.get("", {}), max_names) + _path_rules(used.paths)
    if cluster:
        objects += _pair("ClusterRole", name, "", cluster, user, [""])
    shared: dict[str, tuple[list[Object], list[str]]] = {}
    for namespace in sorted(used.resources.keys() - {""}):
        rules = _rules(used.resources[namespace], max_names)
        shared.setdefault(repr(rules), (rules, []))[1].append(namespace)
    for number, (rules, namespaces) in enumerate(shared.values()):
        if len(namespaces) == 1:
            objects += _pair("Role", name, namespaces[0], rules, user, namespaces)
        else:
            suffix = "namespaced" if number == 0 else f"namespaced-{number + 1}"
            objects += _pair("ClusterRole", f"{name}-{suffix}", "", rules, user, namespaces)
    return objects


def _rules(resources: dict[tuple[str, str], dict[str, set[str]]], max_names: int) -> list[Object]:
    """As few rules as say exactly this: resources with equal verbs together, then groups with equal resources."""
    by_verbs: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (group, resource), verbs in sorted(resources.items()):
        by_names: dict[tuple[str, ...], list[str]] = {}
        for verb, names in verbs.items():
            by_names.setdefault(_narrowed(verb, names, max_names), []).append(verb)
        for chosen, of_names in by_names.items():
            by_verbs.setdefault((group, tuple(ordered_verbs(of_names)), chosen), []).append(resource)
    by_resources: dict[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (group, verb_list, chosen), same in by_verbs.items():
        by_resources.setdefault((tuple(same), verb_list, chosen), []).append(group)
    rules = []
    for (same_resources, verb_list, chosen), groups in by_resources.items():
        rule: Object = {"apiGroups": groups, "resources": list(same_resources), "verbs": list(verb_list)}
        if chosen:
            rule["resourceNames"] = list(chosen)
        rules.append(rule)
    return rules


def _narrowed(verb: str, names: set[str], max_names: int) -> tuple[str, ...]:
    if verb in _NAMELESS or "" in names or len(names) > max_names:
        return ()
    return tuple(sorted(names))


def _path_rules(paths: dict[str, set[str]]) -> list[Object]:
    by_verbs: dict[tuple[str, ...], list[str]] = {}
    for path, verbs in sorted(paths.items()):
        by_verbs.setdefault(tuple(ordered_verbs(verbs)), []).append(path)
    return [{"nonResourceURLs": same, "verbs": list(verbs)} for verbs, same in by_verbs.items()]


def _pair(kind: str, name: str, namespace: str, rules: list[Object], user: UserInfo, scopes: list[str]) -> list[Object]:
    """A role, and a binding of it in each scope ("" binds it in the whole cluster)."""
    version = f"{GROUP}/v1"
    made: list[Object] = [{"apiVersion": version, "kind": kind, "metadata": _metadata(name, namespace), "rules": rules}]
    for scope in scopes:
        made.append(
            {
                "apiVersion": version,
                "kind": "RoleBinding" if scope else "ClusterRoleBinding",
                "metadata": _metadata(name, scope),
                "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name},
                "subjects": [_subject(user)],
            }
        )
    return made


def _subject(user: UserInfo) -> dict[str, Any]:
    if user.name.startswith(SERVICE_ACCOUNT_PREFIX):
        namespace, _, name = user.name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
        return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    return {"apiGroup": GROUP, "kind": "User", "name": user.name}


def _metadata(name: str, namespace: str) -> Object:
    return {"name": name, "namespace": namespace} if namespace else {"name": name}
