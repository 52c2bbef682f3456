"""RuntimeClass: what running in a class costs, and where its nodes are.

Follows k8s.io/kubernetes/plugin/pkg/admission/runtimeclass.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pod_resources import amounts
from kubegate.admission.pods import spec_of
from kubegate.admission.refusal import forbidden
from kubegate.admission.tolerations import merge
from kubegate.api import Object

CLASSES = "runtimeclasses.node.k8s.io"

_DIFFERS = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"


class RuntimeClass:
    name = "RuntimeClass"
    handles = frozenset({Operation.CREATE})
    resources = frozenset({"pods"})
    changes = True

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader, self._writer = dependencies.reader, dependencies.writer

    async def admit(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        spec = spec_of(attributes.object)
        found = await self._class_of(attributes, spec)
        if found is None:
            return
        overhead = found.get("overhead")
        if overhead is not None:
            fixed = overhead.get("podFixed") or {}
            if spec.get("overhead") and not _same(spec["overhead"], fixed):
                raise forbidden(attributes, _DIFFERS)
            spec["overhead"] = dict(fixed)
        if found.get("scheduling") is not None:
            _schedule(attributes, spec, found["scheduling"])

    async def validate(self, attributes: Attributes) -> None:
        spec = spec_of(attributes.object or {})
        found = await self._class_of(attributes, spec)
        overhead = (found or {}).get("overhead")
        if overhead is not None:
            if not _same(spec.get("overhead") or {}, overhead.get("podFixed") or {}):
                raise forbidden(attributes, _DIFFERS)
        elif spec.get("overhead"):
            why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise forbidden(attributes, why)

    async def _class_of(self, attributes: Attributes, spec: Object) -> Object | None:
        name = spec.get("runtimeClassName")
        if name is None:
            return None
        found = self._reader.get(CLASSES, "", name) or await self._writer.get(CLASSES, "", name)
        if found is None:
            raise forbidden(attributes, f'pod rejected: RuntimeClass "{name}" not found')
        return found


def _schedule(attributes: Attributes, spec: Object, scheduling: Object) -> None:
    selector = dict(spec.get("nodeSelector") or {})
    for label, value in sorted((scheduling.get("nodeSelector") or {}).items()):
        if selector.get(label, value) != value:
            raise forbidden(
                attributes,
                f"conflict: runtimeClass.scheduling.nodeSelector[{label}] = {value}; "
                f"pod.spec.nodeSelector[{label}] = {selector[label]}",
            )
        selector[label] = value
    if selector:
        spec["nodeSelector"] = selector
    tolerations = merge(spec.get("tolerations") or [], scheduling.get("tolerations") or [])
    if tolerations:
        spec["tolerations"] = [dict(toleration) for toleration in tolerations]


def _same(left: Object, right: Object) -> bool:
    mine, theirs = amounts(left), amounts(right)
    return mine.keys() == theirs.keys() and all(mine[name].compare(theirs[name]) == 0 for name in mine)


def build(dependencies: Dependencies) -> RuntimeClass:
    return RuntimeClass(dependencies)
