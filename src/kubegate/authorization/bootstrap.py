"""The roles and bindings that every cluster has, and how they are kept right at each start.

Follows k8s.io/kubernetes/pkg/registry/rbac/rest (the bootstrap hook) and k8s.io/component-helpers/auth/rbac/
reconciliation: what is missing is made, permissions and subjects that are missing are added, nothing else is taken
away; an object with `rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import orjson

from kubegate.api import Object
from kubegate.api.resources import data
from kubegate.authorization.rbac import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES
from kubegate.authorization.rules import Rule, covers

AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
RESOURCES = {
    "ClusterRole": CLUSTER_ROLES,
    "ClusterRoleBinding": CLUSTER_ROLE_BINDINGS,
    "Role": ROLES,
    "RoleBinding": ROLE_BINDINGS,
}
"""Kind -> group resource, in the order in which they are reconciled."""


class Writer(Protocol):
    """Where roles are kept; `resource` is a group resource (`roles.rbac.authorization.k8s.io`)."""

    async def get(self, resource: str, namespace: str, name: str) -> Object | None: ...

    async def create(self, resource: str, obj: Object) -> None:
        """Store a new object. Raises AlreadyThere where another process was faster."""
        ...

    async def update(self, resource: str, obj: Object) -> None:
        """Replace the object, guarded by its resourceVersion. Raises Changed where another process was faster."""
        ...

    async def delete(self, resource: str, namespace: str, name: str) -> None: ...


class AlreadyThere(Exception):
    """The object was made by somebody else meanwhile: look again."""


class Changed(Exception):
    """The object was changed or deleted by somebody else meanwhile: look again."""


_ATTEMPTS = 5


def objects() -> list[Object]:
    """All bootstrap roles and bindings of v1.36, each freshly decoded."""
    found: list[Object] = orjson.loads(data("bootstrap-rbac.json"))
    return found


@cache
def node_rules() -> tuple[Rule, ...]:
    """What every node may do: the rules of `system:node`, which the Node authorizer holds by itself."""
    return tuple(
        rule
        for obj in objects()
        if obj["kind"] == "ClusterRole" and obj["metadata"]["name"] == "system:node"
        for rule in obj["rules"]
    )


async def reconcile(writer: Writer, expected: Sequence[Object] | None = None) -> int:
    """Make and mend; returns how many objects were written. The namespaces of `objects()` must be there before."""
    wanted = objects() if expected is None else expected
    written = 0
    for kind, resource in RESOURCES.items():
        tasks = [_reconcile_one(writer, resource, obj) for obj in wanted if obj["kind"] == kind]
        # side by side, so that a store that gathers writes can make them durable together
        written += sum(await asyncio.gather(*tasks))
    return written


async def _reconcile_one(writer: Writer, resource: str, expected: Object) -> bool:
    metadata = expected["metadata"]
    namespace, name = metadata.get("namespace") or "", metadata["name"]
    for _ in range(_ATTEMPTS):
        existing = await writer.get(resource, namespace, name)
        try:
            if existing is None:
                await writer.create(resource, expected)
                return True
            if is_protected(existing):
                return False
            if _bound_elsewhere(existing, expected):
                await writer.delete(resource, namespace, name)
                continue
            mended = mend(existing, expected)
            if mended is None:
                return False
            await writer.update(resource, mended)
            return True
        except (AlreadyThere, Changed):
            continue
    raise RuntimeError(f"{resource} {name} changes faster than it can be reconciled")


def is_protected(existing: Object) -> bool:
    return (existing["metadata"].get("annotations") or {}).get(AUTOUPDATE) == "false"


def _bound_elsewhere(existing: Object, expected: Object) -> bool:
    """A binding cannot change its role: one to another role is made anew."""
    return existing.get("roleRef") != expected.get("roleRef")


def mend(existing: Object, expected: Object) -> Object | None:
    """The existing object with what it misses of the expected one; None where it misses nothing."""
    mended = {**existing, "metadata": dict(existing["metadata"])}
    for name in ("annotations", "labels"):
        merged = {**(expected["metadata"].get(name) or {}), **(existing["metadata"].get(name) or {})}
        if merged:
            mended["metadata"][name] = merged
    if "roleRef" in expected:
        _add_subjects(mended, expected)
    else:
        _add_rules(mended, expected)
    return None if mended == existing else mended


def _add_subjects(binding: Object, expected: Object) -> None:
    present = list(binding.get("subjects") or ())
    missing = [subject for subject in expected.get("subjects") or () if subject not in present]
    if missing:
        binding["subjects"] = present + missing


def _add_rules(role: Object, expected: Object) -> None:
    wanted = expected.get("aggregationRule")
    if wanted is None:
        missing = covers(role.get("rules") or (), expected.get("rules") or ())
        if missing:
            role["rules"] = [*(role.get("rules") or ()), *missing]
        # nobody expects this role to be gathered from others, and gathering would undo the rules
        role.pop("aggregationRule", None)
        return
    present: list[Any] = list((role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ())
    missing_selectors = [each for each in wanted.get("clusterRoleSelectors") or () if each not in present]
    if missing_selectors:
        role["aggregationRule"] = {"clusterRoleSelectors": present + missing_selectors}
