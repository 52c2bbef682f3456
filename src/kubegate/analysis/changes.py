"""The smallest change that would allow something: a new role, another binding, one more word in a rule.

Changes are ranked by what else they would give: to how many other subjects, then how many more permissions, then how
many objects they touch. Each is told as objects to apply and as kubectl commands.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from kubegate.analysis.sources import Cluster
from kubegate.analysis.whocan import applies, grants, subject_text
from kubegate.api import Object
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import GROUP, SERVICE_ACCOUNT_PREFIX, Binding, Role, Subject
from kubegate.authorization.rules import ALL

_MANY = 1_000_000
_OFFERED = 4
_NAMELESS = frozenset({"create", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Change:
    """`others` are subjects that would gain too; `more` weighs what else it gives, and `note` says that in words."""

    title: str
    objects: tuple[Object, ...]
    commands: tuple[str, ...]
    others: tuple[str, ...] = ()
    more: int = 0
    note: str = ""

    @property
    def rank(self) -> tuple[int, int, int]:
        return len(self.others), self.more, len(self.objects)

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "objects": list(self.objects),
            "commands": list(self.commands),
            "otherSubjects": list(self.others),
            "note": self.note,
        }


def smallest_changes(cluster: Cluster, attributes: Attributes) -> list[Change]:
    """The best few, the smallest first. Only for what is not allowed."""
    candidates = [
        *_mended_roles(cluster, attributes),
        *_another_binding(cluster, attributes),
        _new_role(cluster, attributes),
    ]
    return sorted(candidates, key=lambda change: change.rank)[:_OFFERED]


def exact_rule(attributes: Attributes) -> dict[str, Any]:
    """The rule that gives this and nothing else."""
    if not attributes.resource_request:
        return {"nonResourceURLs": [attributes.path], "verbs": [attributes.verb]}
    resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
    rule: dict[str, Any] = {
        "apiGroups": [attributes.api_group],
        "resources": [resource],
        "verbs": [attributes.verb],
    }
    if attributes.name and attributes.verb not in _NAMELESS:
        rule["resourceNames"] = [attributes.name]
    return rule


def _new_role(cluster: Cluster, attributes: Attributes) -> Change:
    """A role with the one rule, bound to the subject alone."""
    rule = exact_rule(attributes)
    namespace = attributes.namespace if attributes.resource_request else ""
    name = _free_name(cluster, attributes, namespace)
    kind = "Role" if namespace else "ClusterRole"
    role: Object = {
        "apiVersion": f"{GROUP}/v1",
        "kind": kind,
        "metadata": _metadata(name, namespace),
        "rules": [rule],
    }
    place = f" -n {shlex.quote(namespace)}" if namespace else ""
    parts = [f"kubectl create {kind.lower()} {shlex.quote(name)} --verb={shlex.quote(attributes.verb)}"]
    if attributes.resource_request:
        parts.append(f"--resource={shlex.quote(_kubectl_resource(attributes))}")
        parts += [f"--resource-name={shlex.quote(each)}" for each in rule.get("resourceNames", ())]
    else:
        parts.append(f"--non-resource-url={shlex.quote(attributes.path)}")
    binding, command = _binding(name, namespace, kind, name, attributes)
    title = f"a new {kind} with just this, bound to {subject_text(_subject(attributes))}"
    return Change(title, (role, binding), (" ".join(parts) + place, command))


def _another_binding(cluster: Cluster, attributes: Attributes) -> Iterator[Change]:
    """A role that gives it already, bound to the subject: the narrowest one that is not for the system's own parts."""
    namespace = attributes.namespace if attributes.resource_request else ""
    usable = [
        role
        for role in cluster.index.roles()
        if role.rules
        and (role.kind == "ClusterRole" or role.namespace == namespace)
        and not role.name.startswith("system:")
        and grants(role, attributes)
    ]
    if not usable:
        return
    role = min(usable, key=lambda role: (breadth(role), role.name))
    name = f"{slug(attributes.user.name)}-{slug(role.name)}"
    binding, command = _binding(name, namespace, role.kind, role.name, attributes)
    place = f'in namespace "{namespace}"' if namespace else "in the whole cluster"
    title = f"{subject_text(_subject(attributes))} bound to {role.kind} {role.name} {place}"
    more = max(breadth(role) - 1, 0)
    note = f"gives all else that {role.kind} {role.name} holds" if more else ""
    yield Change(title, (binding,), (command,), more=more, note=note)


def _mended_roles(cluster: Cluster, attributes: Attributes) -> Iterator[Change]:
    """One more rule in a role that the subject holds where the request is made."""
    rule = exact_rule(attributes)
    users = _holders_by_role(cluster)
    seen: set[Role] = set()
    namespace = attributes.namespace if attributes.resource_request else ""
    for binding in cluster.index.bindings_of(attributes.user, namespace):
        role = binding.role
        subject = binding.subject_for(attributes.user)
        if role in seen or subject is None or not applies(binding, attributes):
            continue
        seen.add(role)
        if role.aggregated or (cluster.is_system(role) and role.rules is not None):
            continue  # a controller would undo it; or it is every cluster's, and its holders are many
        own = subject_text(subject, binding.namespace)
        others = tuple(sorted(users.get(role, set()) - {own}))
        if subject[0] == "Group":
            others = (f"all of {own}", *others)
        # a cluster role that is bound in the whole cluster gives it in every namespace
        more = 0 if binding.namespace or not namespace else _MANY
        changed: Object = {
            "apiVersion": f"{GROUP}/v1",
            "kind": role.kind,
            "metadata": _metadata(role.name, role.namespace),
            "rules": [*(dict(each) for each in role.rules or ()), rule],
        }
        place = f" -n {shlex.quote(role.namespace)}" if role.namespace else ""
        if role.rules is None:
            title = f"the missing {role.kind} {role.name}, with just this, which {own} is bound to"
            body = orjson.dumps(changed).decode()
            command = f"kubectl create -f - <<< {shlex.quote(body)}"
        else:
            title = f"one more rule in {role.kind} {role.name}, which {own} is bound to"
            operation = {
                "op": "add",
                "path": "/rules/-" if role.rules else "/rules",
                "value": rule if role.rules else [rule],
            }
            patch = orjson.dumps([operation]).decode()
            command = (
                f"kubectl patch {role.kind.lower()} {shlex.quote(role.name)}{place} --type=json -p {shlex.quote(patch)}"
            )
        yield Change(title, (changed,), (command,), others, more, "gives it in every namespace" if more else "")


def _holders_by_role(cluster: Cluster) -> dict[Role, set[str]]:
    found: dict[Role, set[str]] = {}
    for binding in cluster.index.bindings():
        found.setdefault(binding.role, set()).update(
            subject_text(subject, binding.namespace) for subject in binding.subjects
        )
    return found


def breadth(role: Role) -> int:
    """How many permissions a role's rules hold when written out; a star counts for very many."""
    total = 0
    for rule in role.rules or ():
        size = 1
        for name in ("apiGroups", "resources", "verbs", "resourceNames", "nonResourceURLs"):
            values = rule.get(name) or ()
            size *= _MANY if any(ALL in value for value in values) else max(len(values), 1)
        total += size if rule.get("resourceNames") or rule.get("nonResourceURLs") else size * 100
    return min(total, _MANY)


def _binding(name: str, namespace: str, role_kind: str, role_name: str, attributes: Attributes) -> tuple[Object, str]:
    kind, who, home = _subject(attributes)
    subject: Object = {"kind": kind, "name": who}
    if kind == "ServiceAccount":
        subject["namespace"] = home
        flag = f"--serviceaccount={shlex.quote(f'{home}:{who}')}"
    else:
        subject["apiGroup"] = GROUP
        flag = f"--{kind.lower()}={shlex.quote(who)}"
    binding_kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    binding: Object = {
        "apiVersion": f"{GROUP}/v1",
        "kind": binding_kind,
        "metadata": _metadata(name, namespace),
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role_name},
        "subjects": [subject],
    }
    role_flag = f"--{role_kind.lower()}={shlex.quote(role_name)}"
    command = f"kubectl create {binding_kind.lower()} {shlex.quote(name)} {role_flag} {flag}"
    return binding, f"{command} -n {shlex.quote(namespace)}" if namespace else command


def _subject(attributes: Attributes) -> Subject:
    name = attributes.user.name
    if name.startswith(SERVICE_ACCOUNT_PREFIX):
        namespace, _, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
        return "ServiceAccount", account, namespace
    if not name and attributes.user.groups:
        return "Group", attributes.user.groups[0], ""
    return "User", name, ""


def _metadata(name: str, namespace: str) -> Object:
    return {"name": name, "namespace": namespace} if namespace else {"name": name}


def _kubectl_resource(attributes: Attributes) -> str:
    resource = attributes.resource + (f".{attributes.api_group}" if attributes.api_group else "")
    return f"{resource}/{attributes.subresource}" if attributes.subresource else resource


def _free_name(cluster: Cluster, attributes: Attributes, namespace: str) -> str:
    what = attributes.resource if attributes.resource_request else "paths"
    parts = [attributes.user.name, attributes.verb, what, attributes.subresource, attributes.name]
    name = "-".join(filter(None, (slug(part) for part in parts)))
    kind = "Role" if namespace else "ClusterRole"
    taken = {role.name for role in cluster.index.roles() if role.kind == kind and role.namespace == namespace}
    taken |= {each.name for each in _bindings_in(cluster, namespace)}
    number = 2
    candidate = name
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _bindings_in(cluster: Cluster, namespace: str) -> Iterator[Binding]:
    return (binding for binding in cluster.index.bindings() if binding.namespace == namespace)


def slug(text: str) -> str:
    """A part of an object's name."""
    short = text.removeprefix(SERVICE_ACCOUNT_PREFIX)
    letters = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in short.lower())
    return "-".join(filter(None, letters.split("-")))[:40].strip("-")
