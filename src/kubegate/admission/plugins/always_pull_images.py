"""AlwaysPullImages: who runs a pod shows each time that it may pull its images.

Follows k8s.io/kubernetes/plugin/pkg/admission/alwayspullimages.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pods import containers, spec_of
from kubegate.admission.refusal import forbidden, unexpected
from kubegate.api import Object
from kubegate.api.field import FieldError, aggregate, not_supported


class AlwaysPullImages:
    name = "AlwaysPullImages"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"pods"})
    changes = True

    async def admit(self, attributes: Attributes) -> None:
        if attributes.object is None or _has_no_new_images(attributes):
            return
        spec = spec_of(attributes.object)
        for _, container in containers(spec):
            container["imagePullPolicy"] = "Always"
        for volume in spec.get("volumes") or ():
            if volume.get("image") is not None:
                volume["image"]["pullPolicy"] = "Always"

    async def validate(self, attributes: Attributes) -> None:
        if attributes.object is None or _has_no_new_images(attributes):
            return
        spec = spec_of(attributes.object)
        errors: list[FieldError] = []
        for path, container in containers(spec):
            policy = container.get("imagePullPolicy", "")
            if policy != "Always":
                errors.append(not_supported(f"{path}.imagePullPolicy", policy, ["Always"]))
        for position, volume in enumerate(spec.get("volumes") or ()):
            policy = (volume.get("image") or {}).get("pullPolicy", "")
            if volume.get("image") is not None and policy != "Always":
                errors.append(not_supported(f"spec.volumes[{position}].image.pullPolicy", policy, ["Always"]))
        if errors:
            # kube-apiserver puts several refusals together, and what comes of that is none: it answers 500
            raise unexpected(aggregate([forbidden(attributes, str(error)).message for error in errors]))


def _has_no_new_images(attributes: Attributes) -> bool:
    if attributes.operation is not Operation.UPDATE:
        return False
    return _images(attributes.object or {}) <= _images(attributes.old_object or {})


def _images(pod: Object) -> set[str]:
    spec = pod.get("spec") or {}
    found = {container.get("image", "") for _, container in containers(spec)}
    return found | {
        volume["image"].get("reference", "") for volume in spec.get("volumes") or () if volume.get("image") is not None
    }


def build(dependencies: Dependencies) -> AlwaysPullImages:
    return AlwaysPullImages()
