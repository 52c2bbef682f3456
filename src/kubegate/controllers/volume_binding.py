"""Claims and volumes find each other. Follows pkg/controller/volume/persistentvolume of Kubernetes v1.36.

Volumes are those that somebody made: what a class provisions by itself is left to its provisioner, whom the claim's
annotations name. Claims of classes that wait for their first consumer wait for a scheduler to choose the node.
"""

from __future__ import annotations

import re

from kubegate.api import Object, selectors
from kubegate.api.quantity import parse
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.claim_protection import claims_of
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import created_at, ending, key_of, pod_phase, reference_to, split_key, tolerant
from kubegate.storage import ObjectEvent

_CLAIMS, _VOLUMES, _CLASSES = "persistentvolumeclaims", "persistentvolumes", "storageclasses.storage.k8s.io"
_BOUND = "pv.kubernetes.io/bind-completed"
_BY_US = "pv.kubernetes.io/bound-by-controller"
_PROVISIONED = "pv.kubernetes.io/provisioned-by"
_PROVISIONERS = ("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner")
_NODE = "volume.kubernetes.io/selected-node"
_DEFAULT_CLASSES = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
_NOTHING_FITS = "no persistent volumes available for this claim and no storage class is set"
_EXTERNAL = (
    "Waiting for a volume to be created either by the external provisioner '{0}' or manually by the system "
    "administrator. If volume creation is delayed, please verify that the provisioner is running and correctly "
    "registered."
)


class Binder(Loop):
    """Keys are `NAMESPACE/NAME` of claims and `NAME` of volumes."""

    name = "persistentvolume-binder-controller"
    account = "persistent-volume-binder"
    _events: Recorder

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "persistentvolume-controller", world.clock)
        world.reader.subscribe(_CLAIMS, self._claim_changed)
        world.reader.subscribe(_VOLUMES, self._volume_changed)

    def _claim_changed(self, event: ObjectEvent, claim: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED:
            self.queue.add(key_of(claim))
        if claim["spec"].get("volumeName"):
            self.queue.add(claim["spec"]["volumeName"])

    def _volume_changed(self, event: ObjectEvent, volume: Object, previous: Object | None) -> None:
        if event is not ObjectEvent.DELETED:
            self.queue.add(key_of(volume))
        reference = volume["spec"].get("claimRef")
        if reference is not None and reference.get("namespace") and reference.get("name"):
            self.queue.add(f"{reference['namespace']}/{reference['name']}")
        if _phase(volume) == "Available" and (previous is None or _phase(previous) != "Available"):
            for claim in self._reader.list(_CLAIMS):
                if _BOUND not in _annotations(claim):
                    self.queue.add(key_of(claim))

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        if not namespace:
            volume = await self._client.get(_VOLUMES, "", name)
            if volume is not None:
                await self._sync_volume(volume)
            return
        claim = await self._client.get(_CLAIMS, namespace, name)
        if claim is None:
            return
        if _BOUND in _annotations(claim):
            await self._sync_bound(claim)
        elif not ending(claim):
            await self._sync_unbound(claim)

    # ------------------------------------------------------------------ claims
    async def _sync_unbound(self, claim: Object) -> None:
        named = claim["spec"].get("volumeName")
        if not named:
            storage_class, waits = self._class(claim)
            volume = self._match(claim, waits)
            if volume is not None:
                await self._bind(volume, claim)
            elif await self._unmatched(claim, storage_class, waits):
                await self._say(claim, "Pending")
            return
        volume = await self._client.get(_VOLUMES, "", named)
        if volume is None:
            await self._say(claim, "Pending")
        elif _is_of(volume, claim):
            await self._bind(volume, claim)
        elif volume["spec"].get("claimRef") is not None:
            text = f'volume "{named}" already bound to a different claim.'
            await self._events.warning("v1", "PersistentVolumeClaim", claim, "FailedBinding", text)
            await self._say(claim, "Pending")
        elif (mismatch := _mismatch(volume, claim)) is not None:
            text = f'Cannot bind to requested volume "{named}": {mismatch}'
            await self._events.warning("v1", "PersistentVolumeClaim", claim, "VolumeMismatch", text)
            await self._say(claim, "Pending")
        else:
            await self._bind(volume, claim)

    async def _unmatched(self, claim: Object, storage_class: Object | None, waits: bool) -> bool:
        """No volume is there for the claim: tell why, or ask for one. Whether the claim is Pending by that."""
        if "storageClassName" not in claim["spec"] and _OLD_CLASS not in _annotations(claim):
            usual = self._default_class()
            if usual is not None:
                spec = {**claim["spec"], "storageClassName": usual}
                await self._update(_CLAIMS, {**claim, "spec": spec})
                return False
        if waits and _NODE not in _annotations(claim):
            reason, text = self._awaited(claim)
            await self._events.normal("v1", "PersistentVolumeClaim", claim, reason, text)
        elif _class_name(claim):
            await self._provision(claim, storage_class)
            return False
        else:
            await self._events.normal("v1", "PersistentVolumeClaim", claim, "FailedBinding", _NOTHING_FITS)
        return True

    async def _provision(self, claim: Object, storage_class: Object | None) -> None:
        """Name who is to make the volume."""
        failure = None
        if storage_class is None:
            failure = f'storageclass.storage.k8s.io "{_class_name(claim)}" not found'
        elif storage_class["provisioner"].startswith("kubernetes.io/"):
            failure = f"no volume plugin matched name: {storage_class['provisioner']}"
        if failure is not None or storage_class is None:
            await self._events.warning("v1", "PersistentVolumeClaim", claim, "ProvisioningFailed", failure or "")
            return
        provisioner = storage_class["provisioner"]
        wanted = {**_annotations(claim), **dict.fromkeys(_PROVISIONERS, provisioner)}
        if wanted != _annotations(claim):
            claim = {**claim, "metadata": {**claim["metadata"], "annotations": wanted}}
            if await self._update(_CLAIMS, claim) is None:
                return
        text = _EXTERNAL.format(provisioner)
        await self._events.normal("v1", "PersistentVolumeClaim", claim, "ExternalProvisioning", text)

    def _awaited(self, claim: Object) -> tuple[str, str]:
        """(reason, message): what a claim waits for whose class binds with the first consumer."""
        metadata = claim["metadata"]
        pods = [
            pod["metadata"]["name"]
            for pod in self._reader.list("pods", metadata["namespace"])
            if metadata["name"] in claims_of(pod)
            and pod_phase(pod) not in ("Succeeded", "Failed")
            and not pod["spec"].get("nodeName")
        ]
        if pods:
            word = "pod" if len(pods) == 1 else "pods"
            return "WaitForPodScheduled", f"waiting for {word} {','.join(pods)} to be scheduled"
        return "WaitForFirstConsumer", "waiting for first consumer to be created before binding"

    def _class(self, claim: Object) -> tuple[Object | None, bool]:
        """The claim's class, and whether it waits for a consumer."""
        found = self._reader.get(_CLASSES, "", _class_name(claim)) if _class_name(claim) else None
        return found, found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"

    def _default_class(self) -> str | None:
        """The newest that is the default."""
        found = [
            one
            for one in self._reader.list(_CLASSES)
            if any(_annotations(one).get(name) == "true" for name in _DEFAULT_CLASSES)
        ]
        newest = sorted(found, key=lambda one: (-created_at(one), one["metadata"]["name"]))
        return str(newest[0]["metadata"]["name"]) if newest else None

    def _match(self, claim: Object, waits: bool) -> Object | None:
        """The volume that was made for the claim, or the smallest with the fewest access modes that is enough."""
        selector = claim["spec"].get("selector")
        wanted = None if selector is None else selectors.from_object(selector)
        found = []
        for volume in self._reader.list(_VOLUMES):
            spec = volume["spec"]
            if ending(volume) or _too_small(volume, claim) or _mode(volume) != _mode(claim):
                continue
            if spec.get("volumeAttributesClassName") != claim["spec"].get("volumeAttributesClassName"):
                continue
            if not set(claim["spec"].get("accessModes") or ()) <= set(spec.get("accessModes") or ()):
                continue
            if _is_of(volume, claim):
                return volume
            if waits or spec.get("claimRef") is not None or _phase(volume) != "Available":
                continue
            if wanted is not None and not wanted.matches(volume["metadata"].get("labels")):
                continue
            if _class_name(volume) == _class_name(claim):
                found.append(volume)
        return min(found, key=lambda one: (len(one["spec"].get("accessModes") or ()), _size(one)), default=None)

    async def _sync_bound(self, claim: Object) -> None:
        named = claim["spec"].get("volumeName")
        if not named:
            text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
            await self._lost(claim, "ClaimLost", text)
            return
        volume = await self._client.get(_VOLUMES, "", named)
        if volume is None:
            await self._lost(
                claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
            )
        elif (volume["spec"].get("claimRef") or {"uid": claim["metadata"]["uid"]}).get("uid") == claim["metadata"][
            "uid"
        ]:
            await self._bind(volume, claim)
        else:
            text = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._lost(claim, "ClaimMisbound", text)

    async def _lost(self, claim: Object, reason: str, text: str) -> None:
        if await self._say(claim, "Lost"):
            await self._events.warning("v1", "PersistentVolumeClaim", claim, reason, text)

    # ------------------------------------------------------------------ binding
    async def _bind(self, volume: Object, claim: Object) -> None:
        """The volume names the claim, then the claim the volume: each write is a step that may be begun again."""
        metadata, reference = claim["metadata"], volume["spec"].get("claimRef")
        if reference is None or reference.get("uid") != metadata["uid"]:
            spec = {**volume["spec"], "claimRef": reference_to("v1", "PersistentVolumeClaim", claim)}
            annotations = _annotations(volume) | ({} if _is_of(volume, claim) else {_BY_US: "yes"})
            changed = {**volume, "metadata": _annotated(volume, annotations), "spec": spec}
            written = await self._update(_VOLUMES, changed)
            if written is None:
                return
            volume = written
        await self._phase(volume, "Bound")
        annotations = {**_annotations(claim), _BOUND: "yes"}
        spec = claim["spec"]
        if spec.get("volumeName") != volume["metadata"]["name"]:
            annotations[_BY_US] = "yes"
            spec = {**spec, "volumeName": volume["metadata"]["name"]}
        if spec is not claim["spec"] or annotations != _annotations(claim):
            written = await self._update(_CLAIMS, {**claim, "metadata": _annotated(claim, annotations), "spec": spec})
            if written is None:
                return
            claim = written
        await self._say(claim, "Bound", volume)

    async def _say(self, claim: Object, phase: str, volume: Object | None = None) -> bool:
        """Write the claim's phase, and what it has got; whether that is news."""
        before = claim.get("status") or {}
        status = {name: value for name, value in before.items() if name not in ("accessModes", "capacity")}
        status["phase"] = phase
        if volume is not None:
            status["accessModes"] = volume["spec"].get("accessModes") or []
            # What a class grows is written by whoever grows it.
            status["capacity"] = before.get("capacity") or volume["spec"]["capacity"]
            attributes = claim["spec"].get("volumeAttributesClassName")
            if attributes and "currentVolumeAttributesClassName" not in status:
                status["currentVolumeAttributesClassName"] = attributes
        if status == before:
            return False
        metadata = claim["metadata"]
        changed = {**claim, "status": status}
        return (
            await tolerant(self._client.update_status(_CLAIMS, metadata["namespace"], metadata["name"], changed))
            is not None
        )

    # ------------------------------------------------------------------ volumes
    async def _sync_volume(self, volume: Object) -> None:
        reference = volume["spec"].get("claimRef")
        if reference is None or not reference.get("uid"):
            await self._phase(volume, "Available")
            return
        claim = await self._client.get(_CLAIMS, reference.get("namespace", ""), reference.get("name", ""))
        if claim is None or claim["metadata"]["uid"] != reference["uid"]:
            if _phase(volume) not in ("Released", "Failed"):
                released = await self._phase(volume, "Released")
                if released is None:
                    return
                volume = released
            await self._reclaim(volume)
        elif not claim["spec"].get("volumeName"):
            self.queue.add(key_of(claim))
        elif claim["spec"]["volumeName"] == volume["metadata"]["name"]:
            await self._phase(volume, "Bound")
        else:
            await self._unbind(volume)

    async def _unbind(self, volume: Object) -> None:
        """The claim has another volume: this one is free again, or waits for the claim that it was made for."""
        spec, annotations = {**volume["spec"]}, _annotations(volume)
        if _BY_US in annotations:
            del spec["claimRef"], annotations[_BY_US]
        else:
            spec["claimRef"] = {name: value for name, value in spec["claimRef"].items() if name != "uid"}
        written = await self._update(_VOLUMES, {**volume, "metadata": _annotated(volume, annotations), "spec": spec})
        if written is not None:
            await self._phase(written, "Available")

    async def _reclaim(self, volume: Object) -> None:
        """A volume that is to be deleted with its claim is, where that takes no provisioner of its own."""
        name, policy = volume["metadata"]["name"], volume["spec"].get("persistentVolumeReclaimPolicy")
        if policy != "Delete" or _PROVISIONED in _annotations(volume) or ending(volume):
            return
        path = (volume["spec"].get("hostPath") or {}).get("path")
        if path is None:
            failure = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
        elif re.match("/tmp/.+", path) is None:
            failure = f"host_path deleter only supports /tmp/.+ but received provided {path}"
        else:
            await tolerant(self._client.delete(_VOLUMES, "", name))
            return
        if await self._phase(volume, "Failed", failure) not in (None, volume):
            await self._events.warning("v1", "PersistentVolume", volume, "VolumeFailedDelete", failure)

    async def _phase(self, volume: Object, phase: str, message: str = "") -> Object | None:
        """The volume with its phase written; None where it is gone."""
        before = volume.get("status") or {}
        status = {name: value for name, value in before.items() if name not in ("message", "reason")}
        status |= {"phase": phase, **({"message": message} if message else {})}
        if status == before:
            return volume
        changed = {**volume, "status": status}
        return await tolerant(self._client.update_status(_VOLUMES, "", volume["metadata"]["name"], changed))

    async def _update(self, resource: str, obj: Object) -> Object | None:
        metadata = obj["metadata"]
        return await tolerant(self._client.update(resource, metadata.get("namespace", ""), metadata["name"], obj))


def _annotations(obj: Object) -> dict[str, str]:
    return dict(obj["metadata"].get("annotations") or {})


def _annotated(obj: Object, annotations: dict[str, str]) -> Object:
    kept = {name: value for name, value in obj["metadata"].items() if name != "annotations"}
    return {**kept, **({"annotations": annotations} if annotations else {})}


def _phase(volume: Object) -> str:
    return str((volume.get("status") or {}).get("phase", ""))


def _class_name(obj: Object) -> str:
    """Of a claim or a volume."""
    return str(_annotations(obj).get(_OLD_CLASS) or obj["spec"].get("storageClassName") or "")


def _mode(obj: Object) -> str:
    return str(obj["spec"].get("volumeMode") or "Filesystem")


def _size(volume: Object) -> int:
    return parse(str((volume["spec"].get("capacity") or {}).get("storage", "0"))).value()


def _too_small(volume: Object, claim: Object) -> bool:
    wanted = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0")
    return _size(volume) < parse(str(wanted)).value()


def _is_of(volume: Object, claim: Object) -> bool:
    """Whether the volume names the claim, by its uid where it has one."""
    reference, metadata = volume["spec"].get("claimRef"), claim["metadata"]
    if reference is None or (reference.get("namespace"), reference.get("name")) != (
        metadata["namespace"],
        metadata["name"],
    ):
        return False
    return reference.get("uid") in (None, "", metadata["uid"])


def _mismatch(volume: Object, claim: Object) -> str | None:
    """Why a volume that a claim names is not for it."""
    if _too_small(volume, claim):
        return "requested PV is too small"
    if _class_name(volume) != _class_name(claim):
        return "storageClassName does not match"
    if volume["spec"].get("volumeAttributesClassName") != claim["spec"].get("volumeAttributesClassName"):
        return "volumeAttributesClassName does not match"
    if _mode(volume) != _mode(claim):
        return "incompatible volumeMode"
    if not set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ()):
        return "incompatible accessMode"
    return None


def build() -> Binder:
    return Binder()
