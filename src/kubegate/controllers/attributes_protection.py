"""VolumeAttributesClasses that claims or volumes have stay; see `claim_protection`, of which this is the third kind."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.controllers import World
from kubegate.controllers.claim_protection import Kind, Protection
from kubegate.storage import ObjectEvent, Reader

_CLASSES = "volumeattributesclasses.storage.k8s.io"


def _names(obj: Object) -> set[str]:
    """Classes that a claim or a volume has, had until now or shall have."""
    status = obj.get("status") or {}
    found = (
        obj["spec"].get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return {name for name in found if name}


def _in_use(reader: Reader, found: Object) -> bool:
    objects = (*reader.list("persistentvolumeclaims"), *reader.list("persistentvolumes"))
    return any(found["metadata"]["name"] in _names(obj) for obj in objects)


class AttributesProtection(Protection):
    """Keys are names of VolumeAttributesClasses."""

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe("persistentvolumeclaims", self._user_changed)
        world.reader.subscribe("persistentvolumes", self._user_changed)

    def _user_changed(self, event: ObjectEvent, obj: Object, previous: Object | None) -> None:
        before = _names(obj if event is ObjectEvent.DELETED else previous or {"spec": {}})
        for name in before - (set() if event is ObjectEvent.DELETED else _names(obj)):
            self.queue.add(name)


def build() -> AttributesProtection:
    name = "volumeattributesclass-protection-controller"
    return AttributesProtection(Kind(name, name, _CLASSES, "kubernetes.io/vac-protection", _in_use))
