"""ExtendedResourceToleration: who asks for a device tolerates the taint that keeps others off its nodes.

Follows k8s.io/kubernetes/plugin/pkg/admission/extendedresourcetoleration.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pods import spec_of
from kubegate.admission.quota import is_extended

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
        for name in sorted(asked):
            wanted = {"key": name, "operator": "Exists", "effect": "NoSchedule"}
            given = spec.get("tolerations") or []
            same = [all(t.get(field, "") == wanted.get(field, "") for field in _IDENTITY) for t in given]
            if any(same):
                # Without the seconds, which are for other effects.
                spec["tolerations"] = [wanted if found else t for t, found in zip(given, same, strict=True)]
            else:
                spec["tolerations"] = [*given, wanted]


def build(dependencies: Dependencies) -> ExtendedResourceToleration:
    return ExtendedResourceToleration()
