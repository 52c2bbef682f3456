"""Who may write what of a claim's status: rights of their own, beside that to write `resourceclaims/status` at all.

Whoever allocates a claim or reserves it needs `resourceclaims/binding` in the whole cluster; a driver that tells of its
devices needs `resourceclaims/driver` with its own name, on the node that the claim is allocated to
(`associated-node:update`) or on any (`arbitrary-node:update`).
Follows k8s.io/kubernetes/pkg/registry/resource (utils).
"""

from __future__ import annotations

from collections.abc import Sequence

from kubegate.api import Object, field, status
from kubegate.api.field import FieldError
from kubegate.api.names import is_dns1123_subdomain
from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes, Decision
from kubegate.authorization.rbac import SERVICE_ACCOUNT_PREFIX
from kubegate.authorization.texts import forbidden_error
from kubegate.registry import Scope
from kubegate.registry.checks import listed, mapped
from kubegate.registry.resource import devices

_NODE_NAME = "authentication.kubernetes.io/node-name"


async def guard_status(claim: Object, old: Object | None, scope: Scope) -> None:
    """Raises StatusError (422) with each right that the writer lacks."""
    before = mapped(old or {}, "status")
    after = mapped(claim, "status")
    errors = devices.granted_administration(after, before, claim["metadata"].get("namespace", ""), scope)
    errors += await _binding(after, before, scope)
    errors += await _devices(after, before, claim["metadata"].get("namespace", ""), scope)
    if errors:
        raise status.invalid(scope.resource.group, scope.resource.kind, claim["metadata"]["name"], errors)


async def _binding(after: Object, before: Object, scope: Scope) -> list[FieldError]:
    if all((after.get(name) or None) == (before.get(name) or None) for name in ("allocation", "reservedFor")):
        return []
    verb = _verb(scope)
    denied = await _denied(_asked(scope, verb, "binding", "", ""), scope)
    if denied is None:
        return []
    needed = (
        f'changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb="{verb}"'
    )
    return [field.forbidden("status", f"{needed} permission: {denied}")]


async def _devices(after: Object, before: Object, namespace: str, scope: Scope) -> list[FieldError]:
    verbs = [f"arbitrary-node:{_verb(scope)}"]
    if _is_on(scope.context.user, _allocated_node(mapped(after, "allocation"))):
        verbs.insert(0, f"associated-node:{_verb(scope)}")
    errors = []
    for driver in _changed_drivers(listed(after, "devices"), listed(before, "devices")):
        denials = []
        for verb in verbs:  # one of them is enough
            denied = await _denied(_asked(scope, verb, "driver", namespace, driver), scope)
            if denied is None:
                break
            denials.append(denied)
        else:
            needed = f'requires resource="resourceclaims/driver", verb="[{" ".join(verbs)}]" permission'
            errors.append(field.forbidden("status.devices", f"changing status.devices {needed}: {denials[0]}"))
    return errors


def _verb(scope: Scope) -> str:
    return "patch" if scope.context.options.get("kind") == "PatchOptions" else "update"


def _asked(scope: Scope, verb: str, subresource: str, namespace: str, name: str) -> Attributes:
    user, of = scope.context.user, scope.resource
    return Attributes(user, verb, True, of.group, of.version, of.resource, subresource, namespace, name)


async def _denied(asked: Attributes, scope: Scope) -> str | None:
    """Why it is not allowed, None where it is."""
    decision = await scope.registry.authorizer.authorize(asked)
    if decision.allowed:
        return None
    told = ": ".join(text for text in (decision.error, decision.reason) if text)
    return forbidden_error(asked, Decision(decision.verdict, told)).message


def _changed_drivers(after: Sequence[Object], before: Sequence[Object]) -> list[str]:
    """Those of whose devices an entry is new, gone or another now."""
    old, new = ({devices.identity(each): each for each in side} for side in (before, after))
    return sorted({key[0] for key in old.keys() | new.keys() if old.get(key) != new.get(key)})


def _allocated_node(allocation: Object) -> str:
    """The one node that a claim is allocated to, "" where there are several or any."""
    terms = listed(mapped(allocation, "nodeSelector"), "nodeSelectorTerms")
    if len(terms) != 1 or listed(terms[0], "matchExpressions"):
        return ""
    match listed(terms[0], "matchFields"):
        case [{"key": "metadata.name", "operator": "In", "values": [str(node)]}]:
            return node
    return ""


def _is_on(user: UserInfo, node: str) -> bool:
    """Whether it is a service account whose token is bound to a pod on this node."""
    if not node or not user.name.startswith(SERVICE_ACCOUNT_PREFIX) or is_dns1123_subdomain(node):
        return False
    return tuple(user.extra.get(_NODE_NAME, ())) == (node,)
