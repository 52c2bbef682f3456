"""Changes that the server itself makes to stored objects as part of a request, beside admission and validation.

A binding sets a pod's node, an eviction counts in a disruption budget: what kube-apiserver does with GuaranteedUpdate.
"""

from __future__ import annotations

from collections.abc import Callable

from kubegate.api import Object, clone, status
from kubegate.registry import Scope, wire
from kubegate.storage import RevisionConflict

_ATTEMPTS = 20


async def guaranteed_update(
    scope: Scope, group_resource: str, namespace: str, name: str, change: Callable[[Object], None]
) -> Object:
    """Read, `change` a copy in place, compare-and-set; again while others were faster.

    What stays as it was is not written. Answers with what was stored (or would be, on a dry run). Raises 404, 409, and
    whatever `change` raises.
    """
    registry = scope.registry
    resource = registry.resources.by_group_resource(group_resource)
    assert resource is not None
    key = registry.keys.key(group_resource, namespace, name)
    for _ in range(_ATTEMPTS):
        entry = registry.entry(resource, namespace, name)
        changed = clone(entry.object())
        change(changed)
        if scope.context.dry_run or changed == entry.object():
            return changed
        try:
            revision = await registry.cache.put(key, wire.encode(changed), entry.revision)
        except RevisionConflict:
            await registry.cache.fresh()
            continue
        changed["metadata"]["resourceVersion"] = str(revision)
        return changed
    raise status.conflict(resource.group, resource.resource, name, status.MODIFIED)
