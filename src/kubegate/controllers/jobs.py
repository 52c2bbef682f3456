"""Jobs: pods that run to their end, so many times.

Follows pkg/controller/job of Kubernetes v1.36. A pod keeps a finalizer until it is counted: its uid is written into
`uncountedTerminatedPods`, the finalizer is taken off, and only then the pod is counted, so that none is counted twice
or forgotten wherever this process ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from kubegate.api import Object, selectors
from kubegate.api.clock import parse_rfc3339, rfc3339
from kubegate.api.status import StatusError
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.claims import Owner, claim
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import (
    condition,
    controlled_by,
    controller_keys,
    controller_of,
    controller_reference,
    ending,
    is_true,
    key_of,
    pod_active,
    pod_phase,
    pod_ready,
    split_key,
    tolerant,
)
from kubegate.controllers.replicasets import pod_of
from kubegate.storage import ObjectEvent

_JOBS = "jobs.batch"
_FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
_OWN = "kubernetes.io/job-controller"
_FIRST_BACKOFF, _LONGEST_BACKOFF = 10.0, 600.0
_MOST_AT_ONCE = 500


class Outcome(Struct, frozen=True):
    """How a Job ended: the condition that is told first, the final one, and why."""

    interim: str
    final: str
    reason: str
    message: str


_COMPLETE = Outcome("SuccessCriteriaMet", "Complete", "CompletionsReached", "Reached expected number of succeeded pods")
_BACKOFF = Outcome("FailureTarget", "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
_DEADLINE = Outcome("FailureTarget", "Failed", "DeadlineExceeded", "Job was active longer than specified deadline")


class Jobs(Loop):
    """Keys are `NAMESPACE/NAME`."""

    name = "job-controller"
    _events: Recorder

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "job-controller", world.clock)
        world.reader.subscribe(_JOBS, self._job_changed)
        world.reader.subscribe("pods", self._pod_changed)

    def _job_changed(self, event: ObjectEvent, job: Object, _: Object | None) -> None:
        self.queue.add(key_of(job))

    def _pod_changed(self, event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        for key in controller_keys("Job", pod, previous):
            self.queue.add(key)

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        job = await self._client.get(_JOBS, namespace, name)
        await self._free_orphans(job, namespace, name)
        if job is None or ending(job) or job["spec"].get("managedBy", _OWN) != _OWN:
            return
        selector = selectors.from_object(job["spec"].get("selector"))
        owner = Owner("batch/v1", "Job", _JOBS, job)
        pods = await claim(self._client, owner, selector, "pods", self._reader.list("pods", namespace))
        if _finished(job):
            await self._free(pod for pod in pods if not pod_active(pod))
            return
        await self._step(job, pods)

    # ------------------------------------------------------------------ finalizers
    async def _free_orphans(self, job: Object | None, namespace: str, name: str) -> None:
        """Nobody will count the pods of a Job that is gone: they need not wait for it."""
        uid = job["metadata"]["uid"] if job is not None and not ending(job) else ""
        orphans = []
        for pod in self._reader.list("pods", namespace):
            controller = controller_of(pod) or {}
            if controller.get("kind") == "Job" and controller.get("name") == name and controller["uid"] != uid:
                orphans.append(pod)
        await self._free(orphans)

    async def _free(self, pods: Iterable[Object]) -> None:
        for pod in pods:
            metadata = pod["metadata"]
            if _FINALIZER in (metadata.get("finalizers") or ()):
                kept = [one for one in metadata["finalizers"] if one != _FINALIZER]
                changed = {**pod, "metadata": {**metadata, "finalizers": kept}}
                await tolerant(self._client.update("pods", metadata["namespace"], metadata["name"], changed))

    # ------------------------------------------------------------------ one step
    async def _step(self, job: Object, pods: list[Object]) -> None:
        spec, before, now = job["spec"], job.get("status") or {}, self._clock.now()
        status, waiting = self._counted(job, pods)
        suspended = bool(spec.get("suspend"))
        outcome = _interim(job) or self._outcome(job, status, pods, now)
        active = [pod for pod in pods if pod_active(pod)]
        if outcome is None and not suspended and "startTime" not in status:
            status["startTime"] = rfc3339(now)
        failure: StatusError | None = None
        if outcome is not None:
            await self._delete(job, active)
            active = []
        elif suspended:
            await self._delete(job, active)
            active = []
            status.pop("startTime", None)
        else:
            failure = await self._manage(job, status, pods, active)
            found = self._reader.list("pods", job["metadata"]["namespace"])
            active = [pod for pod in controlled_by(job, found) if pod_active(pod)]
        events = self._conditions(status, outcome, suspended, bool(waiting))
        terminating = sum(1 for pod in pods if ending(pod) and pod_phase(pod) not in ("Succeeded", "Failed"))
        status |= {
            "active": len(active),
            "ready": sum(1 for pod in active if pod_ready(pod)),
            "terminating": terminating,
        }
        status = {name: value for name, value in status.items() if name != "active" or value}
        if status != before:
            namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
            written = await tolerant(self._client.update_status(_JOBS, namespace, name, {**job, "status": status}))
            if written is None:
                return
            for sort, reason, message in events:
                record = self._events.normal if sort == "Normal" else self._events.warning
                await record("batch/v1", "Job", job, reason, message)
        await self._free(waiting)
        if failure is not None:
            raise failure

    def _counted(self, job: Object, pods: list[Object]) -> tuple[Object, list[Object]]:
        """The status with all counted whose finalizers are off, and the pods whose finalizers may come off now."""
        status = {**(job.get("status") or {})}
        uncounted = {**(status.get("uncountedTerminatedPods") or {})}
        by_uid = {pod["metadata"]["uid"]: pod for pod in pods}
        for sort in ("succeeded", "failed"):
            left = []
            for uid in uncounted.get(sort) or ():
                pod = by_uid.get(uid)
                if pod is not None and _FINALIZER in (pod["metadata"].get("finalizers") or ()):
                    left.append(uid)
                else:
                    status[sort] = status.get(sort, 0) + 1
            uncounted[sort] = left
        indexed, waiting = job["spec"].get("completionMode") == "Indexed", []
        done = set(_indexes(status.get("completedIndexes", "")))
        for pod in pods:
            uid, phase = pod["metadata"]["uid"], pod_phase(pod)
            if _FINALIZER not in (pod["metadata"].get("finalizers") or ()):
                continue
            sort = "succeeded" if phase == "Succeeded" else "failed" if phase == "Failed" or ending(pod) else ""
            if not sort:
                continue
            waiting.append(pod)
            if indexed and sort == "succeeded":
                done.add(index_of(pod))
            if uid not in uncounted[sort] and not (job["spec"].get("suspend") and sort == "failed"):
                uncounted[sort] = [*uncounted[sort], uid]
        status["uncountedTerminatedPods"] = {sort: uids for sort, uids in uncounted.items() if uids}
        if indexed and done:
            status["completedIndexes"] = _ranges(done)
        return status, waiting

    def _outcome(self, job: Object, status: Object, pods: list[Object], now: float) -> Outcome | None:
        spec = job["spec"]
        succeeded, failed = _total(status, "succeeded"), _total(status, "failed")
        restarts = 0
        if (spec["template"]["spec"].get("restartPolicy")) == "OnFailure":
            restarts = sum(map(_restarts, pods))
        limit = spec.get("backoffLimit", 6)
        if failed > limit or (restarts and restarts >= limit > 0) or (restarts and not limit):
            return _BACKOFF
        deadline, start = spec.get("activeDeadlineSeconds"), status.get("startTime")
        if deadline is not None and start is not None and not spec.get("suspend"):
            left = parse_rfc3339(start) + deadline - now
            if left <= 0:
                return _DEADLINE
            self.queue.add_at(key_of(job), self._clock.monotonic() + left)
        completions = spec.get("completions")
        if completions is None:
            active = any(pod_active(pod) for pod in pods)
            return _COMPLETE if succeeded and not active else None
        return _COMPLETE if succeeded >= completions else None

    def _conditions(
        self, status: Object, outcome: Outcome | None, suspended: bool, waiting: bool
    ) -> list[tuple[str, str, str]]:
        """Write what there is to say into `status`; the events to tell once it is stored: (type, reason, message)."""
        now = rfc3339(self._clock.now())
        found = condition({"status": status}, "Suspended")
        paused = found is not None and found["status"] == "True"
        if outcome is not None:
            _add(status, outcome.interim, outcome.reason, outcome.message, now)
            if waiting or status.get("uncountedTerminatedPods"):
                return []
            _add(status, outcome.final, outcome.reason, outcome.message, now)
            if outcome.final == "Complete":
                status["completionTime"] = now
                return [("Normal", "Completed", "Job completed")]
            return [("Warning", outcome.reason, outcome.message)]
        if suspended == paused:
            return []
        reason, message = ("JobSuspended", "Job suspended") if suspended else ("JobResumed", "Job resumed")
        others = [one for one in status.get("conditions") or () if one["type"] != "Suspended"]
        status["conditions"] = [*others, _condition("Suspended", suspended, reason, message, now)]
        return [("Normal", "Suspended" if suspended else "Resumed", message)]

    # ------------------------------------------------------------------ pods
    async def _manage(
        self, job: Object, status: Object, pods: list[Object], active: list[Object]
    ) -> StatusError | None:
        """As many active pods as there should be; the first error, after which it is tried again later."""
        spec, succeeded = job["spec"], _total(status, "succeeded")
        parallel, completions = spec.get("parallelism", 1), spec.get("completions")
        if completions is None:
            wanted = parallel if not succeeded else min(len(active), parallel)
        else:
            wanted = min(parallel, max(completions - succeeded, 0))
        if spec.get("podReplacementPolicy") == "Failed":
            wanted -= sum(1 for pod in pods if ending(pod) and pod_phase(pod) not in ("Succeeded", "Failed"))
        if len(active) > wanted:
            await self._delete(job, sorted(active, key=pod_ready)[: len(active) - max(wanted, 0)])
            return None
        missing = min(wanted - len(active), _MOST_AT_ONCE)
        if missing <= 0 or self._backs_off(job, pods):
            return None
        indexes: Sequence[int | None] = [None] * missing
        if spec.get("completionMode") == "Indexed":
            taken = set(_indexes(status.get("completedIndexes", ""))) | {index_of(pod) for pod in active}
            indexes = [index for index in range(completions or 0) if index not in taken][:missing]
        for index in indexes:
            try:
                made = await self._client.create("pods", job["metadata"]["namespace"], _pod(job, index))
            except StatusError as error:
                await self._events.warning("batch/v1", "Job", job, "FailedCreate", f"Error creating: {error}")
                return error
            message = f"Created pod: {made['metadata']['name']}"
            await self._events.normal("batch/v1", "Job", job, "SuccessfulCreate", message)
        return None

    def _backs_off(self, job: Object, pods: list[Object]) -> bool:
        """After failures the next pod waits: 10 seconds, and twice as long each time."""
        ends = [_ended_at(pod) for pod in pods if pod_phase(pod) == "Failed"]
        last = max((end for end in ends if end is not None), default=None)
        if last is None:
            return False
        left = last + min(_FIRST_BACKOFF * 2 ** (len(ends) - 1), _LONGEST_BACKOFF) - self._clock.now()
        if left <= 0:
            return False
        self.queue.add_at(key_of(job), self._clock.monotonic() + left)
        return True

    async def _delete(self, job: Object, pods: list[Object]) -> None:
        for pod in pods:
            name = pod["metadata"]["name"]
            await tolerant(self._client.delete("pods", pod["metadata"]["namespace"], name))
            await self._events.normal("batch/v1", "Job", job, "SuccessfulDelete", f"Deleted pod: {name}")


def index_of(pod: Object) -> int:
    """The completion index of an Indexed Job's pod; -1 where it has none."""
    value = str((pod["metadata"].get("annotations") or {}).get(INDEX, ""))
    return int(value) if value.isdigit() else -1


def _pod(job: Object, index: int | None) -> Object:
    pod = pod_of(job, controller_reference("batch/v1", "Job", job))
    metadata = pod["metadata"]
    metadata["finalizers"] = [*(metadata.get("finalizers") or ()), _FINALIZER]
    if index is None:
        return pod
    name, text = job["metadata"]["name"], str(index)
    metadata["generateName"] = f"{name}-{text}-"
    metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX: text}
    metadata["labels"] = {**(metadata.get("labels") or {}), INDEX: text}
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
    variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}
    spec = {**pod["spec"], "hostname": f"{name}-{text}"}
    for sort in ("initContainers", "containers"):
        if spec.get(sort):
            spec[sort] = [{**one, "env": [*(one.get("env") or ()), variable]} for one in spec[sort]]
    return {**pod, "spec": spec}


def _finished(job: Object) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def _interim(job: Object) -> Outcome | None:
    """What was decided already, though not all pods are counted."""
    for sort, final in (("SuccessCriteriaMet", "Complete"), ("FailureTarget", "Failed")):
        found = condition(job, sort)
        if found is not None and found["status"] == "True":
            return Outcome(sort, final, found.get("reason", ""), found.get("message", ""))
    return None


def _condition(sort: str, value: bool, reason: str, message: str, now: str) -> Object:
    return {
        "type": sort,
        "status": "True" if value else "False",
        "lastProbeTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }


def _add(status: Object, sort: str, reason: str, message: str, now: str) -> None:
    if condition({"status": status}, sort) is None:
        new = _condition(sort, True, reason, message, now)
        status["conditions"] = [*(status.get("conditions") or ()), new]


def _total(status: Object, sort: str) -> int:
    return int(status.get(sort, 0)) + len((status.get("uncountedTerminatedPods") or {}).get(sort) or ())


def _restarts(pod: Object) -> int:
    status = pod.get("status") or {}
    found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return sum(one.get("restartCount", 0) for one in found) if pod_phase(pod) in ("Running", "Pending") else 0


def _ended_at(pod: Object) -> float | None:
    ends = []
    for one in (pod.get("status") or {}).get("containerStatuses") or ():
        finished = ((one.get("state") or {}).get("terminated") or {}).get("finishedAt")
        if finished:
            ends.append(parse_rfc3339(finished))
    return max(ends, default=None)


def _indexes(text: str) -> list[int]:
    """`0-2,5` as numbers."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _ranges(indexes: set[int]) -> str:
    """Numbers as `0-2,5`; two in a row are told apart: `3,4`."""
    runs: list[list[int]] = []
    for index in sorted(index for index in indexes if index >= 0):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(
        str(first) if first == last else f"{first}{',' if last == first + 1 else '-'}{last}" for first, last in runs
    )


def build() -> Jobs:
    return Jobs()
