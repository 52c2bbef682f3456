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
    namespace_ends,
    reference_to,
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
        if owner is None:
            return
        jobs = controlled_by(owner, self._reader.list(_JOBS, namespace))
        status = await self._seen(owner, jobs)
        failure: StatusError | None = None
        if not ending(owner):
            due = None if owner["spec"].get("suspend") else await self._due(owner, status)
            if due is not None:
                failure = await self._run(owner, status, due)
        await self._forget(owner, jobs)
        if not status.get("active"):
            status.pop("active", None)
        if status != (owner.get("status") or {}):
            await tolerant(self._client.update_status(_CRON_JOBS, namespace, name, {**owner, "status": status}))
        if failure is not None:
            raise failure

    async def _seen(self, owner: Object, jobs: list[Object]) -> Object:
        """The status without the Jobs that ended or went, and with the time when one last succeeded.

        A Job that somebody else made in the CronJob's name is none of its active ones: an event says so.
        """
        status = {**(owner.get("status") or {})}
        active = {one["uid"]: one for one in status.get("active", ())}
        for job in sorted(jobs, key=created_at):
            uid, name = job["metadata"]["uid"], job["metadata"]["name"]
            if not _finished(job):
                if uid not in active:
                    text = f"Saw a job that the controller did not create or forgot: {name}"
                    await self._events.warning("batch/v1", "CronJob", owner, "UnexpectedJob", text)
                continue
            if active.pop(uid, None) is not None:
                sort = "Complete" if is_true(job, "Complete") else "Failed"
                text = f"Saw completed job: {name}, condition: {sort}"
                await self._events.normal("batch/v1", "CronJob", owner, "SawCompletedJob", text)
            end = (job.get("status") or {}).get("completionTime")
            if is_true(job, "Complete") and end and end > status.get("lastSuccessfulTime", ""):
                status["lastSuccessfulTime"] = end
        there = {job["metadata"]["uid"] for job in jobs}
        for uid, one in list(active.items()):
            if uid not in there and await self._client.get(_JOBS, one["namespace"], one["name"]) is None:
                text = f"Active job went missing: {one['name']}"
                await self._events.normal("batch/v1", "CronJob", owner, "MissingJob", text)
                del active[uid]
        status["active"] = list(active.values())
        return status

    async def _forget(self, owner: Object, jobs: list[Object]) -> None:
        """Delete finished Jobs beyond the history's limits."""
        for sort, name, usual in (
            ("Complete", "successfulJobsHistoryLimit", 3),
            ("Failed", "failedJobsHistoryLimit", 1),
        ):
            found = sorted((job for job in jobs if is_true(job, sort)), key=created_at)
            for job in found[: max(len(found) - owner["spec"].get(name, usual), 0)]:
                await self._delete(owner, job)

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

    async def _run(self, owner: Object, status: Object, due: float) -> StatusError | None:
        """Make the Job of a time that came; the error, after which it is tried again later."""
        policy, metadata = owner["spec"].get("concurrencyPolicy", "Allow"), owner["metadata"]
        name = f"{metadata['name']}-{int(due // 60)}"
        if any(one["name"] == name for one in status["active"]) or status.get("lastScheduleTime") == rfc3339(due):
            return None
        if policy == "Forbid" and status["active"]:
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            await self._events.normal("batch/v1", "CronJob", owner, "JobAlreadyActive", text)
            return None
        if policy == "Replace":
            for one in status["active"]:
                running = await self._client.get(_JOBS, one["namespace"], one["name"])
                if running is not None:
                    await self._delete(owner, running)
            status["active"] = []
        template = owner["spec"]["jobTemplate"]
        given = template.get("metadata") or {}
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
            if namespace_ends(error):
                return error
            if error.reason != "AlreadyExists":
                await self._events.warning("batch/v1", "CronJob", owner, "FailedCreate", f"Error creating job: {error}")
                return error
            # Ours where the process ended before it could say so in the status.
            there = await self._client.get(_JOBS, metadata["namespace"], name)
            if there is None or (controller_of(there) or {}).get("uid") != metadata["uid"]:
                return None
            job = there
        else:
            await self._events.normal("batch/v1", "CronJob", owner, "SuccessfulCreate", f"Created job {name}")
        status["active"] = [*status["active"], reference_to("batch/v1", "Job", job)]
        status["lastScheduleTime"] = rfc3339(due)
        return None


def _shown(owner: Object, due: float) -> str:
    from datetime import datetime

    zone = schedules.parse(owner["spec"]["schedule"], owner["spec"].get("timeZone")).zone
    return datetime.fromtimestamp(due, zone).isoformat().replace("+00:00", "Z")


def _finished(job: Object) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def build() -> CronJobs:
    return CronJobs()
