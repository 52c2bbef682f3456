"""DefaultTolerationSeconds: pods stay a while on a node that is not ready or not to be reached.

Follows k8s.io/kubernetes/plugin/pkg/admission/defaulttolerationseconds.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pods import spec_of

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"


class DefaultTolerationSeconds:
    name = "DefaultTolerationSeconds"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"pods"})
    changes = True

    def __init__(self, not_ready_seconds: int, unreachable_seconds: int) -> None:
        self._seconds = {NOT_READY: not_ready_seconds, UNREACHABLE: unreachable_seconds}

    async def admit(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        spec = spec_of(attributes.object)
        given = spec.get("tolerations") or []
        tolerated = {toleration.get("key", "") for toleration in given if _of_no_execute(toleration)}
        missing = [key for key in self._seconds if key not in tolerated and "" not in tolerated]
        if missing:
            spec["tolerations"] = given + [
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": self._seconds[key]}
                for key in missing
            ]


def _of_no_execute(toleration: dict[str, str]) -> bool:
    return toleration.get("effect", "") in ("", "NoExecute")


def build(dependencies: Dependencies) -> DefaultTolerationSeconds:
    options = dependencies.options
    return DefaultTolerationSeconds(
        options.default_not_ready_toleration_seconds, options.default_unreachable_toleration_seconds
    )
