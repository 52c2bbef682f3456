"""The OpenAPI v2 document as protobuf, the form in which kubectl and helm ask for it.

Field numbers are those of openapi.v2 (gnostic-models). Only what Kubernetes' documents have is encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from kubegate.api.protobufwriter import part, varint

_Encoder = Callable[[Any], bytes]
_Fields = dict[str, tuple[int, str]]

# message -> JSON name -> (field number, kind). A kind is text, texts, flag, the name of a message, or `[name` for many.
_MESSAGES: Final[dict[str, _Fields]] = {
    "Document": {
        "swagger": (1, "text"),
        "info": (2, "Info"),
        "paths": (8, "Paths"),
        "definitions": (9, "Schemas"),
    },
    "Info": {"title": (1, "text"), "version": (2, "text")},
    "PathItem": {
        "get": (2, "Operation"),
        "put": (3, "Operation"),
        "post": (4, "Operation"),
        "delete": (5, "Operation"),
        "patch": (8, "Operation"),
        "parameters": (9, "[ParametersItem"),
    },
    "Operation": {
        "tags": (1, "texts"),
        "description": (3, "text"),
        "operationId": (5, "text"),
        "produces": (6, "texts"),
        "consumes": (7, "texts"),
        "parameters": (8, "[ParametersItem"),
        "responses": (9, "Responses"),
    },
    "BodyParameter": {"name": (2, "text"), "in": (3, "text"), "required": (4, "flag"), "schema": (5, "Schema")},
    "QueryParameter": {"in": (2, "text"), "name": (4, "text"), "type": (6, "text")},
    "PathParameter": {"required": (1, "flag"), "in": (2, "text"), "name": (4, "text"), "type": (5, "text")},
    "Response": {"description": (1, "text"), "schema": (2, "SchemaItem")},
    "Schema": {
        "$ref": (1, "text"),
        "format": (2, "text"),
        "description": (4, "text"),
        "default": (5, "Any"),
        "required": (19, "texts"),
        "enum": (20, "[Any"),
        "additionalProperties": (21, "AdditionalProperties"),
        "type": (22, "TypeItem"),
        "items": (23, "ItemsItem"),
        "properties": (25, "Schemas"),
    },
}
# Where a message keeps its `x-…` extensions.
_EXTENSIONS: Final = {"Operation": 13, "Schema": 31, "PathItem": 10}


def encode(document: Mapping[str, Any]) -> bytes:
    """A Swagger 2.0 document as an openapi.v2.Document."""
    return _message("Document", document)


def _message(kind: str, value: Mapping[str, Any]) -> bytes:
    fields = _MESSAGES[kind]
    parts = []
    for name, member in value.items():
        if name in fields:
            number, of = fields[name]
            parts.append(_field(number, of, member))
    extensions = _EXTENSIONS.get(kind)
    if extensions is not None:
        parts += [
            part(extensions, _named(name, _any(member))) for name, member in value.items() if name.startswith("x-")
        ]
    return b"".join(parts)


def _field(number: int, of: str, value: Any) -> bytes:
    if of == "text":
        return part(number, str(value).encode())
    if of == "texts":
        return b"".join(part(number, str(one).encode()) for one in value)
    if of == "flag":
        return varint(number << 3) + varint(1) if value else b""
    if of.startswith("["):
        return b"".join(_field(number, of[1:], one) for one in value)
    special = _SPECIAL.get(of)
    return part(number, special(value) if special is not None else _message(of, value))


def _named(name: str, value: bytes) -> bytes:
    return part(1, name.encode()) + part(2, value)


def _any(value: Any) -> bytes:
    """Any value is carried as YAML, of which JSON is a part."""
    return part(2, orjson.dumps(value) + b"\n")


def _paths(value: Mapping[str, Any]) -> bytes:
    return b"".join(part(2, _named(path, _message("PathItem", item))) for path, item in value.items())


def _schemas(value: Mapping[str, Any]) -> bytes:
    return b"".join(part(1, _named(name, _message("Schema", schema))) for name, schema in value.items())


def _responses(value: Mapping[str, Any]) -> bytes:
    return b"".join(part(1, _named(code, part(1, _message("Response", one)))) for code, one in value.items())


def _parameter(value: Mapping[str, Any]) -> bytes:
    """ParametersItem { Parameter { BodyParameter or NonBodyParameter { … } } }"""
    if value.get("in") == "body":
        return part(1, part(1, _message("BodyParameter", value)))
    if value.get("in") == "path":
        return part(1, part(2, part(4, _message("PathParameter", value))))
    return part(1, part(2, part(3, _message("QueryParameter", value))))


def _types(value: str | Iterable[str]) -> bytes:
    return _field(1, "texts", [value] if isinstance(value, str) else value)


def _additional(value: Any) -> bytes:
    if isinstance(value, bool):
        return varint(2 << 3) + varint(int(value))
    return part(1, _message("Schema", value))


_SPECIAL: Final[dict[str, _Encoder]] = {
    "AdditionalProperties": _additional,
    "Any": _any,
    "ItemsItem": lambda value: part(1, _message("Schema", value)),
    "ParametersItem": _parameter,
    "Paths": _paths,
    "Responses": _responses,
    "SchemaItem": lambda value: part(1, _message("Schema", value)),
    "Schemas": _schemas,
    "TypeItem": _types,
}
