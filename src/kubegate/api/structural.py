"""Structural schemas of custom resources: what a definition's schema says, and pruning and defaulting by it.

Follows k8s.io/apiextensions-apiserver/pkg/apiserver/schema. Values are checked in `valuecheck`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from msgspec import Struct, field

from kubegate.api import Object
from kubegate.api.schema import Schema, from_openapi, object_meta
from kubegate.api.status import LARGEST_OBJECT, too_large

_META_FIELDS: Final = frozenset({"apiVersion", "kind", "metadata"})


class Column(Struct, frozen=True):
    """A column of the Table answer, as the definition has it (`json_path` begins with a dot)."""

    name: str
    type: str
    json_path: str
    format: str = ""
    description: str = ""
    priority: int = 0


class ScalePaths(Struct, frozen=True):
    """Where the scale subresource finds its numbers: simple paths that begin with a dot; `label_selector` may be ""."""

    spec_replicas: str
    status_replicas: str
    label_selector: str = ""


class CustomResource(Struct, frozen=True):
    """What one version of a definition says: `Resource.custom`.

    schema:      for server-side apply, with metadata's fields
    structural:  for pruning, defaulting and checking values
    openapi:     openAPIV3Schema as it stands in the definition
    status:      whether there is a status subresource, so that plain writes leave status alone
    selectable_fields: paths (`.spec.color`) that field selectors may name
    conversion:  spec.conversion
    versions:    the structural schemas of all versions, by version
    definition:  the definition's name
    deprecation_warning: text for those who use this version, "" where it is not deprecated
    since:       the revision from which on everything was stored under this definition
    settled:     what older objects are read as: kept by `registry.apiextensions.settled`
    """

    list_kind: str
    schema: Schema
    structural: Structural
    openapi: Mapping[str, Any]
    columns: tuple[Column, ...] = ()
    status: bool = False
    scale: ScalePaths | None = None
    selectable_fields: tuple[str, ...] = ()
    conversion: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Structural] = field(default_factory=dict)
    definition: str = ""
    deprecation_warning: str = ""
    since: int = 0
    settled: dict[tuple[str, int], Any] = field(default_factory=dict)


class Structural:
    """One node of a structural schema, or of the value validations (`allOf` …) below it.

    `additional` is True where any value may stand under an unknown name, None where unknown names are not allowed.
    `has_default` tells a default of null from none. `raw` is the definition itself, for keywords that are read rarely.
    """

    __slots__ = (
        "additional",
        "all_of",
        "any_of",
        "cache",
        "default",
        "default_size",
        "embedded",
        "has_default",
        "int_or_string",
        "items",
        "list_map_keys",
        "list_type",
        "map_type",
        "none_of",
        "nullable",
        "one_of",
        "preserve_unknown",
        "properties",
        "raw",
        "rules",
        "type",
    )

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.type: str = raw.get("type") or ""
        self.nullable = bool(raw.get("nullable"))
        self.int_or_string = bool(raw.get("x-kubernetes-int-or-string"))
        self.preserve_unknown = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded = bool(raw.get("x-kubernetes-embedded-resource"))
        self.list_type: str = raw.get("x-kubernetes-list-type") or ""
        self.list_map_keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys") or ())
        self.map_type: str = raw.get("x-kubernetes-map-type") or ""
        self.has_default = raw.get("default") is not None
        self.default: Any = raw.get("default")
        self.default_size = len(orjson.dumps(self.default)) if self.has_default else 0
        self.properties = {name: Structural(child) for name, child in (raw.get("properties") or {}).items()}
        additional = raw.get("additionalProperties")
        self.additional: Structural | bool | None = (
            Structural(additional) if isinstance(additional, Mapping) else (True if additional else None)
        )
        items = raw.get("items")
        self.items: Structural | None = Structural(items) if isinstance(items, Mapping) else None
        self.all_of = [Structural(child) for child in raw.get("allOf") or ()]
        self.any_of = [Structural(child) for child in raw.get("anyOf") or ()]
        self.one_of = [Structural(child) for child in raw.get("oneOf") or ()]
        self.none_of = Structural(raw["not"]) if isinstance(raw.get("not"), Mapping) else None
        self.rules: list[Mapping[str, Any]] = list(raw.get("x-kubernetes-validations") or ())
        self.cache: dict[str, Any] = {}
        """What others compiled from this node."""

    def child(self, name: str) -> Structural | None:
        """The schema of a field, None where nothing is said about it."""
        found = self.properties.get(name)
        if found is None and isinstance(self.additional, Structural):
            return self.additional
        return found

    @property
    def has_rules(self) -> bool:
        """Whether there is any rule in CEL, here or below."""
        found: bool | None = self.cache.get("has rules")
        if found is None:
            found = self.cache["has rules"] = any(node.rules for node in self.walk())
        return found

    def walk(self) -> list[Structural]:
        """This node and all below it that describe values (not the value validations)."""
        found = [self]
        for child in self.properties.values():
            found += child.walk()
        if isinstance(self.additional, Structural):
            found += self.additional.walk()
        if self.items is not None:
            found += self.items.walk()
        return found


def merge_schema(openapi: Mapping[str, Any]) -> Schema:
    """The schema that server-side apply merges by: the definition's, with apiVersion, kind and metadata."""
    return from_openapi(_with_meta(openapi, root=True))


def _with_meta(openapi: Mapping[str, Any], *, root: bool = False) -> Any:
    schema = dict(openapi)
    if schema.get("properties"):
        schema["properties"] = {name: _with_meta(child) for name, child in schema["properties"].items()}
    if isinstance(schema.get("items"), Mapping):
        schema["items"] = _with_meta(schema["items"])
    if isinstance(schema.get("additionalProperties"), Mapping):
        schema["additionalProperties"] = _with_meta(schema["additionalProperties"])
    if root or schema.get("x-kubernetes-embedded-resource"):
        meta = {"$ref": object_meta().name}
        text = {"type": "string"}
        schema["properties"] = {**(schema.get("properties") or {}), "apiVersion": text, "kind": text, "metadata": meta}
    return schema


# ------------------------------------------------------------------ pruning
def prune(obj: Object, schema: Structural) -> list[str]:
    """Take fields that the schema does not know out of a custom resource, in place; their paths, sorted."""
    unknown: list[str] = []
    _prune_map(obj, schema, "", unknown, resource=True)
    return sorted(unknown)


def _prune(value: Any, schema: Structural | None, path: str, unknown: list[str]) -> None:
    if isinstance(value, dict):
        _prune_map(value, schema, path, unknown, resource=schema is not None and schema.embedded)
    elif isinstance(value, list):
        items = schema.items if schema is not None else None
        if items is None and schema is not None and schema.preserve_unknown:
            return
        for position, item in enumerate(value):
            _prune(item, items, f"{path}[{position}]", unknown)


def _prune_map(value: Object, schema: Structural | None, path: str, unknown: list[str], *, resource: bool) -> None:
    keep = schema is not None and (schema.preserve_unknown or schema.additional is True)
    for name in list(value):
        if resource and name in _META_FIELDS:
            continue
        below = f"{path}.{name}" if path else name
        child = schema.child(name) if schema is not None else None
        if child is not None:
            _prune(value[name], child, below, unknown)
        elif not keep:
            unknown.append(below)
            del value[name]


# ------------------------------------------------------------------ defaulting
def default(value: Any, schema: Structural, *, keep_nulls: bool = False) -> None:
    """Fill in defaults, in place. A null where none is allowed counts as not given.

    `keep_nulls`: where there is no default it stays all the same, to be refused: it came from admission. Raises
    StatusError where the defaults alone are more than an object may be: a list of `{}` multiplies them.
    """
    _default(value, schema, keep_nulls, _Room())


class _Room:
    """How many bytes of defaults may still be filled in."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = LARGEST_OBJECT

    def copy(self, schema: Structural) -> Any:
        self.left -= schema.default_size
        if self.left < 0:
            raise too_large(LARGEST_OBJECT)
        return _copy(schema.default)


def _default(value: Any, schema: Structural, keep_nulls: bool, room: _Room) -> None:
    if isinstance(value, dict):
        for name, child in schema.properties.items():
            if child.has_default and (name not in value or (value[name] is None and not child.nullable)):
                value[name] = room.copy(child)
        for name in list(value):
            known = schema.child(name)
            if known is None:
                continue
            if value[name] is None and not known.nullable:
                if known.has_default:
                    value[name] = room.copy(known)
                elif name in schema.properties and not keep_nulls:
                    del value[name]
                    continue
            _default(value[name], known, keep_nulls, room)
    elif isinstance(value, list) and schema.items is not None:
        for position, item in enumerate(value):
            if item is None and not schema.items.nullable and schema.items.has_default:
                value[position] = room.copy(schema.items)
            _default(value[position], schema.items, keep_nulls, room)


def _copy(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value)) if isinstance(value, dict | list) else value


MISSING: Final = object()
"""Stands for an old value that is not there; None is a value."""
