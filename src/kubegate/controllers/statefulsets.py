"""StatefulSets: pods with names and claims of their own, made and replaced one after the other.

Follows pkg/controller/statefulset of Kubernetes v1.36.
"""

from __future__ import annotations

import re

from kubegate.api import Object, selectors
from kubegate.api.status import StatusError
from kubegate.controllers import World, revisions
from kubegate.controllers.base import Loop
from kubegate.controllers.claims import Owner, claim
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import (
    controlled_by,
    controller_keys,
    controller_of,
    controller_reference,
    ending,
    pod_available,
    pod_phase,
    pod_ready,
    split_key,
    tolerant,
)
from kubegate.controllers.replicasets import pod_of
from kubegate.controllers.templates import revision_hash
from kubegate.storage import ObjectEvent

_SETS, _CLAIMS = "statefulsets.apps", "persistentvolumeclaims"
_NAME_LABEL, _INDEX_LABEL = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"
_ORDINAL = re.compile(r".*-([0-9]+)")


class StatefulSets(Loop):
    """Keys are `NAMESPACE/NAME`."""

    name = "statefulset-controller"
    _events: Recorder

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "statefulset-controller", world.clock)
        world.reader.subscribe(_SETS, self._there)
        world.reader.subscribe("pods", self._pod_changed)

    def _pod_changed(self, event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        for key in controller_keys("StatefulSet", pod, previous):
            self.queue.add(key)

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        owner = await self._client.get(_SETS, namespace, name)
        if owner is None:
            return
        selector = selectors.from_object(owner["spec"]["selector"])
        mine = Owner("apps/v1", "StatefulSet", _SETS, owner)
        candidates = [pod for pod in self._reader.list("pods", namespace) if _is_named_after(pod, name)]
        pods = await claim(self._client, mine, selector, "pods", candidates)
        update, known = await revisions.current(
            self._reader,
            self._client,
            "StatefulSet",
            owner,
            lambda data: revision_hash(data, (owner.get("status") or {}).get("collisionCount")),
            "controller.kubernetes.io/hash",
        )
        status = owner.get("status") or {}
        present = next((one for one in known if one["metadata"]["name"] == status.get("currentRevision")), update)
        try:
            if not ending(owner):
                await self._step(owner, pods, present, update)
        finally:  # what could not be done does not keep from telling what there is
            pods = controlled_by(owner, self._reader.list("pods", namespace))
            await self._write_status(owner, pods, present, update)
        live = {present["metadata"]["name"], update["metadata"]["name"]} | {_revision(pod) for pod in pods}
        await revisions.forget(self._client, known, live, owner["spec"].get("revisionHistoryLimit", 10))

    async def _step(self, owner: Object, pods: list[Object], present: Object, update: Object) -> None:
        """Create what is missing, each pod after the one before it is available (unless all may start at once)."""
        spec = owner["spec"]
        first, count = (spec.get("ordinals") or {}).get("start", 0), spec.get("replicas", 1)
        ordered = spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        by_ordinal = {_ordinal(pod): pod for pod in pods}
        for ordinal in range(first, first + count):
            pod = by_ordinal.get(ordinal)
            if pod is not None and pod_phase(pod) in ("Failed", "Succeeded"):
                if not ending(pod):
                    await self._delete(owner, pod)
                if ordered:
                    return
            elif pod is None:
                await self._create(owner, ordinal, self._revision_for(owner, ordinal, present, update))
                if ordered:
                    return
            else:
                if pod_phase(pod) == "Pending":
                    await self._claims(owner, ordinal, pod)
                if not self._available(owner, pod):
                    if ordered:
                        return
                else:
                    await self._settle_claims(owner, ordinal, pod, condemned=False)
        surplus = sorted((pod for at, pod in by_ordinal.items() if not first <= at < first + count), key=_ordinal)
        for pod in surplus:
            await self._settle_claims(owner, _ordinal(pod), pod, condemned=True)
        broken = next((pod for pod in surplus if not self._available(owner, pod)), None)
        for pod in reversed(surplus):
            if ordered and (ending(pod) or (pod is not broken and not self._available(owner, pod))):
                return  # waits until it is gone, or until the first that is not available is
            if not ending(pod):
                await self._delete(owner, pod)
            if ordered:
                return
        await self._update(owner, by_ordinal, first, count, update)

    async def _update(
        self, owner: Object, by_ordinal: dict[int, Object], first: int, count: int, update: Object
    ) -> None:
        """Replace the pods of an older template, from the last to the partition, one after the other."""
        strategy = owner["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        for ordinal in range(first + count - 1, first + partition - 1, -1):
            pod = by_ordinal.get(ordinal)
            if pod is None:
                continue
            if _revision(pod) != update["metadata"]["name"] and not ending(pod):
                await self._delete(owner, pod)
                return
            if not self._available(owner, pod):
                return

    def _available(self, owner: Object, pod: Object) -> bool:
        if ending(pod) or pod_phase(pod) != "Running":
            return False
        return pod_available(pod, owner["spec"].get("minReadySeconds", 0), self._clock.now())

    def _revision_for(self, owner: Object, ordinal: int, present: Object, update: Object) -> Object:
        strategy, first = (
            owner["spec"].get("updateStrategy") or {},
            (owner["spec"].get("ordinals") or {}).get("start", 0),
        )
        partition = (strategy.get("rollingUpdate") or {}).get("partition")
        if strategy.get("type") == "RollingUpdate" and partition is not None and ordinal < first + partition:
            return present
        return update

    async def _create(self, owner: Object, ordinal: int, revision: Object) -> None:
        metadata = owner["metadata"]
        name, namespace = f"{metadata['name']}-{ordinal}", metadata["namespace"]
        template = {name: one for name, one in revision["data"]["spec"]["template"].items() if name != "$patch"}
        pod = pod_of(
            {**owner, "spec": {**owner["spec"], "template": template}},
            controller_reference("apps/v1", "StatefulSet", owner),
        )
        pod["metadata"].pop("generateName")
        labels = {**(pod["metadata"].get("labels") or {}), _NAME_LABEL: name, _INDEX_LABEL: str(ordinal)}
        labels[revisions.HASH_LABEL] = revision["metadata"]["name"]
        pod["metadata"] |= {"name": name, "labels": labels}
        spec = {**pod["spec"], "hostname": name}
        if owner["spec"].get("serviceName"):
            spec["subdomain"] = owner["spec"]["serviceName"]
        pod["spec"] = spec
        try:
            claims = await self._claims(owner, ordinal, pod)
            kept = [one for one in spec.get("volumes") or () if one["name"] not in claims]
            if claims:
                volumes = [{"name": one, "persistentVolumeClaim": {"claimName": claims[one]}} for one in claims]
                spec["volumes"] = [*volumes, *kept]
            made = await self._client.create("pods", namespace, pod)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                text = f"create Pod {name} in StatefulSet {metadata['name']} failed error: {error}"
                await self._events.warning("apps/v1", "StatefulSet", owner, "FailedCreate", text)
            raise
        await self._settle_claims(owner, ordinal, made, condemned=False)
        text = f"create Pod {name} in StatefulSet {metadata['name']} successful"
        await self._events.normal("apps/v1", "StatefulSet", owner, "SuccessfulCreate", text)

    async def _claims(self, owner: Object, ordinal: int, pod: Object) -> dict[str, str]:
        """The pod's own claims by the names of their volumes. They are made where they are missing."""
        metadata, found = owner["metadata"], {}
        for template in owner["spec"].get("volumeClaimTemplates") or ():
            name = found[template["metadata"]["name"]] = _claim_name(owner, template, ordinal)
            there = self._reader.get(_CLAIMS, metadata["namespace"], name)
            if there is None:
                await self._create_claim(owner, template, name, pod["metadata"]["name"])
            elif ending(there):
                raise StatusError(500, "", f"pvc {name} is being deleted")
        return found

    async def _create_claim(self, owner: Object, template: Object, name: str, pod_name: str) -> None:
        metadata, given = owner["metadata"], template["metadata"]
        labels = {**(given.get("labels") or {}), **(owner["spec"]["selector"].get("matchLabels") or {})}
        made = {"metadata": {"name": name, "namespace": metadata["namespace"], "labels": labels}}
        if given.get("annotations"):
            made["metadata"]["annotations"] = given["annotations"]
        made["spec"] = template["spec"]
        try:
            await self._client.create(_CLAIMS, metadata["namespace"], made)
        except StatusError as error:
            if error.reason == "AlreadyExists":
                return
            text = f"create Claim {name} for Pod {pod_name} in StatefulSet {metadata['name']} failed error: {error}"
            await self._events.warning("apps/v1", "StatefulSet", owner, "FailedCreate", text)
            raise StatusError(error.code, error.reason, f"failed to create PVC {name}: {error}") from error
        text = f"create Claim {name} Pod {pod_name} in StatefulSet {metadata['name']} success"
        await self._events.normal("apps/v1", "StatefulSet", owner, "SuccessfulCreate", text)

    async def _settle_claims(self, owner: Object, ordinal: int, pod: Object, *, condemned: bool) -> None:
        """Claims outlive the pod, or go with it or with the set, as the set's retention policy says."""
        policy = owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
        scaled, deleted = policy.get("whenScaled") == "Delete", policy.get("whenDeleted") == "Delete"
        of_set = controller_reference("apps/v1", "StatefulSet", owner)
        of_pod = controller_reference("v1", "Pod", pod)
        mine = (of_set["uid"], of_pod["uid"])
        wanted = [of_pod] if scaled and condemned else [of_set] if deleted and not (scaled and condemned) else []
        for template in owner["spec"].get("volumeClaimTemplates") or ():
            name, namespace = _claim_name(owner, template, ordinal), owner["metadata"]["namespace"]
            current = await self._client.get(_CLAIMS, namespace, name)
            if current is None:
                continue
            references = current["metadata"].get("ownerReferences") or []
            controller = controller_of(current)
            kept = [one for one in references if one["uid"] not in mine]
            # Another's claim is left alone.
            after = kept if controller is not None and controller["uid"] not in mine else [*kept, *wanted]
            if after != references:
                changed = {**current, "metadata": {**current["metadata"], "ownerReferences": after}}
                await tolerant(self._client.update(_CLAIMS, namespace, name, changed))

    async def _delete(self, owner: Object, pod: Object) -> None:
        name, owner_name = pod["metadata"]["name"], owner["metadata"]["name"]
        await tolerant(self._client.delete("pods", pod["metadata"]["namespace"], name))
        text = f"delete Pod {name} in StatefulSet {owner_name} successful"
        await self._events.normal("apps/v1", "StatefulSet", owner, "SuccessfulDelete", text)

    async def _write_status(self, owner: Object, pods: list[Object], present: Object, update: Object) -> None:
        before, metadata, wanted = owner.get("status") or {}, owner["metadata"], owner["spec"].get("replicas", 1)
        old, new = present["metadata"]["name"], update["metadata"]["name"]
        stays = [pod for pod in pods if not ending(pod)]
        running = [pod for pod in pods if pod_phase(pod) == "Running" and pod_ready(pod)]
        ready, least, now = len(running), owner["spec"].get("minReadySeconds", 0), self._clock.now()
        rolling = (owner["spec"].get("updateStrategy") or {}).get("type") == "RollingUpdate"
        counts = {"current": _with(stays, old), "updated": _with(stays, new)}
        if rolling and counts["updated"] == wanted == ready and len(pods) == wanted:
            old, counts["current"] = new, counts["updated"]
        status: Object = {
            "observedGeneration": metadata["generation"],
            "replicas": len(pods),
            "currentRevision": old,
            "updateRevision": new,
            "collisionCount": before.get("collisionCount", 0),
            "availableReplicas": sum(1 for pod in running if pod_available(pod, least, now)),
        }
        more = {"readyReplicas": ready, "currentReplicas": counts["current"], "updatedReplicas": counts["updated"]}
        status |= {name: count for name, count in more.items() if count}
        if status != before:
            changed = {**owner, "status": status}
            await tolerant(self._client.update_status(_SETS, metadata["namespace"], metadata["name"], changed))


def _ordinal(pod: Object) -> int:
    found = _ORDINAL.fullmatch(pod["metadata"]["name"])
    return int(found[1]) if found else -1


def _claim_name(owner: Object, template: Object, ordinal: int) -> str:
    return f"{template['metadata']['name']}-{owner['metadata']['name']}-{ordinal}"


def _is_named_after(pod: Object, name: str) -> bool:
    return bool(pod["metadata"]["name"].rpartition("-")[0] == name and _ordinal(pod) >= 0)


def _revision(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(revisions.HASH_LABEL, ""))


def _with(pods: list[Object], revision: str) -> int:
    return sum(1 for pod in pods if _revision(pod) == revision)


def build() -> StatefulSets:
    return StatefulSets()
