"""A container's environment variables, resolved as the kubelet resolves them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Final

from kubegate.api import Object
from kubegate.nodes import downward
from kubegate.nodes.downward import Unavailable

Find = Callable[[str, str], Object | None]
"""(`secrets` or `configmaps`, name) -> the object in the pod's namespace."""

_REFERENCE: Final = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_.-]*)\))")
_SOURCES: Final = {"configMap": "configmaps", "secret": "secrets"}
_NOUNS: Final = {"configmaps": "configmap", "secrets": "secret"}


def variables(pod: Object, container: Object, find: Find, allocatable: Object) -> dict[str, str]:
    """Raises Unavailable where something that is not optional is missing."""
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        for sort, resource in _SOURCES.items():
            reference = source.get(f"{sort}Ref")
            if reference:
                values = _whole(resource, reference, find)
                found |= {source.get("prefix", "") + key: value for key, value in values.items()}
    for one in container.get("env") or ():
        value = one.get("value")
        if value is not None:
            found[one["name"]] = _expanded(value, found)
            continue
        text = _referred(pod, container, one.get("valueFrom") or {}, find, allocatable)
        if text is not None:
            found[one["name"]] = text
    return found


def _expanded(text: str, known: dict[str, str]) -> str:
    """`$(NAME)` of variables before it; `$$` is a dollar, and what is not known stays as it is."""

    def one(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else known.get(match[2], match[0])

    return _REFERENCE.sub(one, text)


def _whole(resource: str, reference: Object, find: Find) -> dict[str, str]:
    obj = find(resource, reference.get("name", ""))
    if obj is None:
        if reference.get("optional"):
            return {}
        raise Unavailable(f'{_NOUNS[resource]} "{reference.get("name", "")}" not found')
    return {key: value.decode("utf-8", "replace") for key, value in data_of(obj).items()}


def _referred(pod: Object, container: Object, source: Object, find: Find, allocatable: Object) -> str | None:
    if "fieldRef" in source:
        return downward.field(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return downward.resource(pod, container["name"], source["resourceFieldRef"], allocatable)
    for sort, resource in _SOURCES.items():
        reference = source.get(f"{sort}KeyRef")
        if reference:
            values = _whole(resource, reference, find)
            if reference["key"] in values:
                return values[reference["key"]]
            if reference.get("optional"):
                return None
            where = f"{_NOUNS[resource].capitalize()} {pod['metadata']['namespace']}/{reference.get('name', '')}"
            raise Unavailable(f"couldn't find key {reference['key']} in {where}")
    return None


def data_of(obj: Object) -> dict[str, bytes]:
    """The values of a Secret or ConfigMap."""
    if obj.get("kind") == "Secret":
        return {key: base64.b64decode(value or "") for key, value in (obj.get("data") or {}).items()}
    found = {key: (value or "").encode() for key, value in (obj.get("data") or {}).items()}
    return found | {key: base64.b64decode(value or "") for key, value in (obj.get("binaryData") or {}).items()}
