"""The parameters that a binding chooses. Follows k8s.io/apiserver/pkg/admission/plugin/policy/generic."""

from __future__ import annotations

from collections.abc import Sequence

from kubegate.api import Object
from kubegate.api.codec import split_api_version
from kubegate.api.resources import Resource, Resources
from kubegate.api.selectors import SelectorError, from_object
from kubegate.storage import Reader


class ConfigurationError(Exception):
    """The policy or binding cannot be used as it is; the text is kube-apiserver's."""


def resource_of(kind: Object, resources: Resources) -> Resource:
    """The resource that a paramKind names. Raises ConfigurationError."""
    group, version = split_api_version(kind.get("apiVersion", ""))
    name = kind.get("kind", "")
    found = resources.by_kind(group, version, name)
    if found is None:
        raise ConfigurationError(f"failed to find resource referenced by paramKind: '{group}/{version}, Kind={name}'")
    return found


def collect(
    kind: Object | None, reference: Object | None, namespace: str, resources: Resources, reader: Reader
) -> Sequence[Object | None]:
    """The objects to check with, one after the other; None among them: without a parameter.

    `namespace` is the request's. Raises ConfigurationError, also where there are none and the binding wants that
    refused.
    """
    if kind is None or reference is None:
        return (None,)
    resource = resource_of(kind, resources)
    name, wanted = reference.get("name") or "", reference.get("namespace") or ""
    if not resource.namespaced and wanted:
        raise ConfigurationError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
    place = (wanted or namespace) if resource.namespaced else ""
    if resource.namespaced and not place:
        raise ConfigurationError(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
        )
    found: list[Object] = []
    if name:
        one = reader.get(resource.group_resource, place, name)
        found = [one] if one is not None else []
    else:
        try:
            selector = from_object(reference.get("selector") or {})
        except SelectorError as error:
            raise ConfigurationError(str(error)) from error
        found = [
            obj
            for obj in reader.list(resource.group_resource, place)
            if selector.matches(obj["metadata"].get("labels") or {})
        ]
    if not found and reference.get("parameterNotFoundAction") == "Deny":
        raise ConfigurationError("no params found for policy binding with `Deny` parameterNotFoundAction")
    return found
