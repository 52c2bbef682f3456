"""PodNodeSelector: a namespace's pods run on the nodes that are for it.

Follows k8s.io/kubernetes/plugin/pkg/admission/podnodeselector.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubegate.admission import Attributes, Operation
from kubegate.admission.config import ConfigurationError, only
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pods import annotations_of, spec_of
from kubegate.admission.refusal import unexpected
from kubegate.api import Object
from kubegate.api.field import invalid
from kubegate.api.names import is_qualified_name, is_valid_label_value
from kubegate.api.status import StatusError, forbidden, not_found

ANNOTATION = "scheduler.alpha.kubernetes.io/node-selector"
CLUSTER_DEFAULT = "clusterDefaultNodeSelector"


class SelectorError(ValueError):
    """A text that is no list of `label=value`; the message is kube-apiserver's."""


class PodNodeSelector:
    name = "PodNodeSelector"
    handles = frozenset({Operation.CREATE})
    resources = frozenset({"pods"})
    changes = True

    def __init__(self, dependencies: Dependencies, selectors: Mapping[str, str]) -> None:
        self._reader, self._writer = dependencies.reader, dependencies.writer
        self._selectors = dict(selectors)

    async def admit(self, attributes: Attributes) -> None:
        wanted = await self._of_namespace(attributes)
        spec = spec_of(attributes.object or {})
        own = spec.get("nodeSelector") or {}
        _check_conflict(attributes, wanted, own)
        if wanted or own:
            spec["nodeSelector"] = {**wanted, **own}
        await self.validate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        own = spec_of(attributes.object or {}).get("nodeSelector") or {}
        _check_conflict(attributes, await self._of_namespace(attributes), own)
        whitelist = _parsed(self._selectors.get(attributes.namespace, ""))
        if whitelist and any(whitelist.get(label) != value for label, value in own.items()):
            raise _refused(attributes, "pod node label selector labels conflict with its namespace whitelist")

    async def _of_namespace(self, attributes: Attributes) -> dict[str, str]:
        """The namespace's annotation (also an empty one), else the cluster's default."""
        name = attributes.namespace
        namespace = self._reader.get("namespaces", "", name) or await self._writer.get("namespaces", "", name)
        if namespace is None:
            raise not_found("", "namespaces", name)
        text = annotations_of(namespace).get(ANNOTATION)
        return _parsed(self._selectors.get(CLUSTER_DEFAULT, "") if text is None else text)


def _check_conflict(attributes: Attributes, wanted: Mapping[str, str], own: Mapping[str, str]) -> None:
    if any(label in own and own[label] != value for label, value in wanted.items()):
        raise _refused(attributes, "pod node label selector conflicts with its namespace node label selector")


def _refused(attributes: Attributes, why: str) -> StatusError:
    name = ((attributes.object or {}).get("metadata") or {}).get("name", "")
    return forbidden("", "pods", name, why)


def _parsed(text: str) -> dict[str, str]:
    try:
        return parse(text)
    except SelectorError as error:
        raise unexpected(str(error)) from error


def parse(text: str) -> dict[str, str]:
    """`a=b,c=d` as labels. Raises SelectorError."""
    labels = {}
    for part in text.split(",") if text else ():
        label, *values = part.split("=")
        if len(values) != 1:
            raise SelectorError(f"invalid selector: [{' '.join([label, *values])}]")
        label, value = label.strip(), values[0].strip()
        # such a selector is in no field, and the real server says so
        if wrong := is_qualified_name(label):
            raise SelectorError(str(invalid("<nil>", label, "; ".join(wrong))))
        if wrong := is_valid_label_value(value):
            raise SelectorError(str(invalid(f"[{label}]", value, "; ".join(wrong))))
        labels[label] = value
    return labels


def _configured(configuration: Object) -> Mapping[str, str]:
    where = "PodNodeSelector"
    only(configuration, ("podNodeSelectorPluginConfig",), where)
    selectors: Mapping[str, str] = configuration.get("podNodeSelectorPluginConfig") or {}
    for name, text in selectors.items():
        try:
            parse(text)
        except SelectorError as error:
            raise ConfigurationError(f"{where}: podNodeSelectorPluginConfig.{name}: {error}") from error
    return selectors


def build(dependencies: Dependencies) -> PodNodeSelector:
    return PodNodeSelector(dependencies, _configured(dependencies.configuration("PodNodeSelector")))
