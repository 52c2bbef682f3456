"""Whose pods (or ReplicaSets) are these: owners adopt what their selector picks and let go what it no longer does."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from kubegate.api import Object
from kubegate.api.selectors import LabelSelector
from kubegate.controllers import Client
from kubegate.controllers.objects import controller_of, controller_reference, ending, tolerant


class Owner(Struct, frozen=True):
    """An object that claims others; `resource` is its own group resource, `finalizer` what it adopts is given."""

    api_version: str
    kind: str
    resource: str
    object: Object
    finalizer: str = ""


async def claim(
    client: Client, owner: Owner, selector: LabelSelector, resource: str, candidates: Iterable[Object]
) -> list[Object]:
    """Those of `candidates` (of `resource`) that are the owner's now; adopts and releases on the way."""
    uid, found = owner.object["metadata"]["uid"], []
    for obj in candidates:
        controller = controller_of(obj)
        matches = selector.matches(obj["metadata"].get("labels") or {})
        if controller is None:
            if matches and not selector.empty and not ending(obj) and not ending(owner.object):
                adopted = await _adopt(client, owner, resource, obj)
                found += [adopted] if adopted is not None else []
        elif controller["uid"] == uid:
            if matches:
                found.append(obj)
            elif not ending(owner.object):
                await _release(client, uid, resource, obj)
    return found


async def _adopt(client: Client, owner: Owner, resource: str, obj: Object) -> Object | None:
    metadata = obj["metadata"]
    current = await client.get(owner.resource, owner.object["metadata"].get("namespace", ""), _name(owner.object))
    if current is None or current["metadata"]["uid"] != owner.object["metadata"]["uid"] or ending(current):
        return None
    references = [
        *(metadata.get("ownerReferences") or ()),
        controller_reference(owner.api_version, owner.kind, owner.object),
    ]
    changed = {**obj, "metadata": {**metadata, "ownerReferences": references}}
    finalizers = metadata.get("finalizers") or []
    if owner.finalizer and owner.finalizer not in finalizers:
        changed["metadata"]["finalizers"] = [*finalizers, owner.finalizer]
    return await tolerant(client.update(resource, metadata.get("namespace", ""), _name(obj), changed))


async def _release(client: Client, uid: str, resource: str, obj: Object) -> None:
    metadata = obj["metadata"]
    references = [one for one in metadata["ownerReferences"] if one["uid"] != uid]
    changed = {**obj, "metadata": {**metadata, "ownerReferences": references}}
    await tolerant(client.update(resource, metadata.get("namespace", ""), _name(obj), changed))


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])
