"""Custom resources as they are read: what was stored under an older definition has today's defaults, and no field more.

kube-apiserver defaults and prunes whatever it reads from etcd. Here what was written under today's definition is
served as it lies in the cache, and only what is older is looked at, once.
"""

from __future__ import annotations

from msgspec.structs import replace

from kubegate.api import clone, structural
from kubegate.api.codec import split_api_version
from kubegate.api.resources import Resource
from kubegate.api.structural import CustomResource
from kubegate.registry import conversion, wire
from kubegate.registry.apiextensions.customresources import in_version
from kubegate.storage.cache import CacheEvent, Entry


def settled(entry: Entry, resource: Resource) -> Entry:
    """The entry with what today's definition makes of it, in the version that is stored now unless a webhook converts.

    The same entry where that changes nothing.
    """
    custom: CustomResource = resource.custom
    if entry.revision > custom.since:
        return entry
    key = (entry.key, entry.revision)
    found: Entry | None = custom.settled.get(key)
    if found is None:
        found = custom.settled[key] = _settle(entry, resource, custom)
    return found


def settled_event(event: CacheEvent, resource: Resource) -> CacheEvent:
    """The same for a change that watchers are told of."""
    entry = None if event.entry is None else settled(event.entry, resource)
    previous = None if event.previous is None else settled(event.previous, resource)
    if entry is event.entry and previous is event.previous:
        return event
    return replace(event, entry=entry, previous=previous)


def _settle(entry: Entry, resource: Resource, custom: CustomResource) -> Entry:
    stored = entry.object()
    obj = clone(stored)
    schema = custom.versions.get(split_api_version(obj["apiVersion"])[1])
    if schema is not None:
        structural.prune(obj, schema)
        structural.default(obj, schema)
    if obj["apiVersion"] != resource.storage_api_version and not conversion.by_webhook(resource):
        obj = in_version(obj, resource.storage_api_version, resource)
    if obj == stored:
        return entry
    return replace(entry, data=wire.encode_served(obj, stored["metadata"]["resourceVersion"]))
