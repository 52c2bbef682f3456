"""CronJobs: a Job whenever their schedule comes due. Follows pkg/controller/cronjob of Kubernetes v1.36."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.clock import parse_rfc3339, rfc3339
from kubegate.api.status import StatusError
from kubegate.controllers import World, schedules
from kubegate.controllers.base import Loop
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import (
    controlled_by,
    controller_of,
    controller_reference,
    created_at,
    ending,
    is_true,
    key_of,
    split_key,
    tolerant,
)
from kubegate.storage import ObjectEvent

_CRON_JOBS, _JOBS = "cronjobs.batch", "jobs.batch"
_SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


class CronJobs(Loop):
    """Keys are `NAMESPACE/NAME`."""

    name = "cronjob-controller"
    _events: Recorder

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "cronjob-controller", world.clock)
        world.reader.subscribe(_CRON_JOBS, self._there)
        world.reader.subscribe(_JOBS, self._job_changed)

    def _job_changed(self, event: ObjectEvent, job: Object, _: Object | None) -> None:
        controller = controller_of(job)
        if controller is not None and controller["kind"] == "CronJob":
            self.queue.add(f"{job['metadata']['namespace']}/{controller['name']}")

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        owner = await self._client.get(_CRON_JOBS, namespace, name)
        if owner is None or ending(owner):
            return
        jobs = controlled_by(owner, self._reader.list(_JOBS, namespace))
        status = await self._seen(owner, jobs)
        jobs = await self._forget(owner, jobs)
        due = None if owner["spec"].get("suspend") else await self._due(owner, status)
        if due is not None:
            await self._run(owner, status, due, [job for job in jobs if not _finished(job)])
        if status != (owner.get("status") or {}):
            await tolerant(self._client.update_status(_CRON_JOBS, namespace, name, {**owner, "status": status}))

    async def _seen(self, owner: Object, jobs: list[Object]) -> Object:
        """The status with the Jobs that run, and when one last succeeded."""
        status = {**(owner.get("status") or {})}
        before = {one["uid"]: one for one in status.pop("active", ())}
        running = []
        for job in sorted(jobs, key=created_at):
            uid = job["metadata"]["uid"]
            if not _finished(job):
                running.append(_reference(job))
                continue
            if uid in before:
                sort = "Complete" if is_true(job, "Complete") else "Failed"
                text = f"Saw completed job: {job['metadata']['name']}, condition: {sort}"
                await self._events.normal("batch/v1", "CronJob", owner, "SawCompletedJob", text)
            end = (job.get("status") or {}).get("completionTime")
            if is_true(job, "Complete") and end and end > status.get("lastSuccessfulTime", ""):
                status["lastSuccessfulTime"] = end
        if running:
            status["active"] = running
        return status

    async def _forget(self, owner: Object, jobs: list[Object]) -> list[Object]:
        """Delete finished Jobs beyond the history's limits; those that stay."""
        gone = set()
        for sort, name, usual in (
            ("Complete", "successfulJobsHistoryLimit", 3),
            ("Failed", "failedJobsHistoryLimit", 1),
        ):
            found = sorted((job for job in jobs if is_true(job, sort)), key=created_at)
            for job in found[: max(len(found) - owner["spec"].get(name, usual), 0)]:
                await self._delete(owner, job)
                gone.add(job["metadata"]["uid"])
        return [job for job in jobs if job["metadata"]["uid"] not in gone]

    async def _delete(self, owner: Object, job: Object) -> None:
        metadata = job["metadata"]
        options = {"propagationPolicy": "Background"}
        await tolerant(self._client.delete(_JOBS, metadata["namespace"], metadata["name"], options))
        text = f"Deleted job {metadata['name']}"
        await self._events.normal("batch/v1", "CronJob", owner, "SuccessfulDelete", text)

    async def _due(self, owner: Object, status: Object) -> float | None:
        """The latest time that came and was not served; asks to be called again at the next."""
        spec, now = owner["spec"], self._clock.now()
        try:
            schedule = schedules.parse(spec["schedule"], spec.get("timeZone"))
        except schedules.BadSchedule as error:
            await self._events.warning("batch/v1", "CronJob", owner, "UnparseableSchedule", str(error))
            return None
        coming = schedule.after(now)
        if coming is not None:
            self.queue.add_at(key_of(owner), self._clock.monotonic() + coming - now + 0.1)
        last = status.get("lastScheduleTime")
        since = parse_rfc3339(last) if last else created_at(owner)
        deadline = spec.get("startingDeadlineSeconds")
        if deadline is not None:
            since = max(since, now - deadline)
        return schedule.latest(since, now)

    async def _run(self, owner: Object, status: Object, due: float, running: list[Object]) -> None:
        policy, metadata = owner["spec"].get("concurrencyPolicy", "Allow"), owner["metadata"]
        if policy == "Forbid" and running:
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            await self._events.normal("batch/v1", "CronJob", owner, "JobAlreadyActive", text)
            return
        if policy == "Replace":
            for job in running:
                await self._delete(owner, job)
            status.pop("active", None)
        template = owner["spec"]["jobTemplate"]
        given, name = template.get("metadata") or {}, f"{metadata['name']}-{int(due // 60)}"
        made = {
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "annotations": {**(given.get("annotations") or {}), _SCHEDULED: _shown(owner, due)},
                **({"labels": given["labels"]} if given.get("labels") else {}),
                "ownerReferences": [controller_reference("batch/v1", "CronJob", owner)],
            },
            "spec": template["spec"],
        }
        try:
            job = await self._client.create(_JOBS, metadata["namespace"], made)
        except StatusError as error:
            if error.reason == "AlreadyExists":
                status["lastScheduleTime"] = rfc3339(due)
                return
            await self._events.warning("batch/v1", "CronJob", owner, "FailedCreate", f"Error creating job: {error}")
            raise
        status["active"] = [*status.get("active", ()), _reference(job)]
        status["lastScheduleTime"] = rfc3339(due)
        await self._events.normal("batch/v1", "CronJob", owner, "SuccessfulCreate", f"Created job {name}")


def _shown(owner: Object, due: float) -> str:
    from datetime import datetime

    zone = schedules.parse(owner["spec"]["schedule"], owner["spec"].get("timeZone")).zone
    return datetime.fromtimestamp(due, zone).isoformat().replace("+00:00", "Z")


def _finished(job: Object) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def _reference(job: Object) -> Object:
    metadata = job["metadata"]
    return {
        "kind": "Job",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": "batch/v1",
        "resourceVersion": metadata["resourceVersion"],
    }


def build() -> CronJobs:
    return CronJobs()
