"""Objects as server-side apply sees them: fields, keyed lists, sets, and values that are one thing (atomic).

Follows sigs.k8s.io/structured-merge-diff. A schema tells which is which; where it says nothing, maps are merged field
by field and lists are atomic. Built-in objects are expected in the form in which kube-apiserver writes them
(`registry.canonical`), because it compares those.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from msgspec import Struct

from kubegate.api.gojson import value_text
from kubegate.api.managedfields.sets import MEMBER, FieldSet, path_text
from kubegate.api.schema import ANY, Schema

# Built-in types that may be text or a number, and nothing else.
_SCALARS = frozenset(f"io.k8s.apimachinery.pkg.{name}" for name in ("api.resource.Quantity", "util.intstr.IntOrString"))


class NotTyped(Exception):
    """An object does not fit its schema; the text is Kubernetes'."""


def field_of(schema: Schema, name: str) -> Schema:
    """The schema of a field; ANY where it is not known (validation has refused it where that is not allowed)."""
    return schema.properties.get(name) or schema.additional or ANY


def is_atomic(schema: Schema, value: Any) -> bool:
    """Whether a value has one owner as a whole: scalars, atomic maps and lists, and what is empty."""
    if isinstance(value, dict):
        return not value or schema.map_type == "atomic" or schema.type not in ("object", "")
    if isinstance(value, list):
        return not value or schema.list_type not in ("map", "set")
    return True


def is_always_atomic(schema: Schema) -> bool:
    """Whether all values of a type are `is_atomic`."""
    if schema.type == "array":
        return schema.list_type not in ("map", "set")
    return schema.type not in ("object", "") or (schema.type == "object" and schema.map_type == "atomic")


# ------------------------------------------------------------------ path elements
def elements(schema: Schema, items: list[Any]) -> Iterator[str]:
    """The path element of each item of an associative list. Raises NotTyped."""
    element_of = _key_element if schema.list_type == "map" else _value_element
    for position, item in enumerate(items):
        try:
            yield element_of(schema, item)
        except NotTyped as error:
            raise NotTyped(f"element {position}: {error}") from None


UNDEFINED = "v:{{undefined}}"
"""The path element of what is no value that an object may hold."""


def _value_element(schema: Schema, item: Any) -> str:
    if isinstance(item, dict):
        raise NotTyped("associative list without keys has an element that's a map type")
    if isinstance(item, list):
        raise NotTyped("not supported: associative list with lists as elements")
    if item is None:
        raise NotTyped("associative list without keys has an element that's an explicit null")
    if isinstance(item, Foreign):
        return UNDEFINED
    return f"v:{orjson.dumps(item).decode()}"


def _key_element(schema: Schema, item: Any) -> str:
    if item is None:
        raise NotTyped("associative list with keys may not have a null element")
    if not isinstance(item, dict):
        raise NotTyped("associative list with keys may not have non-map elements")
    pairs = {}
    for key in schema.list_map_keys:
        if key in item:
            pairs[key] = item[key]
            continue
        field = (schema.items or ANY).properties.get(key)
        # Elements that leave out a key are others than those that have it.
        if field is not None and field.default is not None:
            pairs[key] = field.default
    if not pairs:
        keys = " ".join(orjson.dumps(key).decode() for key in schema.list_map_keys)
        raise NotTyped(
            f"associative list with keys has an element that omits all key fields [{keys}] "
            "(and doesn't have default values for any key fields)"
        )
    return f"k:{orjson.dumps(pairs, default=_undefined, option=orjson.OPT_SORT_KEYS).decode()}"


def _undefined(value: Any) -> str:
    """A `Foreign` among the keys of an element, for the errors that tell of it."""
    return UNDEFINED.removeprefix("v:")


def grouped(schema: Schema, items: list[Any] | None) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    if items:
        for element, item in zip(elements(schema, items), items, strict=True):
            groups.setdefault(element, []).append(item)
    return groups


# ------------------------------------------------------------------ sets of a value
def all_paths(schema: Schema, value: Any) -> FieldSet:
    """Every path of a value that was not there before, itself and what lies between included."""
    if is_atomic(schema, value):
        return MEMBER
    found: FieldSet = {".": MEMBER}
    if isinstance(value, dict):
        for name, child in value.items():
            found[f"f:{name}"] = all_paths(field_of(schema, name), child)
    else:
        items = schema.items or ANY
        for element, group in grouped(schema, value).items():
            found[element] = all_paths(items, group[0]) if len(group) == 1 else MEMBER
    return found


def field_set(schema: Schema, value: Any) -> FieldSet:
    """The paths that an applied configuration names: leaves, list items, and fields that are empty."""
    return _named_below(schema, value) or {}


def _named_below(schema: Schema, value: Any) -> FieldSet | None:
    """None where nothing is named: an empty associative list, or a map of nothing but those."""
    if is_atomic(schema, value):
        names_nothing = isinstance(value, list) and schema.list_type in ("map", "set")
        return None if names_nothing else MEMBER
    found: FieldSet = {}
    if isinstance(value, dict):
        for name, child in value.items():
            field = schema.properties.get(name)
            below = _named_below(field or schema.additional or ANY, child)
            if field is None:
                below = {".": MEMBER, **below} if below else MEMBER
            if below is not None:
                found[f"f:{name}"] = below
    else:
        items = schema.items or ANY
        # Pruning may leave nothing of an element, which then has no name.
        rest = [item for item in value if item is not None]
        for element, group in grouped(schema, rest).items():
            below = _named_below(items, group[0]) if len(group) == 1 else None
            found[element] = {".": MEMBER, **below} if below else MEMBER
    return found or None


# ------------------------------------------------------------------ comparing
def compare(schema: Schema, old: Any, new: Any) -> tuple[FieldSet | None, FieldSet | None]:
    """What was added or modified, and what was removed, from `old` to `new`; None where nothing.

    A node that is not the root is given as the part of a set that hangs below it.
    """
    if old is new or old == new:
        return None, None
    if isinstance(old, dict) and isinstance(new, dict):
        if schema.map_type == "atomic" or schema.type not in ("object", ""):
            return MEMBER, None
        return _compare_maps(schema, old, new)
    if isinstance(old, list) and isinstance(new, list):
        if schema.list_type not in ("map", "set"):
            return MEMBER, None
        return _compare_lists(schema, old, new)
    return _compare_kinds(schema, old, new)


def _compare_maps(schema: Schema, old: dict[str, Any], new: dict[str, Any]) -> tuple[FieldSet | None, FieldSet | None]:
    changed: FieldSet = {}
    removed: FieldSet = {}
    for name, value in new.items():
        if name not in old:
            changed[f"f:{name}"] = all_paths(field_of(schema, name), value)
            continue
        before = old[name]
        if before is value or before == value:
            continue
        added, gone = compare(field_of(schema, name), before, value)
        if added is not None:
            changed[f"f:{name}"] = added
        if gone is not None:
            removed[f"f:{name}"] = gone
    for name, value in old.items():
        if name not in new:
            removed[f"f:{name}"] = all_paths(field_of(schema, name), value)
    return changed or None, removed or None


def _compare_lists(schema: Schema, old: list[Any], new: list[Any]) -> tuple[FieldSet | None, FieldSet | None]:
    changed: FieldSet = {}
    removed: FieldSet = {}
    items = schema.items or ANY
    before, after = grouped(schema, old), grouped(schema, new)
    for element, group in after.items():
        previous = before.get(element, [])
        if len(group) > 1 and len(previous) > 1:
            if group != previous:
                changed[element] = MEMBER
        elif len(group) > 1:
            changed[element] = MEMBER
            if previous and (below := all_paths(items, previous[0])):
                removed[element] = below
        elif len(previous) > 1:
            changed[element] = all_paths(items, group[0])
            removed[element] = MEMBER
        elif not previous:
            changed[element] = all_paths(items, group[0])
        else:
            added, gone = compare(items, previous[0], group[0])
            if added is not None:
                changed[element] = added
            if gone is not None:
                removed[element] = gone
    for element, previous in before.items():
        if element not in after:
            removed[element] = all_paths(items, previous[0]) if len(previous) == 1 else MEMBER
    return changed or None, removed or None


def _compare_kinds(schema: Schema, old: Any, new: Any) -> tuple[FieldSet | None, FieldSet | None]:
    """Values of different kinds (null is one), or scalars that differ.

    Null stands for whatever the other is, so that fields of what takes its place are added without the place itself.
    """
    old_atomic, new_atomic = is_atomic(schema, old), is_atomic(schema, new)
    if old_atomic and new_atomic:
        return MEMBER, None
    changed: FieldSet | None = None
    removed: FieldSet | None = None
    if not new_atomic:
        changed = {element: below for element, below in all_paths(schema, new).items() if element != "."}
    elif new is not None:
        changed = MEMBER
    if not old_atomic:
        removed = {element: below for element, below in all_paths(schema, old).items() if element != "."}
    elif old is not None:
        changed = {".": MEMBER, **(changed or {})}
    return changed, removed


# ------------------------------------------------------------------ merging
def merge(schema: Schema, live: Any, applied: Any) -> Any:
    """`applied` laid over `live`. The result shares values with both."""
    if isinstance(applied, dict) and isinstance(live, dict):
        if not applied and live and schema.map_type != "atomic":
            return live
        if not live or schema.map_type == "atomic":
            return applied
        merged = dict(live)
        for name, value in applied.items():
            merged[name] = merge(field_of(schema, name), live[name], value) if name in live else value
        return merged
    if schema.list_type in ("map", "set"):
        if isinstance(applied, list) and isinstance(live, list):
            return _merge_lists(schema, live, applied)
        if applied is None and live:
            return live
    if applied is None and live and schema.type == "object" and schema.map_type != "atomic":
        return live
    return applied


def _merge_lists(schema: Schema, live: list[Any], applied: list[Any]) -> list[Any]:
    """Items of both, each once. What was applied keeps its order; the others stay where they stood among it."""
    if not applied:
        return live
    ours = list(elements(schema, live))
    theirs = list(elements(schema, applied))
    groups = grouped(schema, live)
    applied_at = {element: position for position, element in enumerate(theirs)}
    shared = [element for element in theirs if element in groups]
    items = schema.items or ANY
    merged: list[Any] = []
    done: set[str] = set()
    next_shared = 0

    def take(element: str) -> None:
        found = groups.get(element)
        value = applied[applied_at[element]]
        # An element that stood there several times is replaced by the one that was applied.
        merged.append(merge(items, found[0], value) if found and len(found) == 1 else value)
        done.add(element)

    left = right = 0
    while left < len(ours) or right < len(theirs):
        if left < len(ours) and right < len(theirs):
            element = ours[left]
            if element == theirs[right]:
                take(element)
                left, right, next_shared = left + 1, right + 1, next_shared + 1
                continue
            if element in applied_at and next_shared < len(shared) and shared[next_shared] != element:
                left += 1
                continue
        if left < len(ours):
            element = ours[left]
            if element not in applied_at:
                merged.append(live[left])
                left += 1
                continue
            if element in done:
                left += 1
        if right < len(theirs):
            element = theirs[right]
            take(element)
            right += 1
            if next_shared < len(shared) and shared[next_shared] == element:
                next_shared += 1
    return merged


# ------------------------------------------------------------------ removing
def remove(schema: Schema, value: Any, paths: FieldSet) -> Any:
    """`value` without what `paths` names. A map or list of which nothing is left is None."""
    if not paths or not isinstance(value, dict | list):
        return value
    if is_atomic(schema, value):
        return None
    if isinstance(value, dict):
        kept = {}
        for name, child in value.items():
            below = paths.get(f"f:{name}")
            if below is None:
                kept[name] = child
            elif below and "." not in below:
                kept[name] = remove(field_of(schema, name), child, below)
        return kept or None
    items = schema.items or ANY
    rest = []
    for element, item in zip(elements(schema, value), value, strict=True):
        below = paths.get(element)
        if below is None:
            rest.append(item)
        elif below and "." not in below:
            rest.append(remove(items, item, below))
    return rest or None


def with_named_fields(schema: Schema, paths: FieldSet) -> FieldSet:
    """`paths` in which every field that the schema names is a member where something below it is."""
    found: FieldSet = {}
    for element, below in paths.items():
        if element == "." or not below:
            found[element] = below
            continue
        sort, _, name = element.partition(":")
        named = sort == "f" and name in schema.properties
        items = (schema.items or ANY) if sort == "k" else ANY
        deeper = with_named_fields(field_of(schema, name) if sort == "f" else items, below)
        found[element] = {".": MEMBER, **deeper} if named else deeper
    return found


# ------------------------------------------------------------------ validating
def validate(schema: Schema, value: Any, *, duplicates: bool = False) -> None:
    """Check that an applied configuration fits its schema, and names no item twice unless `duplicates` are let in.

    Raises NotTyped with every error.
    """
    errors = list(_errors(schema, value, "", duplicates))
    if len(errors) == 1:
        raise NotTyped(errors[0])
    if errors:
        raise NotTyped("\n".join(["errors:", *(f"  {error}" for error in errors)]))


def _errors(schema: Schema, value: Any, path: str, duplicates: bool) -> Iterator[str]:
    if value is None:
        return
    if schema.type == "object":
        if not isinstance(value, dict):
            yield _at(path, f"expected map, got {_pointer(value)}")
            return
        yield from _map_errors(schema, value, path, duplicates)
    elif schema.type == "array":
        if not isinstance(value, list):
            yield _at(path, f"expected list, got {_pointer(value)}")
            return
        yield from _list_errors(schema, value, path, duplicates)
    elif schema.type:
        text = _scalar_error(schema, value)
        if text:
            yield _at(path, text)
    elif isinstance(value, dict | list | Foreign) and schema.name in _SCALARS:
        yield _at(path, f"expected any scalar, got {_pointer(value)}")
    elif isinstance(value, dict):
        yield from _map_errors(schema, value, path, duplicates)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _errors(schema.items or ANY, item, f"{path}[{position}]", duplicates)
    elif isinstance(value, Foreign):
        yield _at(path, f"expected map, got {_pointer(value)}")


def _map_errors(schema: Schema, value: dict[str, Any], path: str, duplicates: bool) -> Iterator[str]:
    closed = schema.additional is None and bool(schema.properties) and not schema.open
    for name, child in value.items():
        field = schema.properties.get(name)
        if field is None and closed:
            yield _at(f"{path}.{name}", "field not declared in schema")
        else:
            yield from _errors(field or schema.additional or ANY, child, f"{path}.{name}", duplicates)


def _list_errors(schema: Schema, value: list[Any], path: str, duplicates: bool) -> Iterator[str]:
    items = schema.items or ANY
    if schema.list_type not in ("map", "set"):
        for position, item in enumerate(value):
            yield from _errors(items, item, f"{path}[{position}]", duplicates)
        return
    element_of = _key_element if schema.list_type == "map" else _value_element
    seen: set[str] = set()
    for position, item in enumerate(value):
        try:
            element = element_of(schema, item)
        except NotTyped as error:
            yield _at(path, f"element {position}: {error}")
            return  # of what comes after it nothing is said
        text = path_text((element,))
        if element in seen and not duplicates:
            yield _at(path, f"duplicate entries for key {text}")
        seen.add(element)
        yield from _errors(items, item, f"{path}{text}", duplicates)


def _scalar_error(schema: Schema, value: Any) -> str:
    if schema.type in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"expected numeric (int or float), got {_go_type(value)}"
    elif schema.type == "boolean":
        if not isinstance(value, bool):
            return f"expected boolean, got {_pointer(value)}"
    elif schema.format in ("", "byte"):
        if not isinstance(value, str):
            return f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
    elif isinstance(value, dict | list | Foreign):
        return f"expected any scalar, got {_pointer(value)}"
    return ""


def _at(path: str, text: str) -> str:
    return f"{path}: {text}" if path else text


class Foreign(Struct, frozen=True):
    """A value of a Go type that no field takes, as Go's formats show it: `%T`, `%v`, `%#v`."""

    go_type: str
    text: str
    syntax: str

    def __str__(self) -> str:
        return self.text


def _pointer(value: Any) -> str:
    """Go's `%v` of the wrapper that values come in."""
    return f"&{{{value_text(value)}}}"


def _go_type(value: Any) -> str:
    if isinstance(value, Foreign):
        return value.go_type
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    return "string" if isinstance(value, str) else type(value).__name__


def _go_syntax(value: Any) -> str:
    """Go's `%#v`."""
    if isinstance(value, Foreign):
        return value.syntax
    if isinstance(value, dict):
        pairs = ", ".join(f"{_go_syntax(key)}:{_go_syntax(value[key])}" for key in sorted(value))
        return f"map[string]interface {{}}{{{pairs}}}"
    if isinstance(value, list):
        return f"[]interface {{}}{{{', '.join(map(_go_syntax, value))}}}"
    if isinstance(value, str):
        return orjson.dumps(value).decode()
    return "interface {}(nil)" if value is None else value_text(value)
