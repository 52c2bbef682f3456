"""Finished Jobs go `ttlSecondsAfterFinished` after they ended."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.clock import parse_rfc3339
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import condition, ending, key_of, split_key, tolerant
from kubegate.storage import ObjectEvent

_JOBS = "jobs.batch"


class TtlAfterFinished(Loop):
    """Keys are `NAMESPACE/NAME` of Jobs."""

    name = "ttl-after-finished-controller"

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe(_JOBS, self._changed)

    def _changed(self, event: ObjectEvent, job: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED and _end(job) is not None:
            self.queue.add(key_of(job))

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        job = await self._client.get(_JOBS, namespace, name)
        end = _end(job) if job is not None and not ending(job) else None
        if job is None or end is None:
            return
        now = self._clock.now()
        if end > now:
            self.queue.add_at(key, self._clock.monotonic() + end - now)
            return
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": job["metadata"]["uid"]}}
        await tolerant(self._client.delete(_JOBS, namespace, name, options), "NotFound", "Conflict")


def _end(job: Object) -> float | None:
    """When the Job is to go, in seconds since 1970; None while it runs or where it stays."""
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    for sort in ("Complete", "Failed"):
        found = condition(job, sort)
        if seconds is not None and found is not None and found["status"] == "True":
            return parse_rfc3339(found["lastTransitionTime"]) + float(seconds)
    return None


def build() -> TtlAfterFinished:
    return TtlAfterFinished()
