"""Jobs: pods that run to their end, so many times.

Follows pkg/controller/job of Kubernetes v1.36. A pod keeps a finalizer until it is counted: its uid is written into
`uncountedTerminatedPods` (an Indexed Job's into `completedIndexes`), the finalizer is taken off, and only then the pod
is counted, so that none is counted twice or forgotten wherever this process ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from msgspec import Struct

from kubegate.api import Object, selectors
from kubegate.api.clock import parse_rfc3339, rfc3339
from kubegate.api.status import StatusError
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.claims import Owner, claim
from kubegate.controllers.events import Recorder
from kubegate.controllers.jobpods import (
    FINALIZER,
    INDEX,
    all_failures,
    ended_at,
    failed,
    failure_annotations,
    format_indexes,
    index_failed,
    index_of,
    indexes_of,
    judged,
    parse_indexes,
    restarts,
    success_rule,
    terminating,
    tracked,
)
from kubegate.controllers.objects import (
    condition,
    controller_keys,
    controller_of,
    controller_reference,
    created_at,
    ending,
    is_true,
    key_of,
    namespace_ends,
    pod_active,
    pod_phase,
    pod_ready,
    split_key,
    tolerant,
)
from kubegate.controllers.replicasets import pod_of
from kubegate.storage import ObjectEvent

_JOBS = "jobs.batch"
_OWN = "kubernetes.io/job-controller"
_FIRST_BACKOFF, _LONGEST_BACKOFF = 10.0, 600.0
_MOST_AT_ONCE = 500
_MOST_UNCOUNTED = 500
_PHASES = {"Pending": 0, "": 0, "Unknown": 1, "Running": 2}


class Outcome(Struct, frozen=True):
    """How a Job ended: the condition that is told first, the final one, and why."""

    interim: str
    final: str
    reason: str
    message: str


def _failure(reason: str, message: str) -> Outcome:
    return Outcome("FailureTarget", "Failed", reason, message)


_COMPLETE = Outcome("SuccessCriteriaMet", "Complete", "CompletionsReached", "Reached expected number of succeeded pods")
_BACKOFF = _failure("BackoffLimitExceeded", "Job has reached the specified backoff limit")
_DEADLINE = _failure("DeadlineExceeded", "Job was active longer than specified deadline")
_TOO_MANY_INDEXES = _failure(
    "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
)
_INDEXES = _failure("FailedIndexes", "Job has failed indexes")


class Backoff(Struct, frozen=True):
    """Failures since the last success, and when the last of them was."""

    failures: int = 0
    last: float = 0.0

    def left(self, now: float) -> float:
        """How long the next pod waits: 10 seconds after the first failure, and twice as long each time."""
        if not self.failures:
            return 0.0
        return self.last + min(_FIRST_BACKOFF * 2.0 ** min(self.failures - 1, 10), _LONGEST_BACKOFF) - now


class Look(Struct):
    """One look at a Job: what was found, and what becomes of it on the way."""

    job: Object
    status: Object
    pods: list[Object]
    active: int
    ready: int
    terminating: int
    succeeded: int
    failed: int
    backoff: Backoff
    done: set[int]
    given_up: set[int] | None
    """Indexes that failed for good; None where the Job has no limit for each index."""
    last_failed: dict[int, Object]
    """Of each index that waits for its next pod, the last that failed: it stays until that one knows how often."""
    outcome: Outcome | None = None

    @property
    def spec(self) -> Object:
        found: Object = self.job["spec"]
        return found

    @property
    def indexed(self) -> bool:
        return bool(self.spec.get("completionMode") == "Indexed")

    @property
    def suspended(self) -> bool:
        return bool(self.spec.get("suspend"))


class Jobs(Loop):
    """Keys are `NAMESPACE/NAME`."""

    name = "job-controller"
    _events: Recorder

    def __init__(self) -> None:
        super().__init__()
        self._backoffs: dict[str, Backoff] = {}

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
        if controller_of(pod) is None and event is not ObjectEvent.DELETED:
            labels = pod["metadata"].get("labels") or {}
            for job in self._reader.list(_JOBS, pod["metadata"]["namespace"]) if labels else ():
                if selectors.from_object(job["spec"].get("selector")).matches(labels):
                    self.queue.add(key_of(job))

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        job = await self._client.get(_JOBS, namespace, name)
        if job is None or _finished(job):
            self._backoffs.pop(key, None)
        pods: list[Object] = []
        ours = job is not None and job["spec"].get("managedBy", _OWN) == _OWN
        if job is not None and ours:
            owner = Owner("batch/v1", "Job", _JOBS, job, FINALIZER)
            selector = selectors.from_object(job["spec"].get("selector"))
            pods = await claim(self._client, owner, selector, "pods", self._reader.list("pods", namespace))
        await self._free_orphans(job, namespace, name)
        if job is None or not ours:
            return
        if _finished(job):
            await self._free(pods)
            return
        await self._step(key, job, pods)

    # ------------------------------------------------------------------ finalizers
    async def _free_orphans(self, job: Object | None, namespace: str, name: str) -> None:
        """Nobody will count the pods of a Job that is gone, or let them go: they need not wait for it."""
        uid, orphans = job["metadata"]["uid"] if job is not None else "", []
        for pod in self._reader.list("pods", namespace):
            controller = controller_of(pod) or {"kind": "Job", "name": name, "uid": None}
            if controller["kind"] == "Job" and controller["name"] == name and controller["uid"] != uid:
                orphans.append(pod)
        await self._free(orphans)

    async def _free(self, pods: Iterable[Object]) -> None:
        for pod in pods:
            if not tracked(pod):
                continue
            metadata = pod["metadata"]
            # As it is now: it may have been deleted a moment ago.
            current = await self._client.get("pods", metadata["namespace"], metadata["name"])
            if current is None or current["metadata"]["uid"] != metadata["uid"] or not tracked(current):
                continue
            current["metadata"]["finalizers"].remove(FINALIZER)
            await tolerant(self._client.update("pods", metadata["namespace"], metadata["name"], current))

    # ------------------------------------------------------------------ one step
    async def _step(self, key: str, job: Object, pods: list[Object]) -> None:
        look = self._look(key, job, pods)
        now = self._clock.now()
        if "startTime" not in look.status and not look.suspended:
            look.status["startTime"] = rfc3339(now)
        look.outcome = self._outcome(key, look, now)
        failure: StatusError | None = None
        told: list[tuple[str, str]] = []
        active = [pod for pod in pods if pod_active(pod)]
        if look.outcome is not None:
            await self._delete(look, active)
        else:
            if not ending(job):
                failure = await self._manage(key, look, active)
            completions = look.spec.get("completions")
            if not look.active and (look.succeeded > 0 if completions is None else look.succeeded >= completions):
                look.outcome = _COMPLETE
            elif not ending(job):
                told = self._suspension(look)
        await self._track(key, look, told)
        if failure is not None:
            raise failure

    def _look(self, key: str, job: Object, pods: list[Object]) -> Look:
        spec, status = job["spec"], {**(job.get("status") or {})}
        uncounted = status.get("uncountedTerminatedPods") or {}
        status["uncountedTerminatedPods"] = {sort: list(uids) for sort, uids in uncounted.items()}
        active = [pod for pod in pods if pod_active(pod)]
        look = Look(
            job,
            status,
            pods,
            active=len(active),
            ready=sum(map(pod_ready, active)),
            terminating=sum(map(terminating, pods)),
            succeeded=0,
            failed=0,
            backoff=Backoff(),
            done=set(),
            given_up=None,
            last_failed={},
        )

        def new(sort: str, ended: Callable[[Object], bool]) -> list[Object]:
            """Those that are not counted, nor about to be."""
            known = uncounted.get(sort) or ()
            return [pod for pod in pods if _valid(look, pod) and pod["metadata"]["uid"] not in known and ended(pod)]

        successes = new("succeeded", lambda pod: pod_phase(pod) == "Succeeded")
        failures = new("failed", lambda pod: failed(job, pod))
        look.succeeded = status.get("succeeded", 0) + len(successes) + len(uncounted.get("succeeded") or ())
        look.failed = status.get("failed", 0) + len(uncounted.get("failed") or ())
        look.failed += sum(judged(job, pod).counts for pod in failures)
        look.backoff = _backoff(self._backoffs.get(key, Backoff()), successes, failures)
        if look.indexed:
            valid, completions = [pod for pod in pods if _valid(look, pod)], spec["completions"]
            look.done = {index for index in parse_indexes(status.get("completedIndexes", "")) if index < completions}
            look.done |= indexes_of(pod for pod in valid if pod_phase(pod) == "Succeeded")
            look.succeeded = len(look.done)
            if spec.get("backoffLimitPerIndex") is not None:
                given_up = {index for index in parse_indexes(status.get("failedIndexes", "")) if index < completions}
                look.given_up = given_up | indexes_of(pod for pod in valid if index_failed(job, pod))
                look.last_failed = _last_failed(look, [pod for pod in valid if failed(job, pod)], indexes_of(active))
        return look

    def _outcome(self, key: str, look: Look, now: float) -> Outcome | None:
        """How the Job ends by what was decided before, by its policies or its limits; None: not by these."""
        job, spec = look.job, look.spec
        decided = _interim(job)
        if decided is not None:
            return decided
        for pod in look.pods:
            message = judged(job, pod).message if failed(job, pod) else None
            if message is not None:
                return _failure("PodFailurePolicy", message)
        limit = spec.get("backoffLimit", 6)
        if look.failed > limit:
            return _BACKOFF
        if spec["template"]["spec"].get("restartPolicy") == "OnFailure":
            again = sum(map(restarts, look.pods))
            if again > 0 and again >= limit:
                return _BACKOFF
        deadline, start = spec.get("activeDeadlineSeconds"), look.status.get("startTime")
        if deadline is not None and start is not None and not look.suspended:
            left = parse_rfc3339(start) + deadline - now
            if left <= 0:
                return _DEADLINE
            self.queue.add_at(key, self._clock.monotonic() + left)
        if look.given_up:
            most = spec.get("maxFailedIndexes")
            if most is not None and len(look.given_up) > most:
                return _TOO_MANY_INDEXES
            if len(look.given_up) + len(look.done) >= spec["completions"]:
                return _INDEXES
        rule = success_rule(job, look.done) if look.indexed else None
        if rule is None:
            return None
        return Outcome("SuccessCriteriaMet", "Complete", "SuccessPolicy", f"Matched rules at index {rule}")

    def _suspension(self, look: Look) -> list[tuple[str, str]]:
        """Say in the status whether the Job waits; (reason, message) of the event where that is news."""
        suspended, now = look.suspended, rfc3339(self._clock.now())
        reason, message = ("JobSuspended", "Job suspended") if suspended else ("JobResumed", "Job resumed")
        if not _set(look.status, "Suspended", suspended, reason, message, now):
            return []
        if suspended:
            look.status.pop("startTime", None)
        else:
            look.status["startTime"] = now  # the deadline is counted from here
        return [("Suspended" if suspended else "Resumed", message)]

    async def _track(self, key: str, look: Look, told: list[tuple[str, str]]) -> None:
        """Count the pods that ended, and let them go; then, if that was all, say that the Job has ended."""
        job, status, outcome = look.job, look.status, look.outcome
        before, now = job.get("status") or {}, rfc3339(self._clock.now())
        for name in ("active", "ready", "terminating"):
            status[name] = getattr(look, name)
        _count(status, {pod["metadata"]["uid"] for pod in look.pods if tracked(pod)})
        freed, all_of_them = self._ended(look)
        if look.indexed:
            status["completedIndexes"], status["succeeded"] = format_indexes(look.done), len(look.done)
            if look.given_up is not None:
                status["failedIndexes"] = format_indexes(look.given_up)
        if outcome is not None:
            _set(status, outcome.interim, True, outcome.reason, outcome.message, now)
        written = await self._write(job, before, status)
        if written is None:
            return
        for reason, message in told:
            await self._events.normal("batch/v1", "Job", job, reason, message)
        self._backoffs[key] = look.backoff
        await self._free(freed)
        gone = {pod["metadata"]["uid"] for pod in freed}
        _count(status, {pod["metadata"]["uid"] for pod in look.pods if tracked(pod)} - gone)
        uncounted = status["uncountedTerminatedPods"]
        ends = outcome if all_of_them and not any(uncounted.values()) and not look.terminating else None
        if ends is not None:
            _set(status, ends.final, True, ends.reason, ends.message, now)
            if ends.final == "Complete":
                status["completionTime"] = now
        if await self._write(written, written.get("status") or {}, status) is None or ends is None:
            return
        if ends.final == "Failed":
            await self._events.warning("batch/v1", "Job", job, ends.reason, ends.message)
            return
        completions = look.spec.get("completions")
        if completions is not None and status.get("succeeded", 0) > completions:
            text = "Too many succeeded pods running after completion count reached"
            await self._events.warning("batch/v1", "Job", job, "TooManySucceededPods", text)
        await self._events.normal("batch/v1", "Job", job, "Completed", "Job completed")

    def _ended(self, look: Look) -> tuple[list[Object], bool]:
        """Write into the status which pods are to be counted; those whose finalizers may come off, and whether all."""
        job, outcome, uncounted = look.job, look.outcome, look.status["uncountedTerminatedPods"]
        freed: list[Object] = []
        fails = outcome is not None and outcome.final == "Failed"  # and with it what has not ended
        waiting = {pod["metadata"]["uid"] for pod in look.last_failed.values()}
        for pod in sorted(look.pods, key=index_of) if look.indexed else look.pods:
            uid, succeeded, lost = pod["metadata"]["uid"], pod_phase(pod) == "Succeeded", failed(job, pod)
            if not tracked(pod):
                continue
            if not (ending(job) or outcome is not None or succeeded or (lost and uid not in waiting)):
                continue
            freed.append(pod)
            known = [*uncounted.get("succeeded", ()), *uncounted.get("failed", ())]
            if uid in known:
                continue
            if succeeded:
                if not look.indexed:  # the index tells that this pod was counted
                    uncounted.setdefault("succeeded", []).append(uid)
            elif (lost or fails) and _valid(look, pod) and judged(job, pod).counts:
                uncounted.setdefault("failed", []).append(uid)
            if len(known) + 1 >= _MOST_UNCOUNTED:
                return freed, False
        return freed, True

    async def _write(self, job: Object, before: Object, status: Object) -> Object | None:
        """The Job as it is stored then; None where it is gone."""
        kept = {name: value for name, value in status.items() if value or name not in _OMITTED}
        kept["uncountedTerminatedPods"] = {
            sort: list(uids) for sort, uids in status["uncountedTerminatedPods"].items() if uids
        }
        if kept == before:
            return job
        metadata = job["metadata"]
        changed = {**job, "status": kept}
        return await tolerant(self._client.update_status(_JOBS, metadata["namespace"], metadata["name"], changed))

    # ------------------------------------------------------------------ pods
    async def _manage(self, key: str, look: Look, active: list[Object]) -> StatusError | None:
        """As many active pods as there should be; the first error, after which it is tried again later."""
        spec, completions = look.spec, look.spec.get("completions")
        if look.suspended:
            await self._remove(look, active)
            return None
        parallel = spec.get("parallelism", 1)
        if completions is None:
            wanted = len(active) if look.succeeded else parallel
        else:
            wanted = min(parallel, max(completions - look.succeeded, 0))
        excess = _excess(look, active, max(len(active) - wanted, 0))[:_MOST_AT_ONCE]
        if excess:
            await self._remove(look, excess)
            return None
        only_failed = spec.get("podReplacementPolicy") == "Failed"
        missing = wanted - len(active) - (look.terminating if only_failed else 0)
        if missing <= 0:
            return None
        now = self._clock.now()
        if look.given_up is None and (left := look.backoff.left(now)) > 0:
            self.queue.add_at(key, self._clock.monotonic() + left)
            return None
        indexes: Sequence[int | None] = [None] * min(missing, _MOST_AT_ONCE)
        if look.indexed:
            taken = look.done | indexes_of(active) | (look.given_up or set())
            if only_failed:
                taken |= indexes_of(filter(terminating, look.pods))
            free = list(islice((index for index in range(completions or 0) if index not in taken), len(indexes)))
            waits = {index: self._wait(look, index, now) for index in free}
            indexes = [index for index in free if waits[index] <= 0]
            if free and not indexes:
                self.queue.add_at(key, self._clock.monotonic() + min(waits.values()))
        return await self._create(look, indexes)

    def _wait(self, look: Look, index: int, now: float) -> float:
        """How long an index waits for its next pod, where each has its own limit."""
        last = look.last_failed.get(index)
        return 0.0 if last is None else Backoff(all_failures(last) + 1, ended_at(last)).left(now)

    async def _create(self, look: Look, indexes: Sequence[int | None]) -> StatusError | None:
        job = look.job
        for index in indexes:
            pod = _pod(job, index)
            if index is not None and look.given_up is not None:
                pod["metadata"]["annotations"] |= failure_annotations(job, look.last_failed.get(index))
            try:
                made = await self._client.create("pods", job["metadata"]["namespace"], pod)
            except StatusError as error:
                if namespace_ends(error):
                    return None
                await self._events.warning("batch/v1", "Job", job, "FailedCreate", f"Error creating: {error}")
                return error
            look.active += 1
            message = f"Created pod: {made['metadata']['name']}"
            await self._events.normal("batch/v1", "Job", job, "SuccessfulCreate", message)
        return None

    async def _remove(self, look: Look, pods: list[Object]) -> None:
        """Delete pods that are not to be counted."""
        await self._free(pods)
        await self._delete(look, pods)

    async def _delete(self, look: Look, pods: list[Object]) -> None:
        for pod in pods:
            name = pod["metadata"]["name"]
            await tolerant(self._client.delete("pods", pod["metadata"]["namespace"], name))
            await self._events.normal("batch/v1", "Job", look.job, "SuccessfulDelete", f"Deleted pod: {name}")
            look.active -= 1
            look.terminating += 1
            look.ready -= pod_ready(pod)


_OMITTED = ("active", "succeeded", "failed", "completedIndexes", "conditions")


def _valid(look: Look, pod: Object) -> bool:
    """Whether the pod is to be counted: those of an Indexed Job have an index of its."""
    if not tracked(pod):
        return False
    return not look.indexed or 0 <= index_of(pod) < look.spec["completions"]


def _backoff(before: Backoff, successes: list[Object], failures: list[Object]) -> Backoff:
    """A success forgets all failures before it."""
    ends = sorted(map(ended_at, failures))
    if successes:
        last = max(map(ended_at, successes))
        ends, before = [end for end in ends if end > last], Backoff()
    return Backoff(before.failures + len(ends), ends[-1]) if ends else before


def _last_failed(look: Look, pods: list[Object], active: set[int]) -> dict[int, Object]:
    """Of each index that neither runs nor has ended, its last failed pod."""
    found: dict[int, Object] = {}
    for pod in pods:
        index = index_of(pod)
        if index in look.done or index in (look.given_up or ()) or index in active:
            continue
        last = found.get(index)
        if last is None or (all_failures(last) <= all_failures(pod) and ended_at(pod) >= ended_at(last)):
            found[index] = pod
    return found


def _excess(look: Look, active: list[Object], at_least: int) -> list[Object]:
    """Pods to be removed: a second one of an index, one without, and as many as are too much; least missed first."""
    pods, removed = sorted(active, key=_rank), []
    if look.indexed:
        kept: dict[int, Object] = {}
        for pod in reversed(pods):
            index = index_of(pod)
            if 0 <= index < look.spec["completions"] and index not in kept:
                kept[index] = pod
            else:
                removed.append(pod)
        pods = list(reversed(kept.values()))
    return removed + pods[: max(at_least - len(removed), 0)]


def _rank(pod: Object) -> tuple[bool, int, bool, float]:
    assigned, phase = bool(pod["spec"].get("nodeName")), _PHASES.get(pod_phase(pod), 0)
    return assigned, phase, pod_ready(pod), -created_at(pod)


def _pod(job: Object, index: int | None) -> Object:
    pod = pod_of(job, controller_reference("batch/v1", "Job", job))
    metadata = pod["metadata"]
    given = list(metadata.get("finalizers") or ())
    metadata["finalizers"] = given if FINALIZER in given else [*given, FINALIZER]
    if index is None:
        return pod
    name, text = job["metadata"]["name"], str(index)
    ending_of_name = f"-{text}-"
    metadata["generateName"] = f"{name}{ending_of_name}"
    if len(metadata["generateName"]) > _LONGEST_GENERATED:
        metadata["generateName"] = metadata["generateName"][: _LONGEST_GENERATED - len(ending_of_name)] + ending_of_name
    metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX: text}
    metadata["labels"] = {**(metadata.get("labels") or {}), INDEX: text}
    spec = {**pod["spec"], "hostname": f"{name}-{text}"}
    for sort in ("initContainers", "containers"):
        if spec.get(sort):
            spec[sort] = [_told_its_index(one) for one in spec[sort]]
    return {**pod, "spec": spec}


_LONGEST_GENERATED = 58


def _told_its_index(container: Object) -> Object:
    variables = container.get("env") or []
    if any(variable["name"] == "JOB_COMPLETION_INDEX" for variable in variables):
        return container
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*variables, {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}]}


def _finished(job: Object) -> bool:
    return is_true(job, "Complete") or is_true(job, "Failed")


def _interim(job: Object) -> Outcome | None:
    """What was decided already, though not all pods are counted."""
    for sort, final in (("SuccessCriteriaMet", "Complete"), ("FailureTarget", "Failed")):
        found = condition(job, sort)
        if found is not None and found["status"] == "True":
            return Outcome(sort, final, found.get("reason", ""), found.get("message", ""))
    return None


def _set(status: Object, sort: str, value: bool, reason: str, message: str, now: str) -> bool:
    """Write a condition; whether it says something new. One that is False is not begun with."""
    conditions = list(status.get("conditions") or ())
    new = {
        "type": sort,
        "status": "True" if value else "False",
        "lastProbeTime": now,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }
    for position, one in enumerate(conditions):
        if one["type"] == sort:
            if all(one.get(name) == new[name] for name in ("status", "reason", "message")):
                return False
            conditions[position] = new
            break
    else:
        if not value:
            return False
        conditions.append(new)
    status["conditions"] = conditions
    return True


def _count(status: Object, waiting: set[str]) -> None:
    """Count the pods whose finalizers are off: they are no longer `waiting`."""
    uncounted = status["uncountedTerminatedPods"]
    for sort, uids in uncounted.items():
        left = [uid for uid in uids if uid in waiting]
        status[sort] = status.get(sort, 0) + len(uids) - len(left)
        uncounted[sort] = left


def build() -> Jobs:
    return Jobs()
