"""metadata.managedFields: entries as they are stored, and as they are worked with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from msgspec import Struct
from msgspec.structs import replace

from kubegate.api import clock
from kubegate.api.managedfields import sets
from kubegate.api.managedfields.sets import FieldSet

APPLY, UPDATE = "Apply", "Update"
OLD_UPDATES = "ancient-changes"
UNKNOWN = "unknown"
"""The manager of whom no name is known."""
MAX_UPDATERS = 10
"""Entries of updates that are kept apart; the oldest ones beyond that are put together."""


class Manager(Struct, frozen=True, order=True):
    """Who: the same manager has an entry for each way in which it writes.

    `api_version` is "" for appliers: they have one entry whatever version they applied last.
    """

    name: str
    operation: str
    api_version: str
    subresource: str


class Owned(Struct, frozen=True):
    """What: the fields, in the version that they were written in, and when (None: never noted)."""

    fields: FieldSet
    api_version: str
    time: str | None


Managed = dict[Manager, Owned]


def manager(name: str, operation: str, api_version: str, subresource: str) -> Manager:
    return Manager(name or UNKNOWN, operation, "" if operation == APPLY else api_version, subresource)


def decode(entries: Any, *, trusted: bool) -> Managed:
    """Stored entries (`trusted`), or those a client sent. Raises ValueError where they mean nothing."""
    managed: Managed = {}
    for position, entry in enumerate(entries or ()):
        if not trusted:
            _check(position, entry)
        fields = entry.get("fieldsV1") or {}
        who = manager_of(entry)
        managed[who] = Owned(fields if trusted else _checked(entry, fields), entry["apiVersion"], entry.get("time"))
    return managed


def _checked(entry: dict[str, Any], fields: Any) -> FieldSet:
    try:
        return sets.check(fields)
    except ValueError as error:
        time = f"{entry['time'].removesuffix('Z').replace('T', ' ')} +0000 UTC" if entry.get("time") else "<nil>"
        named = (entry.get("manager", ""), entry["operation"], entry["apiVersion"], time, entry["fieldsType"])
        shown = " ".join((*named, orjson.dumps(fields).decode(), entry.get("subresource", "")))
        raise ValueError(f"error decoding versioned set from {{{shown}}}: error decoding set: {error}") from None


def manager_of(entry: dict[str, Any]) -> Manager:
    operation, api_version = entry["operation"], entry["apiVersion"]
    version = "" if operation == APPLY else api_version
    return Manager(entry.get("manager", ""), operation, version, entry.get("subresource", ""))


def _check(position: int, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise ValueError("managed fields entries are objects")
    if entry.get("operation") not in (APPLY, UPDATE):
        raise ValueError("operation must be `Apply` or `Update`")
    if not entry.get("apiVersion"):
        raise ValueError("apiVersion must not be empty")
    if not entry.get("fieldsType"):
        raise ValueError(f"missing fieldsType in managed fields entry {position}")
    if entry["fieldsType"] != "FieldsV1":
        kind = orjson.dumps(entry["fieldsType"]).decode()
        raise ValueError(f"invalid fieldsType {kind} in managed fields entry {position}")
    for name in ("manager", "apiVersion", "subresource", "time"):
        if not isinstance(entry.get(name, ""), str):
            raise ValueError(f"{name} must be a string")
    if entry.get("time"):
        clock.parse_rfc3339(entry["time"])


def encode(managed: Managed) -> list[dict[str, Any]]:
    """As stored: appliers first, then by time, then by name."""
    if len(managed) == 1:
        return [entry(*pair) for pair in managed.items()]
    return encode_all(managed.items())


def encode_all(pairs: Iterable[tuple[Manager, Owned]]) -> list[dict[str, Any]]:
    return [entry(who, owned) for who, owned in sorted(pairs, key=_order)]


def _order(item: tuple[Manager, Owned]) -> tuple[Any, ...]:
    who, owned = item
    return who.operation, _seconds(owned.time), who.name, owned.api_version, who.subresource


def _seconds(time: str | None) -> int:
    return int(clock.parse_rfc3339(time)) if time else 0


def entry(who: Manager, owned: Owned) -> dict[str, Any]:
    return written(who.name, who.operation, owned.api_version, who.subresource, owned.time, owned.fields)


def written(
    name: str, operation: str, api_version: str, subresource: str, time: str | None, fields: FieldSet
) -> dict[str, Any]:
    """An entry as it is stored."""
    found: dict[str, Any] = {"manager": name} if name else {}
    found["operation"] = operation
    found["apiVersion"] = api_version
    if time:
        found["time"] = time
    found["fieldsType"] = "FieldsV1"
    found["fieldsV1"] = fields
    if subresource:
        found["subresource"] = subresource
    return found


def capped(managed: Managed) -> Managed:
    """At most MAX_UPDATERS entries of updates: the oldest of each version become one entry."""
    updaters = [who for who in managed if who.operation == UPDATE]
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return managed
    updaters.sort(key=lambda who: (_seconds(managed[who].time), who))
    kept = dict(managed)
    first: dict[str, Manager] = {}
    for who in updaters:
        if excess <= 0:
            break
        owned = managed[who]
        if owned.api_version not in first:
            first[owned.api_version] = who
            continue
        bucket = manager(OLD_UPDATES, UPDATE, owned.api_version, "")
        if bucket not in kept:
            kept[bucket] = kept.pop(first[owned.api_version])
        together = sets.union(kept[bucket].fields, owned.fields)
        # The later of the two times: `owned` is newer than what is in the bucket.
        kept[bucket] = Owned(together, owned.api_version, owned.time)
        if who != bucket:
            del kept[who]
        excess -= 1
    return kept


def owning(owned: Owned, fields: FieldSet) -> Owned:
    return owned if fields is owned.fields else replace(owned, fields=fields)


def is_reset(entries: Any) -> bool:
    """`managedFields: []` or `[{}]`: forget who set what."""
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return False
    return not entries or (len(entries) == 1 and entries[0] in ({}, None))
