"""The paths that a new object brings: what `typed.compare` finds that an empty one has not, in Kubernetes' order.

Most objects are made with the same fields as many others, so that what a type's fields come to is remembered by their
names. Only where there is something below a field is its value looked at.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from kubegate.api import Object
from kubegate.api.managedfields import sets, typed
from kubegate.api.managedfields.sets import MEMBER, FieldSet
from kubegate.api.managedfields.zero import zero
from kubegate.api.schema import ANY, Schema

_ABSENT: Final = object()
_MOST_PLANS = 256  # of each type
# What is worked out for a type: as an object's, where there was nothing, where there was an empty value.
_OBJECT, _WHOLLY_NEW, _PARTLY_NEW = "added.object", "added.wholly", "added.partly"
_NOT_ITS_OWN = frozenset({"apiVersion", "kind", "metadata"})


class _Plan(Struct, frozen=True):
    """`paths`: those of the fields, as if there was nothing below them. `below`: the element, name and type of those
    whose value matters, and what an empty object has there; for structs what to work out for them, None for others."""

    paths: FieldSet
    below: tuple[tuple[str, str, Schema, Any, str | None], ...]


def of_object(schema: Schema, new: Object) -> FieldSet:
    """The paths that an object has and an empty one of its kind has not, but for those of its metadata.

    What comes out may be shared: it is not to be changed. Raises NotTyped.
    """
    return _of_fields(schema, new, None, _OBJECT)


def of_value(schema: Schema, value: Any) -> FieldSet:
    """The paths of a value where there was none, itself among them. Raises NotTyped."""
    if typed.is_atomic(schema, value):
        return MEMBER
    if isinstance(value, dict):
        return _of_fields(schema, value, {}, _WHOLLY_NEW)
    items = schema.items or ANY
    found: FieldSet = {".": MEMBER}
    for element, group in sorted(typed.grouped(schema, value).items()):
        found[element] = of_value(items, group[0]) if len(group) == 1 else MEMBER
    return found


def _of_fields(schema: Schema, value: dict[str, Any], empty: dict[str, Any] | None, sort: str) -> FieldSet:
    """`empty` is the same wherever a value of this type is met in this sort; None: the empty object of the kind."""
    if not schema.properties:  # the names are somebody's own, and seldom the same
        if sort is _WHOLLY_NEW and typed.is_always_atomic(schema.additional or ANY):
            return {".": MEMBER, **{f"f:{name}": MEMBER for name in sorted(value)}}
        return _followed(_planned(schema, value, empty, sort), value)
    plans: dict[tuple[str, ...], _Plan] | None = schema.cache.get(sort)
    if plans is None:
        plans = schema.cache[sort] = {}
    names = tuple(value)
    plan = plans.get(names)
    if plan is None:
        plan = _planned(schema, value, empty, sort)
        if value.keys() <= schema.properties.keys():
            if len(plans) >= _MOST_PLANS:
                plans.clear()
            plans[names] = plan
    return _followed(plan, value)


def _planned(schema: Schema, value: dict[str, Any], empty: dict[str, Any] | None, sort: str) -> _Plan:
    if empty is None:
        empty = zero(schema)
    paths: FieldSet = {".": MEMBER} if sort is _WHOLLY_NEW else {}
    below = []
    for name in sorted(value):
        if sort is _OBJECT and name in _NOT_ITS_OWN:
            continue
        field, before = typed.field_of(schema, name), empty.get(name, _ABSENT)
        element = f"f:{name}"
        paths[element] = MEMBER
        if before is not _ABSENT or not typed.is_always_atomic(field):
            below.append((element, name, field, before, _sort_of_struct(field, before)))
    return _Plan(paths, tuple(below))


def _sort_of_struct(schema: Schema, before: Any) -> str | None:
    if not schema.properties or schema.map_type == "atomic":
        return None
    return _WHOLLY_NEW if before is _ABSENT else _PARTLY_NEW if isinstance(before, dict) else None


def _followed(plan: _Plan, value: dict[str, Any]) -> FieldSet:
    if not plan.below:
        return plan.paths
    found = plan.paths.copy()
    for element, name, field, before, sort in plan.below:
        item = value[name]
        paths: FieldSet | None
        if sort is not None and item and type(item) is dict:
            paths = _of_fields(field, item, {} if before is _ABSENT else before, sort) or None
        elif before is _ABSENT:
            paths = of_value(field, item)
        else:
            paths = _changed(field, before, item)
        if paths is None:
            del found[element]
        else:
            found[element] = paths
    return found


def _changed(schema: Schema, before: Any, value: Any) -> FieldSet | None:
    """None where nothing is new."""
    if value == before:
        return None
    if isinstance(value, dict) and isinstance(before, dict) and not typed.is_atomic(schema, value):
        return _of_fields(schema, value, before, _PARTLY_NEW) or None
    changed, _ = typed.compare(schema, before, value)
    return None if changed is None else sets.in_order(changed)
