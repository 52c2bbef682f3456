"""PodTolerationRestriction: which tolerations a namespace's pods get, and which they may have.

Follows k8s.io/kubernetes/plugin/pkg/admission/podtolerationrestriction.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from kubegate.admission import Attributes, Operation
from kubegate.admission.config import ConfigurationError, only
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pods import annotations_of, spec_of
from kubegate.admission.quota import is_best_effort
from kubegate.admission.refusal import unexpected
from kubegate.admission.tolerations import allowed, merge
from kubegate.api import Object
from kubegate.api.status import not_found

DEFAULTS = "scheduler.alpha.kubernetes.io/defaultTolerations"
WHITELIST = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"

_MEMORY_PRESSURE: Object = {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}
_GROUP_VERSIONS = ("podtolerationrestriction.admission.k8s.io/v1alpha1",)


class PodTolerationRestriction:
    name = "PodTolerationRestriction"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"pods"})
    changes = True

    def __init__(
        self, dependencies: Dependencies, defaults: Sequence[Object] = (), whitelist: Sequence[Object] = ()
    ) -> None:
        self._reader, self._writer = dependencies.reader, dependencies.writer
        self._defaults, self._whitelist = tuple(defaults), tuple(whitelist)

    async def admit(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        spec = spec_of(attributes.object)
        more: list[Object] = []
        if attributes.operation is Operation.CREATE:
            defaults = await self._of_namespace(attributes, DEFAULTS)
            more += self._defaults if defaults is None else defaults
        if not is_best_effort(attributes.object):
            # Such a pod may stay where memory is short: others are evicted before it.
            more.append(_MEMORY_PRESSURE)
        if more:
            spec["tolerations"] = [dict(toleration) for toleration in merge(spec.get("tolerations") or [], more)]
        await self.validate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        found = spec_of(attributes.object or {}).get("tolerations") or []
        if not found:
            return
        scope, whitelist = "namespace", await self._of_namespace(attributes, WHITELIST)
        if whitelist is None:
            scope, whitelist = "cluster", list(self._whitelist)
        if not allowed(found, whitelist):
            raise unexpected(
                "pod tolerations (possibly merged with namespace default tolerations) conflict with its "
                f"{scope} whitelist"
            )

    async def _of_namespace(self, attributes: Attributes, annotation: str) -> list[Object] | None:
        name = attributes.namespace
        namespace = self._reader.get("namespaces", "", name) or await self._writer.get("namespaces", "", name)
        if namespace is None:
            raise not_found("", "namespaces", name)
        text = annotations_of(namespace).get(annotation)
        if text is None:
            return None
        if not text:
            return []
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise unexpected(f"annotation {annotation} of namespace {name} is not JSON") from error
        if not isinstance(found, list) or not all(map(_is_toleration, found)):
            raise unexpected(f"annotation {annotation} of namespace {name} is no list of tolerations")
        return found


def _is_toleration(found: object) -> bool:
    return isinstance(found, dict) and all(
        value is None or isinstance(value, int if name == "tolerationSeconds" else str) for name, value in found.items()
    )


def build(dependencies: Dependencies) -> PodTolerationRestriction:
    configuration = dependencies.configuration("PodTolerationRestriction")
    where = "PodTolerationRestriction"
    only(configuration, ("apiVersion", "kind", "default", "whitelist"), where)
    if configuration and configuration.get("apiVersion") not in _GROUP_VERSIONS:
        raise ConfigurationError(f"{where}: apiVersion must be {_GROUP_VERSIONS[0]}")
    return PodTolerationRestriction(
        dependencies, configuration.get("default") or (), configuration.get("whitelist") or ()
    )
