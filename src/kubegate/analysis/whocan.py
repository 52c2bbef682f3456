"""Who can do this: every subject that some binding gives it to. Roles are judged once each, bindings then counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubegate.analysis.sources import Cluster
from kubegate.authentication import MASTERS_GROUP
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import Binding, Role, Subject
from kubegate.authorization.rules import rule_allows


@dataclass(frozen=True, slots=True)
class Holder:
    """A subject (as the binding writes it), and the binding and role that give it. `scope` "" is the whole cluster.

    The group system:masters holds everything without a binding; it comes first, with `binding` None.
    """

    kind: str
    name: str
    namespace: str
    scope: str
    binding: Binding | None

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": self.kind, "name": self.name, "scope": self.scope or "cluster"}
        if self.namespace:
            found["namespace"] = self.namespace
        if self.binding is not None:
            role = self.binding.role
            found["binding"] = {"kind": self.binding.kind, "name": self.binding.name}
            found["role"] = {"kind": role.kind, "name": role.name}
            if self.binding.namespace:
                found["binding"]["namespace"] = self.binding.namespace
        return found


def who_can(cluster: Cluster, attributes: Attributes, *, all_namespaces: bool = False) -> list[Holder]:
    """Who may do what `attributes` say, whoever they name as user; sorted by kind, name and scope.

    With `all_namespaces` those who may do it in any one namespace are among them, each with its namespace.
    """
    granting = {role for role in cluster.index.roles() if grants(role, attributes)}
    found = [Holder("Group", MASTERS_GROUP, "", "", None)]
    for binding in cluster.index.bindings():
        if binding.role in granting and applies(binding, attributes, all_namespaces):
            found.extend(holders(binding))
    return sorted(found, key=lambda holder: (holder.binding is not None, holder.kind, holder.name, holder.scope))


def grants(role: Role, attributes: Attributes) -> bool:
    return any(rule_allows(rule, attributes) for rule in role.rules or ())


def applies(binding: Binding, attributes: Attributes, all_namespaces: bool = False) -> bool:
    """Whether a binding's reach takes in the request: everything, or the resources of its own namespace."""
    if not binding.namespace:
        return True
    if not attributes.resource_request:
        return False
    return all_namespaces or binding.namespace == attributes.namespace


def holders(binding: Binding) -> Iterator[Holder]:
    for kind, name, namespace in binding.subjects:
        home = (namespace or binding.namespace) if kind == "ServiceAccount" else ""
        yield Holder(kind, name, home, binding.namespace, binding)


def subject_text(subject: Subject, binding_namespace: str = "") -> str:
    """`User alice`, `ServiceAccount ns/name`."""
    kind, name, namespace = subject
    return f"{kind} {namespace or binding_namespace}/{name}" if kind == "ServiceAccount" else f"{kind} {name}"
