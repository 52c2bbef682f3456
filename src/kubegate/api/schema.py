"""The schemas of objects: types, list and map semantics, merge keys, defaults. Built-in kinds and custom ones alike.

The built-in ones come from `data/openapi-schemas.json.gz`, measured from kube-apiserver v1.36.2. Only what is asked for
is compiled, and a named type is compiled once, so that `PodSpec` is one object wherever it occurs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

import orjson

from kubegate.api.resources import data

_REFERENCE = "#/components/schemas/"
_RAW_EXTENSION = "io.k8s.apimachinery.pkg.runtime.RawExtension"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."


class Schema:
    """One type, as much of OpenAPI as Kubernetes uses.

    type:            object, array, string, integer, number, boolean, or "" where any value may stand
    properties:      the fields of an object; empty for a map
    additional:      the type of a map's values, None where unknown fields are not allowed
    items:           the type of a list's elements
    list_type:       atomic, set, map, or None (which means atomic)
    list_map_keys:   the fields that name an element of a list of type map
    map_type:        atomic, granular, or None (which means granular)
    merge_key:       strategic merge: the field that names an element, "" where there is none
    merge_strategy:  strategic merge: pieces of the patch strategy (merge, replace, retainKeys)
    default:         what the schema declares, None where nothing
    preserve_unknown: whether fields that are not named here are kept; `open` is true further down as well
    name:            of a named type: io.k8s.api.core.v1.PodSpec
    """

    __slots__ = (
        "additional",
        "cache",
        "default",
        "embedded_resource",
        "enum",
        "format",
        "int_or_string",
        "items",
        "list_map_keys",
        "list_type",
        "map_type",
        "merge_key",
        "merge_strategy",
        "name",
        "open",
        "preserve_unknown",
        "properties",
        "required",
        "type",
    )

    def __init__(self, type_: str = "", name: str = "") -> None:
        self.type = type_
        self.name = name
        self.properties: dict[str, Schema] = {}
        self.additional: Schema | None = None
        self.items: Schema | None = None
        self.format = ""
        self.enum: tuple[Any, ...] = ()
        self.required: frozenset[str] = frozenset()
        self.list_type: str | None = None
        self.list_map_keys: tuple[str, ...] = ()
        self.map_type: str | None = None
        self.merge_key = ""
        self.merge_strategy: frozenset[str] = frozenset()
        self.default: Any = None
        self.preserve_unknown = False
        self.open = False
        self.int_or_string = False
        self.embedded_resource = False
        self.cache: dict[str, Any] = {}
        """What others compiled from this schema (walkers, zero values), kept as long as the schema lives."""

    def __repr__(self) -> str:
        return f"Schema({self.name or self.type or 'any'})"

    @property
    def kind_name(self) -> str:
        """The Go type's name: PodSpec."""
        return self.name.rpartition(".")[2]


def from_openapi(definition: Mapping[str, Any], name: str = "") -> Schema:
    """A schema from a CRD's openAPIV3Schema (or any OpenAPI v3 schema whose references are built-in types)."""
    schema = Schema(name=name)
    _fill(schema, definition)
    return schema


@lru_cache(4096)  # who asks may name kinds that are none
def schema_for(group: str, version: str, kind: str) -> Schema | None:
    """The schema of a built-in kind, None where there is none."""
    name = _names().get((group, version, kind))
    return None if name is None else named(name)


@cache
def named(name: str) -> Schema:
    """A built-in type by its full name. Raises KeyError."""
    definition = _definitions()[name]
    schema = Schema(name=name)
    _named_in_work[name] = schema
    try:
        _fill(schema, definition)
    finally:
        del _named_in_work[name]
    if name == _RAW_EXTENSION:
        schema.map_type = "atomic"  # which no schema says: server-side apply knows it
    return schema


# Types that are being compiled further up the stack: recursive ones refer to themselves through this.
_named_in_work: dict[str, Schema] = {}


def object_meta() -> Schema:
    """metav1.ObjectMeta."""
    return named(f"{_META}ObjectMeta")


@cache
def _definitions() -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(data("openapi-schemas.json.gz"))
    return found


@cache
def _names() -> dict[tuple[str, str, str], str]:
    """The names of the types that have a group, version and kind of their own."""
    found: dict[tuple[str, str, str], str] = {}
    for name, definition in _definitions().items():
        kinds = definition.get("x-kubernetes-group-version-kind") or []
        # Types that belong to every group (DeleteOptions, WatchEvent) are found through none of them.
        if len(kinds) == 1:
            found[(kinds[0]["group"], kinds[0]["version"], kinds[0]["kind"])] = name
    return found


def _fill(schema: Schema, definition: Mapping[str, Any]) -> None:
    schema.type = definition.get("type", "")
    schema.format = definition.get("format", "")
    schema.int_or_string = schema.format == "int-or-string" or bool(definition.get("x-kubernetes-int-or-string"))
    schema.preserve_unknown = bool(definition.get("x-kubernetes-preserve-unknown-fields"))
    schema.open = schema.open or schema.preserve_unknown
    schema.embedded_resource = bool(definition.get("x-kubernetes-embedded-resource"))
    schema.enum = tuple(definition.get("enum") or ())
    schema.required = frozenset(definition.get("required") or ())
    schema.default = definition.get("default")
    _annotate(schema, definition)
    additional = definition.get("additionalProperties")
    if isinstance(additional, Mapping):
        schema.additional = _child(additional, schema.open)
    elif additional:
        schema.additional = ANY
    items = definition.get("items")
    if isinstance(items, Mapping):
        schema.items = _child(items, schema.open)
    for name, child in (definition.get("properties") or {}).items():
        schema.properties[name] = _child(child, schema.open)


def _annotate(schema: Schema, definition: Mapping[str, Any]) -> None:
    """What a place where a type is used may say beside the type itself."""
    if "x-kubernetes-list-type" in definition:
        schema.list_type = definition["x-kubernetes-list-type"]
        schema.list_map_keys = tuple(definition.get("x-kubernetes-list-map-keys") or ())
    if "x-kubernetes-map-type" in definition:
        schema.map_type = definition["x-kubernetes-map-type"]
    if "x-kubernetes-patch-merge-key" in definition:
        schema.merge_key = definition["x-kubernetes-patch-merge-key"]
    if "x-kubernetes-patch-strategy" in definition:
        schema.merge_strategy = frozenset(definition["x-kubernetes-patch-strategy"].split(","))


def _child(definition: Mapping[str, Any], inside_open: bool = False) -> Schema:
    target = _target(definition)
    if target is None:
        schema = Schema()
        schema.open = inside_open
        _fill(schema, definition)
        return schema
    found = _named_in_work.get(target) or named(target)
    if definition.keys() <= {"$ref"} or (definition.keys() <= {"allOf"}):
        return found
    return _used(found, definition)


def _target(definition: Mapping[str, Any]) -> str | None:
    """The named type that a definition is (plainly, or as the one member of allOf), None for one written in place."""
    reference = definition.get("$ref")
    if reference is None:
        members = definition.get("allOf") or []
        if len(members) != 1 or definition.get("type"):
            return None
        reference = members[0].get("$ref")
    return str(reference).removeprefix(_REFERENCE) if reference else None


def _used(found: Schema, definition: Mapping[str, Any]) -> Schema:
    """A named type with what the place of its use adds. Fields are shared: those of a recursive type come later."""
    schema = Schema()
    for slot in Schema.__slots__:
        setattr(schema, slot, getattr(found, slot))
    schema.cache = {}
    schema.default = definition.get("default", found.default)
    _annotate(schema, definition)
    return schema


ANY = Schema()
"""Any value at all."""
ANY.preserve_unknown = ANY.open = True
