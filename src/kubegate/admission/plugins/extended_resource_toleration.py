"""ExtendedResourceToleration: who asks for a device tolerates the taint that keeps others off its nodes.

Follows k8s.io/kubernetes/plugin/pkg/admission/extendedresourcetoleration.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pods import spec_of
from kubegate.admission.quota import is_extended
from kubegate.api import Object

_IDENTITY = ("key", "operator", "value", "effect")


class ExtendedResourceToleration:
    name = "ExtendedResourceToleration"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"pods"})
    changes = True

    async def admit(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        spec = spec_of(attributes.object)
        asked = {
            name
            for sort in ("containers", "initContainers")
            for container in spec.get(sort) or ()
            for name in (container.get("resources") or {}).get("requests") or ()
            if is_extended(name)
        }
        if not asked:
            return
        given = spec.get("tolerations") or []
        there = [tuple(toleration.get(field) or "" for field in _IDENTITY) for toleration in given]
        wanted = {_identity(name): name for name in sorted(asked)}
        # Those that are there lose their seconds, which are for other effects.
        kept = [_toleration(wanted[who]) if who in wanted else own for who, own in zip(there, given, strict=True)]
        missing = wanted.keys() - set(there)
        spec["tolerations"] = kept + [_toleration(name) for who, name in wanted.items() if who in missing]


def _identity(name: str) -> tuple[str, ...]:
    return (name, "Exists", "", "NoSchedule")


def _toleration(name: str) -> Object:
    return {"key": name, "operator": "Exists", "effect": "NoSchedule"}


def build(dependencies: Dependencies) -> ExtendedResourceToleration:
    return ExtendedResourceToleration()
