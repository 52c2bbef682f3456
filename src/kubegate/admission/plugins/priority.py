"""Priority: the number and the preemption policy behind a pod's priority class; one class at most is the default.

Follows k8s.io/kubernetes/plugin/pkg/admission/priority.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pods import spec_of
from kubegate.admission.refusal import forbidden
from kubegate.api import Object

CLASSES = "priorityclasses.scheduling.k8s.io"

# They are stored objects as well, but a pod of the control plane shall not wait for them to be made.
_SYSTEM_CLASSES: dict[str, Object] = {
    "system-cluster-critical": {"value": 2_000_000_000, "preemptionPolicy": "PreemptLowerPriority"},
    "system-node-critical": {"value": 2_000_001_000, "preemptionPolicy": "PreemptLowerPriority"},
}
_NO_CLASS: Object = {"value": 0, "preemptionPolicy": "PreemptLowerPriority"}


class Priority:
    name = "Priority"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"pods", CLASSES})
    changes = True

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader = dependencies.reader

    async def admit(self, attributes: Attributes) -> None:
        if attributes.group_resource != "pods" or attributes.object is None:
            return
        spec = spec_of(attributes.object)
        if attributes.operation is Operation.UPDATE:
            # Clients that never heard of these fields leave them out; what was given at creation stays.
            old = (attributes.old_object or {}).get("spec") or {}
            for field in ("priority", "preemptionPolicy"):
                if spec.get(field) is None and old.get(field) is not None:
                    spec[field] = old[field]
            return
        given = self._class_of(attributes, spec)
        value, policy = given.get("value", 0), given.get("preemptionPolicy")
        if spec.get("priority") is not None and spec["priority"] != value:
            raise forbidden(
                attributes,
                f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name",
            )
        spec["priority"] = value
        if policy is not None:
            if spec.get("preemptionPolicy") is not None and spec["preemptionPolicy"] != policy:
                raise forbidden(
                    attributes,
                    f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod "
                    f"spec; priority admission controller computed {policy} from the given PriorityClass name",
                )
            spec["preemptionPolicy"] = policy

    async def validate(self, attributes: Attributes) -> None:
        if attributes.group_resource != CLASSES or not (attributes.object or {}).get("globalDefault"):
            return
        default = self._default_class()
        if default is None:
            return
        name = default["metadata"]["name"]
        if attributes.operation is Operation.CREATE or name != (attributes.object or {})["metadata"]["name"]:
            raise forbidden(
                attributes, f"PriorityClass {name} is already marked as default. Only one default can exist"
            )

    def _class_of(self, attributes: Attributes, spec: Object) -> Object:
        """The class that the pod names, the default one (which is written to the pod), or that of no class at all."""
        name = spec.get("priorityClassName") or ""
        if name:
            found = self._reader.get(CLASSES, "", name) or _SYSTEM_CLASSES.get(name)
            if found is None:
                raise forbidden(attributes, f"no PriorityClass with name {name} was found")
            return found
        default = self._default_class()
        if default is None:
            return _NO_CLASS
        spec["priorityClassName"] = default["metadata"]["name"]
        return default

    def _default_class(self) -> Object | None:
        """Of several, made in a race, the one of least value."""
        defaults = [found for found in self._reader.list(CLASSES) if found.get("globalDefault")]
        return min(defaults, key=lambda found: found.get("value", 0), default=None)


def build(dependencies: Dependencies) -> Priority:
    return Priority(dependencies)
