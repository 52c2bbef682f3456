"""ControllerRevisions: the templates that StatefulSets and DaemonSets have had. Follows pkg/controller/history."""

from __future__ import annotations

from collections.abc import Callable

from kubegate.api import Object
from kubegate.controllers import Client
from kubegate.controllers.objects import controlled_by, controller_reference, created_at, tolerant
from kubegate.storage import Reader

RESOURCE = "controllerrevisions.apps"
HASH_LABEL = "controller-revision-hash"


def patch_of(owner: Object) -> Object:
    """What a revision holds: a patch that puts the template in the place of whatever there is."""
    return {"spec": {"template": {**owner["spec"]["template"], "$patch": "replace"}}}


async def current(
    reader: Reader, client: Client, kind: str, owner: Object, digest: Callable[[Object], str], hash_label: str
) -> tuple[Object, list[Object]]:
    """The revision of the owner's present template, made where there is none, and all its revisions, oldest first."""
    metadata, data = owner["metadata"], patch_of(owner)
    namespace = metadata["namespace"]
    known = sorted(controlled_by(owner, reader.list(RESOURCE, namespace)), key=_order)
    last = known[-1]["revision"] if known else 0
    for revision in known:
        if revision.get("data") == data:
            if revision["revision"] != last:  # back to what was before
                changed = {**revision, "revision": last + 1}
                found = await client.update(RESOURCE, namespace, revision["metadata"]["name"], changed)
                return found, sorted([*(one for one in known if one is not revision), found], key=_order)
            return revision, known
    hashed = digest(data)
    labels = {**((owner["spec"]["template"].get("metadata") or {}).get("labels") or {}), hash_label: hashed}
    annotations = metadata.get("annotations")
    made = {
        "metadata": {
            "name": f"{metadata['name'][:223]}-{hashed}",
            "namespace": namespace,
            "labels": labels,
            **({"annotations": annotations} if annotations else {}),
            "ownerReferences": [controller_reference("apps/v1", kind, owner)],
        },
        "data": data,
        "revision": last + 1,
    }
    found = await client.create(RESOURCE, namespace, made)
    return found, [*known, found]


async def forget(client: Client, known: list[Object], live: set[str], limit: int) -> None:
    """Delete the oldest revisions beyond the limit that no pod has."""
    idle = [one for one in known if one["metadata"]["name"] not in live]
    for revision in idle[: max(len(idle) - limit, 0)]:
        await tolerant(client.delete(RESOURCE, revision["metadata"]["namespace"], revision["metadata"]["name"]))


def _order(revision: Object) -> tuple[int, float, str]:
    return revision.get("revision", 0), created_at(revision), revision["metadata"]["name"]
