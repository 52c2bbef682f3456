"""Tables: what `kubectl get` asks for instead of objects. Columns and cells of every kind, built-in and custom.

Columns of built-in kinds are measured (`data/table-columns.json`), their cells are made in `printers`; custom kinds
tell theirs in their definition. Follows k8s.io/apiserver/pkg/endpoints/handlers (asTable) and pkg/registry/rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import orjson

from kubegate.api import Object, gojson, jsonpath
from kubegate.api.field import invalid
from kubegate.api.metadata import partial
from kubegate.api.printers import Printer, cells, default_marks, printer_for
from kubegate.api.resources import Resource, data
from kubegate.api.status import bad_request

_INCLUDES: Final = frozenset({"", "None", "Metadata", "Object"})
# What the API says of the two fields that most tables show.
_NAME_TOLD: Final = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically. Name is primarily intended for creation "
    "idempotence and configuration definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
_CREATED_TOLD: Final = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed "
    "to be set in happens-before order across separate operations. Clients may not set this value. It is represented "
    "in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
_NAME: Final = {"name": "Name", "type": "string", "format": "name", "description": _NAME_TOLD, "priority": 0}
_GENERAL: Final = (
    _NAME,
    {"name": "Created At", "type": "date", "format": "", "description": _CREATED_TOLD, "priority": 0},
)
_TOLD: Final = {"Name": _NAME_TOLD, "Age": _CREATED_TOLD, "Created At": _CREATED_TOLD}
# What a definition without columns of its own shows.
_CUSTOM_AGE: Final = {
    "name": "Age",
    "type": "date",
    "json_path": ".metadata.creationTimestamp",
    "description": _CREATED_TOLD,
}
# Of pods that are done, clients may show less.
_DONE: Final = {
    "Succeeded": {
        "type": "Completed",
        "status": "True",
        "reason": "Succeeded",
        "message": "The pod has completed successfully.",
    },
    "Failed": {"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."},
}


def include_object(text: str) -> str:
    """The includeObject parameter: how much of each object goes with its row. Raises StatusError 400."""
    if text not in _INCLUDES:
        error = invalid("includeObject", text, "must be 'Metadata', 'Object', 'None', or empty")
        raise bad_request(f"Unable to convert to Table as requested: {error}")
    return text or "Metadata"


def table(
    resource: Resource,
    objects: Iterable[Mapping[str, Any]],
    list_metadata: Mapping[str, Any],
    *,
    include: str = "Metadata",
    now: float,
    columns: bool = True,
    version: str = "v1",
    printed: Iterable[Mapping[str, Any]] | None = None,
) -> Object:
    """A Table of meta.k8s.io in `version`.

    `printed`: the same objects in the version in which they are stored, from which cells are made, where that is
    another than the one asked for.

    `list_metadata` is the list's (resourceVersion, continue), or the one object's resourceVersion; `columns` is false
    for all events of a watch but the first; `now` is in seconds since 1970.
    """
    printer = printer_for(resource.group, resource.resource) if resource.custom is None else None
    custom = _custom_columns(resource.custom) if resource.custom is not None else None
    definitions = list(column_definitions(resource))
    # Events are told by when they were seen; their name is their last cell, where their printer puts it.
    named = definitions[0]["name"] == "Name"
    marks = default_marks(resource.group, resource.resource) if resource.custom is None else ()
    rows = []
    objects = list(objects)
    for obj, shown in zip(objects, objects if printed is None else printed, strict=True):
        made = _cells(shown, printer, custom, now)
        row: Object = {"cells": [_name(obj, marks), *made] if named else made}
        if resource.resource == "pods" and not resource.group:
            done = _DONE.get((obj.get("status") or {}).get("phase", ""))
            if done is not None:
                row["conditions"] = [done]
        row["object"] = None if include == "None" else obj if include == "Object" else partial(obj, version)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": dict(list_metadata),
        "columnDefinitions": definitions if columns else None,
        "rows": rows,
    }


def _name(obj: Mapping[str, Any], marks: Sequence[str]) -> str:
    name = str(cells.meta(obj).get("name") or "")
    annotations = cells.meta(obj).get("annotations") or {} if marks else {}
    return f"{name} (default)" if any(annotations.get(mark) == "true" for mark in marks) else name


def column_definitions(resource: Resource) -> Sequence[Mapping[str, Any]]:
    """What the Table says of its columns."""
    if resource.custom is None:
        return _built_in_columns().get((resource.group, resource.resource), _GENERAL)
    shown = []
    for column in _custom_columns(resource.custom):
        path = column["json_path"]
        text = column.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
        shown.append(
            {
                "name": column["name"],
                "type": column["type"],
                "format": column.get("format", ""),
                "description": text,
                "priority": column.get("priority", 0),
            }
        )
    return [_NAME, *shown]


@cache
def _built_in_columns() -> dict[tuple[str, str], list[dict[str, Any]]]:
    found = {}
    for path, columns in orjson.loads(data("table-columns.json")).items():
        # /api/v1/pods or /apis/apps/v1/deployments
        parts = path.strip("/").split("/")
        group = parts[1] if parts[0] == "apis" else ""
        found[(group, parts[-1])] = [{**column, "description": _TOLD.get(column["name"], "")} for column in columns]
    return found


def _custom_columns(custom: Any) -> list[dict[str, Any]]:
    columns = [
        {
            "name": column.name,
            "type": column.type,
            "json_path": column.json_path,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        }
        for column in custom.columns
    ]
    return columns or [dict(_CUSTOM_AGE)]


def _cells(
    obj: Mapping[str, Any], printer: Printer | None, custom: list[dict[str, Any]] | None, now: float
) -> list[Any]:
    """The cells after the name."""
    if custom is not None:
        return [_custom_cell(obj, column, now) for column in custom]
    if printer is None:
        return [cells.meta(obj).get("creationTimestamp") or cells.UNKNOWN]
    return printer(obj, now)


def _custom_cell(obj: Mapping[str, Any], column: Mapping[str, Any], now: float) -> Any:
    found = jsonpath.find(column["json_path"], obj)
    if not found or found[0] is None:
        return None
    value = found[0]
    match column["type"]:
        case "string":
            return _text(value)
        case "integer" if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "date" if isinstance(value, str):
            shown = cells.since(value, now)
            return "<invalid>" if value and shown == cells.UNKNOWN else shown
    return None


def _text(value: Any) -> str:
    """As Go's JSONPath printer writes a value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return gojson.sorted_text(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
