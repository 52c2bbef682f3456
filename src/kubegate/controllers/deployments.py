"""Deployments: a ReplicaSet for each template they have had, and the rollout from one to the next.

Follows pkg/controller/deployment of Kubernetes v1.36: what was decided there in which order shows in revisions,
conditions and events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from kubegate.api import Object, selectors
from kubegate.api.clock import Clock, rfc3339
from kubegate.api.status import StatusError
from kubegate.controllers import Client, World
from kubegate.controllers import deploymentstatus as states
from kubegate.controllers.base import Loop
from kubegate.controllers.claims import Owner, claim
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import (
    condition,
    controlled_by,
    controller_keys,
    controller_of,
    controller_reference,
    created_at,
    ending,
    key_of,
    namespace_ends,
    pod_phase,
    split_key,
    tolerant,
)
from kubegate.controllers.templates import template_hash
from kubegate.storage import ObjectEvent, Reader

_DEPLOYMENTS, _REPLICA_SETS = "deployments.apps", "replicasets.apps"
_HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
_HISTORY = "deployment.kubernetes.io/revision-history"
_DESIRED = "deployment.kubernetes.io/desired-replicas"
_MAX = "deployment.kubernetes.io/max-replicas"
# Annotations of a Deployment that its ReplicaSets do not get.
_OWN_ANNOTATIONS = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        _HISTORY,
        _DESIRED,
        _MAX,
        "deprecated.deployment.rollback.to",
    }
)
_MOST_HISTORY = 2000


class Deployments(Loop):
    """Keys are `NAMESPACE/NAME`."""

    name = "deployment-controller"
    _events: Recorder

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "deployment-controller", world.clock)
        world.reader.subscribe(_DEPLOYMENTS, self._there)
        world.reader.subscribe(_REPLICA_SETS, self._replica_set_changed)
        world.reader.subscribe("pods", self._pod_changed)

    def _replica_set_changed(self, event: ObjectEvent, replicas: Object, previous: Object | None) -> None:
        for key in controller_keys("Deployment", replicas, previous):
            self.queue.add(key)
        if controller_of(replicas) is None and event is not ObjectEvent.DELETED:
            labels = replicas["metadata"].get("labels") or {}
            for deployment in self._reader.list(_DEPLOYMENTS, replicas["metadata"]["namespace"]) if labels else ():
                if selectors.from_object(deployment["spec"]["selector"]).matches(labels):
                    self.queue.add(key_of(deployment))

    def _pod_changed(self, event: ObjectEvent, pod: Object, _: Object | None) -> None:
        """A Deployment that is recreated waits for the last of its old pods."""
        controller, namespace = controller_of(pod), pod["metadata"]["namespace"]
        if event is not ObjectEvent.DELETED or controller is None or controller["kind"] != "ReplicaSet":
            return
        replicas = self._reader.get(_REPLICA_SETS, namespace, controller["name"])
        owner = controller_of(replicas) if replicas is not None else None
        if owner is not None:
            deployment = self._reader.get(_DEPLOYMENTS, namespace, owner["name"])
            if deployment is not None and _recreated(deployment):
                self.queue.add(key_of(deployment))

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        deployment = await self._client.get(_DEPLOYMENTS, namespace, name)
        if deployment is None:
            return
        selector = selectors.from_object(deployment["spec"]["selector"])
        if selector.empty:
            return
        claimant = Owner("apps/v1", "Deployment", _DEPLOYMENTS, deployment)
        candidates = self._reader.list(_REPLICA_SETS, namespace)
        found = await claim(self._client, claimant, selector, _REPLICA_SETS, candidates)
        rollout = Rollout(self._client, self._events, self._reader, self._clock, deployment, found)
        again = await rollout.run()
        if again is not None:
            self.queue.add_at(key, self._clock.monotonic() + again)


class Rollout(Struct):
    """One look at one Deployment and its ReplicaSets, and the next step from there.

    A step ends with the status; what it changed wakes the controller for the step after it.
    """

    client: Client
    events: Recorder
    reader: Reader
    clock: Clock
    deployment: Object
    replica_sets: list[Object]
    new: Object | None = None
    old: list[Object] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return str(self.deployment["metadata"]["namespace"])

    @property
    def wanted(self) -> int:
        return int(self.deployment["spec"].get("replicas", 1))

    @property
    def all(self) -> list[Object]:
        return [*self.old, self.new] if self.new is not None else list(self.old)

    async def run(self) -> float | None:
        """Seconds after which to look again, None where nothing but a change calls for it."""
        deployment = self.deployment
        if ending(deployment):
            await self._find_new(create=False)
            await self._write_status(states.status_of(deployment, self.all, self.new, self._now()))
            return None
        await self._note_pause()
        paused = bool(self.deployment["spec"].get("paused"))
        if paused or self._scaled():
            await self._find_new(create=False)
            await self._scale_all()
            if paused:
                await self._clean()
            await self._write_status(states.status_of(self.deployment, self.all, self.new, self._now()))
            return None
        moved = await (self._recreate() if _recreated(deployment) else self._roll())
        if not moved and states.complete(
            self.deployment, states.status_of(self.deployment, self.all, self.new, self._now())
        ):
            await self._clean()
        status = states.progressed(self.deployment, self.all, self.new, self._now())
        await self._write_status(status)
        return states.stuck_after(self.deployment, status, self.clock.now())

    def _now(self) -> str:
        return rfc3339(self.clock.now())

    async def _write_status(self, status: Object, annotations: Object | None = None) -> None:
        metadata = self.deployment["metadata"]
        if annotations is not None:
            metadata = {**metadata, "annotations": annotations}
        elif status == (self.deployment.get("status") or {}):
            return
        changed = {**self.deployment, "metadata": metadata, "status": status}
        self.deployment = await self.client.update_status(_DEPLOYMENTS, self.namespace, metadata["name"], changed)

    async def _note_pause(self) -> None:
        """Time does not run out for what is paused: its Progressing condition says so."""
        spec = self.deployment["spec"]
        if not states.has_deadline(self.deployment):
            return
        found, paused = condition(self.deployment, "Progressing"), bool(spec.get("paused"))
        if found is not None and found.get("reason") == "ProgressDeadlineExceeded":
            return
        was = found is not None and found.get("reason") == "DeploymentPaused"
        if paused == was:
            return
        said = (
            ("DeploymentPaused", "Deployment is paused") if paused else ("DeploymentResumed", "Deployment is resumed")
        )
        status = dict(self.deployment.get("status") or {})
        status["conditions"] = states.with_condition(status, "Progressing", "Unknown", *said, self._now())
        await self._write_status(status)

    def _scaled(self) -> bool:
        """Whether the number of replicas was changed since the ReplicaSets were last sized."""
        for replicas in self.replica_sets:
            desired = _annotations(replicas).get(_DESIRED)
            if replicas["spec"].get("replicas", 0) > 0 and desired is not None and desired != str(self.wanted):
                return True
        return False

    # ------------------------------------------------------------------ revisions
    async def _find_new(self, *, create: bool) -> None:
        """Sort the ReplicaSets into the one of the present template, made where there is none, and the others."""
        template = _plain(self.deployment["spec"]["template"])
        same = [one for one in self.replica_sets if _plain(one["spec"]["template"]) == template]
        self.new = min(same, key=_age) if same else None
        uid = self.new["metadata"]["uid"] if self.new is not None else ""
        self.old = [one for one in self.replica_sets if one["metadata"]["uid"] != uid]
        revision = max((_revision(one) for one in self.old), default=0) + 1
        if self.new is not None:
            await self._renew(self.new, revision)
        elif create:
            await self._create_new(revision)

    async def _renew(self, replicas: Object, revision: int) -> None:
        annotations = _annotated(self.deployment, replicas, revision)
        seconds = self.deployment["spec"].get("minReadySeconds", 0)
        if annotations != _annotations(replicas) or replicas["spec"].get("minReadySeconds", 0) != seconds:
            spec = {**replicas["spec"], "minReadySeconds": seconds}
            replicas = await self._update(replicas, spec, annotations)
        self.new = replicas
        await self._say_revision(replicas, "FoundNewReplicaSet", "Found new replica set", always=False)

    async def _say_revision(self, replicas: Object, reason: str, text: str, *, always: bool) -> None:
        before, revision = _annotations(self.deployment), _annotations(replicas).get(REVISION, "")
        status = dict(self.deployment.get("status") or {})
        missing = condition(self.deployment, "Progressing") is None
        says = states.has_deadline(self.deployment) and (always or missing)
        if says:
            message = f'{text} "{replicas["metadata"]["name"]}"'
            status["conditions"] = states.with_condition(status, "Progressing", "True", reason, message, self._now())
        if says or before.get(REVISION) != revision:
            await self._write_status(status, {**before, REVISION: revision})

    async def _create_new(self, revision: int) -> None:
        deployment, spec = self.deployment, self.deployment["spec"]
        collisions = (deployment.get("status") or {}).get("collisionCount")
        digest = template_hash(spec["template"], collisions)
        name = f"{deployment['metadata']['name']}-{digest}"
        template = spec["template"]
        labels = {**((template.get("metadata") or {}).get("labels") or {}), _HASH_LABEL: digest}
        template = {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}}
        selector = {**spec["selector"], "matchLabels": {**(spec["selector"].get("matchLabels") or {})}}
        selector["matchLabels"][_HASH_LABEL] = digest
        count = self._new_count(self.old, 0)
        made: Object = {
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": labels,
                "ownerReferences": [controller_reference("apps/v1", "Deployment", deployment)],
            },
            "spec": {"replicas": count, "selector": selector, "template": template},
        }
        if spec.get("minReadySeconds"):
            made["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        made["metadata"]["annotations"] = {**_annotated(deployment, made, revision), **self._size()}
        try:
            self.new = await self.client.create(_REPLICA_SETS, self.namespace, made)
        except StatusError as error:
            if error.reason == "AlreadyExists":
                await self._collided(name, spec["template"], collisions or 0)
            elif not namespace_ends(error):
                text = f'Failed to create new replica set "{name}": {error}'
                await self._failed_to_create(text)
            raise
        if count:
            await self._event("ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {count}")
        await self._say_revision(self.new, "NewReplicaSetCreated", "Created new replica set", always=True)

    async def _collided(self, name: str, template: Object, collisions: int) -> None:
        """Another template has the same hash: the next attempt counts one more collision."""
        there = await self.client.get(_REPLICA_SETS, self.namespace, name)
        if there is None or (
            controlled_by(self.deployment, [there]) and _plain(there["spec"]["template"]) == _plain(template)
        ):
            return
        await self._write_status({**(self.deployment.get("status") or {}), "collisionCount": collisions + 1})

    async def _failed_to_create(self, text: str) -> None:
        status = dict(self.deployment.get("status") or {})
        if states.has_deadline(self.deployment):
            status["conditions"] = states.with_condition(
                status, "Progressing", "False", "ReplicaSetCreateError", text, self._now()
            )
            await self._write_status(status)
        await self.events.warning("apps/v1", "Deployment", self.deployment, "ReplicaSetCreateError", text)

    # ------------------------------------------------------------------ sizes
    def _size(self) -> dict[str, str]:
        surge = states.surge(self.deployment)
        return {_DESIRED: str(self.wanted), _MAX: str(self.wanted + surge)}

    def _new_count(self, others: Iterable[Object], now: int) -> int:
        """How many replicas the new ReplicaSet, which has `now`, may have while the others have theirs."""
        if _recreated(self.deployment):
            return self.wanted
        present, most = _total(others) + now, self.wanted + states.surge(self.deployment)
        return now if present >= most else now + min(most - present, self.wanted - now)

    async def _scale(self, replicas: Object, count: int) -> Object:
        before = replicas["spec"].get("replicas", 0)
        annotations = {**_annotations(replicas), **self._size()}
        if count == before and annotations == _annotations(replicas):
            return replicas
        spec = {**replicas["spec"], "replicas": count}
        changed = await self._update(replicas, spec, annotations)
        if count != before:
            way = "up" if count > before else "down"
            name = replicas["metadata"]["name"]
            await self._event("ScalingReplicaSet", f"Scaled {way} replica set {name} from {before} to {count}")
        return changed

    async def _rescale(self, replicas: Object, count: int) -> bool:
        """Scale one of ours, if that changes its number."""
        if replicas["spec"].get("replicas", 0) == count:
            return False
        changed = await self._scale(replicas, count)
        if self.new is not None and self.new["metadata"]["uid"] == changed["metadata"]["uid"]:
            self.new = changed
        else:
            self.old = [changed if one["metadata"]["uid"] == changed["metadata"]["uid"] else one for one in self.old]
        return True

    async def _update(self, replicas: Object, spec: Object, annotations: Object) -> Object:
        metadata = {**replicas["metadata"], "annotations": annotations}
        changed = {**replicas, "metadata": metadata, "spec": spec}
        return await self.client.update(_REPLICA_SETS, self.namespace, metadata["name"], changed)

    async def _event(self, reason: str, message: str) -> None:
        await self.events.normal("apps/v1", "Deployment", self.deployment, reason, message)

    # ------------------------------------------------------------------ strategies
    async def _roll(self) -> bool:
        """One step of a rolling update; whether anything moved."""
        await self._find_new(create=True)
        assert self.new is not None
        present = self.new["spec"].get("replicas", 0)
        count = self.wanted if present > self.wanted else self._new_count(self.old, present)
        if await self._rescale(self.new, count):
            return True
        return await self._shrink_old()

    async def _shrink_old(self) -> bool:
        assert self.new is not None
        if not _total(self.old):
            return False
        least = self.wanted - states.unavailable(self.deployment)
        pending = self.new["spec"].get("replicas", 0) - _available(self.new)
        room, moved = _total(self.all) - least - pending, False
        if room <= 0:
            return False
        for replicas in sorted(self.old, key=_age):  # first those that do not work anyway
            present = replicas["spec"].get("replicas", 0)
            count = min(room, present - _available(replicas))
            if count > 0:
                room -= count
                moved |= await self._rescale(replicas, present - count)
        spare = sum(map(_available, self.all)) - least
        for replicas in sorted(self.old, key=_age):
            present = replicas["spec"].get("replicas", 0)
            count = min(present, spare)
            if count > 0:
                spare -= count
                moved |= await self._rescale(replicas, present - count)
        return moved

    async def _recreate(self) -> bool:
        """All old pods end before the first new one is made."""
        await self._find_new(create=False)
        moved = False
        for replicas in [one for one in self.old if one["spec"].get("replicas", 0)]:
            moved |= await self._rescale(replicas, 0)
        if moved or self._old_pods_run():
            return True
        if self.new is None:
            await self._find_new(create=True)
        assert self.new is not None
        return await self._rescale(self.new, self.wanted)

    def _old_pods_run(self) -> bool:
        uids = {one["metadata"]["uid"] for one in self.old}
        return any(
            (controller_of(pod) or {}).get("uid") in uids and pod_phase(pod) not in ("Failed", "Succeeded")
            for pod in self.reader.list("pods", self.namespace)
        )

    async def _scale_all(self) -> None:
        """Share a changed number of replicas among the ReplicaSets, each by its size."""
        active = [one for one in self.all if one["spec"].get("replicas", 0) > 0]
        if len(active) <= 1:
            only = active[0] if active else self.new or max(self.old, key=_age, default=None)
            if only is not None:
                await self._rescale(only, self.wanted)
            return
        if self.new is not None and self._saturated(self.new):
            for replicas in [one for one in active if one is not self.new]:
                await self._rescale(replicas, 0)
        elif not _recreated(self.deployment):
            await self._share(active)

    def _saturated(self, replicas: Object) -> bool:
        desired = _annotations(replicas).get(_DESIRED)
        return (
            replicas["spec"].get("replicas", 0) == self.wanted
            and desired == str(self.wanted)
            and _available(replicas) == self.wanted
        )

    async def _share(self, active: Sequence[Object]) -> None:
        most = self.wanted + states.surge(self.deployment) if self.wanted > 0 else 0
        missing = left = most - _total(active)
        # the largest first; of equals the youngest where pods are added, the oldest where they are taken
        order = sorted(active, key=lambda one: created_at(one) * (-1 if missing > 0 else 1))
        order.sort(key=lambda one: -int(one["spec"].get("replicas", 0)))
        counts = {}
        for replicas in order:
            present, uid = replicas["spec"].get("replicas", 0), replicas["metadata"]["uid"]
            counts[uid] = present
            if missing:
                share = self._fraction(replicas)
                share = min(share, left) if missing > 0 else max(share, left)
                counts[uid], left = present + share, left - share
        for position, replicas in enumerate(order):
            count = counts[replicas["metadata"]["uid"]] + (left if position == 0 else 0)
            changed = await self._scale(replicas, max(count, 0))
            if self.new is not None and self.new["metadata"]["uid"] == changed["metadata"]["uid"]:
                self.new = changed
            else:
                self.old = [
                    changed if one["metadata"]["uid"] == changed["metadata"]["uid"] else one for one in self.old
                ]

    def _fraction(self, replicas: Object) -> int:
        """What one ReplicaSet gets more, or less, by its part of what all had."""
        present = replicas["spec"].get("replicas", 0)
        if not self.wanted:
            return -int(present)
        status = self.deployment.get("status") or {}
        had = int(_annotations(replicas).get(_MAX) or status.get("replicas") or 0)
        if not had:
            return 0
        grown = present * (self.wanted + states.surge(self.deployment)) / had
        return int(grown + 0.5) - int(present)

    async def _clean(self) -> None:
        """Forget the oldest revisions beyond spec.revisionHistoryLimit."""
        limit = self.deployment["spec"].get("revisionHistoryLimit", 10)
        old = sorted((one for one in self.old if not ending(one)), key=_revision)
        for replicas in old[: max(len(old) - limit, 0)]:
            status, spec = replicas.get("status") or {}, replicas["spec"]
            seen = status.get("observedGeneration", 0) >= replicas["metadata"]["generation"]
            if status.get("replicas") or spec.get("replicas") or not seen:
                continue
            await tolerant(self.client.delete(_REPLICA_SETS, self.namespace, replicas["metadata"]["name"]))


def _recreated(deployment: Object) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type") == "Recreate")


def _plain(template: Object) -> Object:
    """A template without the label that a ReplicaSet puts on its own."""
    metadata = dict(template.get("metadata") or {})
    labels = {name: value for name, value in (metadata.pop("labels", None) or {}).items() if name != _HASH_LABEL}
    return {"labels": labels, "metadata": metadata, "spec": template["spec"]}


def _annotations(obj: Object) -> dict[str, str]:
    return dict(obj["metadata"].get("annotations") or {})


def _revision(replicas: Object) -> int:
    try:
        return int(_annotations(replicas).get(REVISION, "0"))
    except ValueError:
        return 0


def _annotated(deployment: Object, replicas: Object, revision: int) -> dict[str, str]:
    """A ReplicaSet's annotations: the Deployment's, its revision, and the revisions that it had before."""
    found = _annotations(replicas)
    found |= {name: value for name, value in _annotations(deployment).items() if name not in _OWN_ANNOTATIONS}
    before = found.get(REVISION, "")
    if _revision(replicas) < revision:
        found[REVISION] = str(revision)
        if before:
            history = [one for one in found.get(_HISTORY, "").split(",") if one]
            if before not in history:
                history.append(before)
            while len(",".join(history)) > _MOST_HISTORY:
                history.pop(0)
            found[_HISTORY] = ",".join(history)
    return found


def _age(obj: Object) -> tuple[float, str]:
    return created_at(obj), obj["metadata"]["name"]


def _total(replica_sets: Iterable[Object]) -> int:
    return sum(one["spec"].get("replicas", 0) for one in replica_sets)


def _available(replicas: Object) -> int:
    return int((replicas.get("status") or {}).get("availableReplicas", 0))


def build() -> Deployments:
    return Deployments()
