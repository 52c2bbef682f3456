"""How kube-apiserver's errors show the versions of a definition: its internal types as JSON, with every field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from kubegate.api import Object

_LONGEST_SHOWN_WHOLE: Final = 200_000
# The fields of a schema in their order. What stands for the lack of one is its zero value, null where it may be told
# from one.
_FIELDS: Final = (
    *("ID", "Schema", "Ref", "Description", "Type", "Nullable", "Format", "Title", "Default", "Maximum"),
    *("ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength", "MinLength", "Pattern", "MaxItems", "MinItems"),
    *("UniqueItems", "MultipleOf", "Enum", "MaxProperties", "MinProperties", "Required", "Items", "AllOf", "OneOf"),
    *("AnyOf", "Not", "Properties", "AdditionalProperties", "PatternProperties", "Dependencies", "AdditionalItems"),
    *("Definitions", "ExternalDocs", "Example", "XPreserveUnknownFields", "XEmbeddedResource", "XIntOrString"),
    *("XListMapKeys", "XListType", "XMapType", "XValidations"),
)
_NAMES: Final = {
    "ID": "id",
    "Schema": "$schema",
    "Ref": "$ref",
    "XPreserveUnknownFields": "x-kubernetes-preserve-unknown-fields",
    "XEmbeddedResource": "x-kubernetes-embedded-resource",
    "XIntOrString": "x-kubernetes-int-or-string",
    "XListMapKeys": "x-kubernetes-list-map-keys",
    "XListType": "x-kubernetes-list-type",
    "XMapType": "x-kubernetes-map-type",
    "XValidations": "x-kubernetes-validations",
}
_EMPTY_TEXTS: Final = frozenset({"ID", "Schema", "Description", "Type", "Format", "Title", "Pattern"})
_FALSE: Final = frozenset(
    {"Nullable", "ExclusiveMaximum", "ExclusiveMinimum", "UniqueItems", "XEmbeddedResource", "XIntOrString"}
)
_LISTS: Final = frozenset({"AllOf", "OneOf", "AnyOf"})
_MAPS: Final = frozenset({"Properties", "PatternProperties", "Definitions"})


def per_version(name: str, found: Any) -> Any:
    """A field of a version: its schema, subresources, columns or selectable fields."""
    if found is None or (isinstance(found, list) and not found):
        return found
    if name == "schema":
        openapi = found.get("openAPIV3Schema")
        return {"OpenAPIV3Schema": None if openapi is None else schema(openapi)}
    if name == "subresources":
        scale = found.get("scale")
        return {"Status": found.get("status"), "Scale": None if scale is None else _scale(scale)}
    if name == "additionalPrinterColumns":
        return [_column(column) for column in found]
    return [{"JSONPath": one.get("jsonPath", "")} for one in found]


def _scale(found: Mapping[str, Any]) -> Object:
    return {
        "SpecReplicasPath": found.get("specReplicasPath", ""),
        "StatusReplicasPath": found.get("statusReplicasPath", ""),
        "LabelSelectorPath": found.get("labelSelectorPath"),
    }


def _column(found: Mapping[str, Any]) -> Object:
    texts = {name: found.get(name.lower(), "") for name in ("Name", "Type", "Format", "Description")}
    return {**texts, "Priority": found.get("priority", 0), "JSONPath": found.get("jsonPath", "")}


def schema(found: Mapping[str, Any]) -> Object:
    """One that is very long is shown as it was sent: each part of it takes a thousand letters."""
    return dict(found) if len(orjson.dumps(found)) > _LONGEST_SHOWN_WHOLE else _schema(found)


def _schema(found: Mapping[str, Any]) -> Object:
    return {name: _field(name, found.get(_NAMES.get(name) or name[0].lower() + name[1:])) for name in _FIELDS}


def _field(name: str, value: Any) -> Any:
    if value is None:
        return "" if name in _EMPTY_TEXTS else False if name in _FALSE else None
    if name in _LISTS:
        return [_schema(one) for one in value]
    if name in _MAPS:
        return {key: _schema(value[key]) for key in sorted(value)}
    if name == "Items":
        many = isinstance(value, list)
        return {
            "Schema": None if many else _schema(value),
            "JSONSchemas": [_schema(one) for one in value] if many else None,
        }
    if name in ("AdditionalProperties", "AdditionalItems"):
        if isinstance(value, bool):
            return {"Allows": value, "Schema": None}
        return {"Allows": True, "Schema": _schema(value)}
    if name == "Not":
        return _schema(value)
    if name == "Dependencies":
        return {key: _dependency(value[key]) for key in sorted(value)}
    if name == "ExternalDocs":
        return {"Description": value.get("description", ""), "URL": value.get("url", "")}
    return [rule(one) for one in value] if name == "XValidations" else value


def _dependency(value: Any) -> Object:
    if isinstance(value, list):
        return {"Schema": None, "Property": value}
    return {"Schema": _schema(value), "Property": None}


def rule(found: Mapping[str, Any]) -> Object:
    return {
        "Rule": found.get("rule", ""),
        "Message": found.get("message", ""),
        "MessageExpression": found.get("messageExpression", ""),
        "Reason": found.get("reason"),
        "FieldPath": found.get("fieldPath", ""),
        "OptionalOldSelf": found.get("optionalOldSelf"),
    }
