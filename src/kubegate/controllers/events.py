"""Events that controllers leave on objects, as `kubectl describe` shows them."""

from __future__ import annotations

from collections import OrderedDict

from kubegate.api import Object
from kubegate.api.clock import Clock, rfc3339
from kubegate.api.status import StatusError
from kubegate.controllers import Client

_MOST_REMEMBERED = 4096
_named_at = 0


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
        self._written: OrderedDict[tuple[str, str, str, str], Object] = OrderedDict()

    async def normal(self, api_version: str, kind: str, obj: Object, reason: str, message: str) -> None:
        await self._record("Normal", api_version, kind, obj, reason, message)

    async def warning(self, api_version: str, kind: str, obj: Object, reason: str, message: str) -> None:
        await self._record("Warning", api_version, kind, obj, reason, message)

    async def _record(self, sort: str, api_version: str, kind: str, obj: Object, reason: str, message: str) -> None:
        metadata, now = obj["metadata"], rfc3339(self._clock.now())
        same = (metadata.get("uid", ""), sort, reason, message)
        namespace = metadata.get("namespace") or "default"
        before = self._written.get(same)
        try:
            if before is not None:
                again = {**before, "count": before["count"] + 1, "lastTimestamp": now}
                written = await self._client.update("events", namespace, before["metadata"]["name"], again)
            else:
                written = await self._client.create(
                    "events", namespace, self._event(sort, api_version, kind, obj, reason, message, now)
                )
        except StatusError:
            self._written.pop(same, None)
            return
        self._written[same] = written
        self._written.move_to_end(same)
        if len(self._written) > _MOST_REMEMBERED:
            self._written.popitem(last=False)

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
