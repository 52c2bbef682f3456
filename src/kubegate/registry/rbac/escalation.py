"""Nobody may give what they do not hold: the checks before a role or a binding is written.

They come after mutating admission and before validation, as in kube-apiserver's `policybased` storage. Follows
k8s.io/kubernetes/pkg/registry/rbac (escalation_check.go, validation/rule.go, and the four policybased packages).
"""

from __future__ import annotations

from collections.abc import Sequence

from kubegate.api import Object, status
from kubegate.api.field import aggregate, quoted, quoted_list
from kubegate.api.names import path_segment_name
from kubegate.authentication import MASTERS_GROUP, UserInfo
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import GROUP, RbacIndex
from kubegate.authorization.rules import FULL_AUTHORITY, Rule, compact, compact_string, covers
from kubegate.registry import Scope

RBAC_INDEX = "rbac"
"""Where the registry's extensions hold the RbacIndex that these checks ask."""


def index_of(scope: Scope) -> RbacIndex:
    """The registry's index; made here where the server's own authorizers have none (--authorization-mode=Webhook)."""
    extensions = scope.registry.extensions
    found = extensions.get(RBAC_INDEX)
    if not isinstance(found, RbacIndex):
        found = RbacIndex()
        found.follow(scope.reader)
        extensions[RBAC_INDEX] = found
    return found


async def guard_role(role: Object, old: Object | None, scope: Scope) -> None:
    """The writer must hold every rule of the role, or may `escalate` it. Raises StatusError (403)."""
    if await _may_escalate(role, old, scope) or only_garbage_fields(role, old):
        return
    _confirm(role, role.get("rules") or (), scope)


async def guard_cluster_role(role: Object, old: Object | None, scope: Scope) -> None:
    """As for a role; an aggregationRule may gather anything, so that setting or keeping one takes full authority."""
    if await _may_escalate(role, old, scope) or only_garbage_fields(role, old):
        return
    _confirm(role, role.get("rules") or (), scope)
    aggregated = any(((each or {}).get("aggregationRule") or {}).get("clusterRoleSelectors") for each in (role, old))
    if aggregated and _escalation(scope.context.user, "", FULL_AUTHORITY, scope) is not None:
        raise _forbidden(role, scope, "must have cluster-admin privileges to use the aggregationRule")


async def guard_binding(binding: Object, old: Object | None, scope: Scope) -> None:
    """The writer must hold every rule of the bound role, or may `bind` that role. Raises StatusError (403, 404)."""
    user = scope.context.user
    if MASTERS_GROUP in user.groups or only_garbage_fields(binding, old):
        return
    namespace = binding["metadata"].get("namespace") or ""
    reference = binding.get("roleRef") or {}
    kind, name = reference.get("kind") or "", reference.get("name") or ""
    resource = {"Role": "roles", "ClusterRole": "clusterroles"}.get(kind)
    if resource is None:
        raise status.StatusError(500, "", f"unsupported role reference kind: {quoted(kind)}")
    group = reference.get("apiGroup") or ""
    question = Attributes(user, "bind", True, group, "*", resource, "", namespace, name)
    if not (await scope.registry.authorizer.authorize(question)).allowed:
        _confirm(binding, _rules_of(kind, namespace, name, scope), scope)


def _rules_of(kind: str, namespace: str, name: str, scope: Scope) -> Sequence[Rule]:
    """The rules of the role that a binding is to. Raises StatusError as looking it up in storage would (400, 404)."""
    if kind == "Role" and not namespace:
        raise status.bad_request("Namespace parameter required.")
    if not name:
        raise status.bad_request("Name parameter required.")
    problems = path_segment_name(name)
    if problems:
        raise status.bad_request(f"Name parameter invalid: {quoted(name)}: {';'.join(problems)}")
    rules = index_of(scope).role_rules(kind, namespace, name)
    if rules is None:
        # the real server looks the role up with the request's own resource at hand, and names that
        raise status.not_found(scope.resource.group, scope.resource.resource, name)
    return rules


async def _may_escalate(role: Object, old: Object | None, scope: Scope) -> bool:
    user = scope.context.user
    if MASTERS_GROUP in user.groups:
        return True
    metadata = role["metadata"]
    # A POST has no name in its address, and `escalate` on a name does not help there.
    name = metadata.get("name") or "" if old is not None else scope.named
    namespace = metadata.get("namespace") or ""
    question = Attributes(user, "escalate", True, GROUP, "*", scope.resource.resource, "", namespace, name)
    return (await scope.registry.authorizer.authorize(question)).allowed


def only_garbage_fields(obj: Object, old: Object | None) -> bool:
    """Whether an update changes owners and finalizers alone, as the garbage collector does."""
    if old is None:
        return False
    free = ("ownerReferences", "finalizers", "managedFields", "selfLink")

    def rest(each: Object) -> Object:
        return {**each, "metadata": {k: v for k, v in each["metadata"].items() if k not in free}}

    return rest(obj) == rest(old)


def _confirm(obj: Object, rules: Sequence[Rule], scope: Scope) -> None:
    text = _escalation(scope.context.user, obj["metadata"].get("namespace") or "", rules, scope)
    if text is not None:
        raise _forbidden(obj, scope, text)


def _forbidden(obj: Object, scope: Scope, why: str) -> status.StatusError:
    return status.forbidden(scope.resource.group, scope.resource.resource, obj["metadata"].get("name") or "", why)


def _escalation(user: UserInfo, namespace: str, rules: Sequence[Rule], scope: Scope) -> str | None:
    """None where the user holds all of `rules`; else what is not held, in kube-apiserver's words."""
    index = index_of(scope)
    held, _ = index.policy_rules(user, namespace)
    missing = covers(held, rules)
    if not missing:
        return None
    lines = "\n".join(sorted({compact_string(rule) for rule in compact(missing)}))
    text = (
        f"user {quoted(user.name)} (groups={quoted_list(user.groups)}) is attempting to grant "
        f"RBAC permissions not currently held:\n{lines}"
    )
    resource = scope.resource.group_resource
    lost = [
        f"{resource} {quoted(binding.role.name)} not found"
        for binding in index.bindings_of(user, namespace)
        if binding.role.rules is None
    ]
    return f"{text}; resolution errors: [{aggregate(lost)}]" if lost else text
