"""Events that controllers leave on objects, as `kubectl describe` shows them.

What there is too much of is counted, combined and at last left out, as the recorder of client-go v0.36 does it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TypeVar

from msgspec import Struct

from kubegate.api import Object
from kubegate.api.clock import Clock, rfc3339
from kubegate.api.status import StatusError
from kubegate.controllers import Client

_MOST_REMEMBERED = 4096
_MOST_ALIKE, _ALIKE_SECONDS = 10, 600.0  # events that differ by their message alone, within such a time
_COMBINED = "(combined from similar events): "
_BURST, _REFILL_SECONDS = 25, 300.0  # what may be written about one object, and when one more may
_named_at = 0

Key = tuple[str, ...]
Value = TypeVar("Value")


class _Alike(Struct):
    """The messages of events that are alike but for these, and when the last came."""

    messages: dict[str, None]
    last: float


class _Written(Struct):
    name: str
    count: int
    first: str


class _Allowance(Struct):
    left: float
    since: float


def event_name(name: str, now: float) -> str:
    """The name of an event about the object `name`: no two of this process are alike, whoever writes them."""
    global _named_at
    _named_at = max(_named_at + 1, int(now * 1e9))  # nanoseconds, as names of events end with
    return f"{name}.{_named_at:x}"


class Recorder:
    """Writes core/v1 Events in the name of `component`. An event that comes again is counted, not written twice.

    What goes wrong here is let go: an event is news, not state.
    """

    def __init__(self, client: Client, component: str, clock: Clock) -> None:
        self._client, self._component, self._clock = client, component, clock
        self._written: OrderedDict[Key, _Written] = OrderedDict()
        self._alike: OrderedDict[Key, _Alike] = OrderedDict()
        self._allowances: OrderedDict[Key, _Allowance] = OrderedDict()
        self._turn = asyncio.Lock()

    async def normal(self, api_version: str, kind: str, obj: Object, reason: str, message: str) -> None:
        await self._record("Normal", api_version, kind, obj, reason, message)

    async def warning(self, api_version: str, kind: str, obj: Object, reason: str, message: str) -> None:
        await self._record("Warning", api_version, kind, obj, reason, message)

    async def _record(self, sort: str, api_version: str, kind: str, obj: Object, reason: str, message: str) -> None:
        now = self._clock.now()
        event = self._event(sort, api_version, kind, obj, reason, message, rfc3339(now))
        metadata = obj["metadata"]
        about = (kind, metadata.get("namespace", ""), metadata["name"], metadata.get("uid", ""), api_version, sort)
        key: Key = (*about, reason, message)
        if self._too_many_alike((*about, reason), message, now):
            key, event["message"] = (*about, reason), (_COMBINED + message)[:1024]
            del event["reportingComponent"]
        self._count(key, event)
        if not self._allowed(about, now):
            return
        async with self._turn:  # one after another, or an event that comes twice at once were written twice
            try:
                await self._write(event)
            except StatusError:
                return

    async def _write(self, event: Object) -> None:
        metadata = event["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        before = await self._client.get("events", namespace, name) if event["count"] > 1 else None
        if before is None:
            await self._client.create("events", namespace, event)
        else:
            again = {part: event[part] for part in ("count", "lastTimestamp", "message")}
            await self._client.update("events", namespace, name, {**before, **again})

    def _too_many_alike(self, key: Key, message: str, now: float) -> bool:
        found = self._alike.get(key)
        if found is None or now - found.last > _ALIKE_SECONDS:
            found = _Alike({}, now)
        found.messages[message], found.last = None, now
        _remember(self._alike, key, found)
        if len(found.messages) < _MOST_ALIKE:
            return False
        del found.messages[next(iter(found.messages))]
        return True

    def _count(self, key: Key, event: Object) -> None:
        """Where the event was there before, give it the name and the first time that it had, and count it."""
        before = self._written.get(key)
        if before is not None:
            event["metadata"]["name"], event["firstTimestamp"] = before.name, before.first
            event["count"] = before.count + 1
        _remember(self._written, key, _Written(event["metadata"]["name"], event["count"], event["firstTimestamp"]))

    def _allowed(self, key: Key, now: float) -> bool:
        found = self._allowances.get(key) or _Allowance(_BURST, now)
        found.left = min(found.left + (now - found.since) / _REFILL_SECONDS, _BURST)
        found.since = now
        _remember(self._allowances, key, found)
        if found.left < 1:
            return False
        found.left -= 1
        return True

    def _event(
        self, sort: str, api_version: str, kind: str, obj: Object, reason: str, message: str, now: str
    ) -> Object:
        metadata = obj["metadata"]
        about = {"kind": kind, "name": metadata["name"], "uid": metadata.get("uid", ""), "apiVersion": api_version}
        for name in ("namespace", "resourceVersion"):
            if metadata.get(name):
                about[name] = metadata[name]
        namespace = metadata.get("namespace") or "default"
        return {
            "metadata": {"name": event_name(metadata["name"], self._clock.now()), "namespace": namespace},
            "involvedObject": about,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": self._component},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": sort,
            "reportingComponent": self._component,
        }


def _remember(known: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > _MOST_REMEMBERED:
        known.popitem(last=False)
