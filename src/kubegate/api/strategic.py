"""Strategic merge patch: lists merge by their elements' keys, and directives say what else to do.

Follows k8s.io/apimachinery/pkg/util/strategicpatch. The merge keys and strategies are the schema's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from kubegate.api import Object, clone, gojson
from kubegate.api.codec import json_type
from kubegate.api.schema import ANY, Schema
from kubegate.api.status import StatusError, bad_request

_DIRECTIVE = "$patch"
_RETAIN_KEYS = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList"
_ORDER = "$setElementOrder"

_MAP = "map[string]interface {}"
_LIST = "[]interface {}"

_BAD_PRIMITIVE_LIST = "invalid patch format of primitive list"
_BAD_RETAIN_KEYS = "invalid patch format of retainKeys"
_BAD_ORDER = "invalid patch format of setElementOrder list"


def strategic_merge_patch(obj: Object, body: bytes, schema: Schema | None) -> Object:
    """Apply a strategic merge patch to `obj`, which stays as it was. What comes out need not be a valid object.

    Raises StatusError: 400 for what is no patch or a directive in the wrong form, 422 for lists of lists, 500 (as
    kube-apiserver does) where a merge key is missing or a directive is unknown.
    """
    try:
        patch = gojson.loads(body)
    except ValueError as error:
        raise bad_request(str(error)) from None
    if patch is None:
        patch = {}
    if not isinstance(patch, dict):
        raise bad_request(gojson.cannot_unmarshal(patch, "Go value of type map[string]interface {}"))
    return _merge_map(clone(obj), patch, schema or ANY)


def _failed(text: str) -> StatusError:
    """What kube-apiserver has no status of its own for."""
    return StatusError(500, "", text)


def _no_merge_key(element: Any, merge_key: str) -> StatusError:
    return _failed(f"map: {gojson.value_text(element)} does not contain declared merge key: {merge_key}")


def _unknown_directive(directive: Any, where: Any) -> StatusError:
    if directive is None:
        shown = "%!s(<nil>)"
    elif isinstance(directive, str | dict | list):
        shown = gojson.value_text(directive)
    else:  # Go is told to write a text, and says what it got
        shown = f"%!s({_go_type(directive)}={gojson.value_text(directive)})"
    return _failed(f"unknown patch type: {shown} in map: {gojson.value_text(where)}")


def _bad_type(wanted: str, found: Any) -> StatusError:
    shown = "%!s(<nil>)" if found is None else _go_type(found)
    return _failed(f"expected a {wanted}, but received a {shown}")


# ------------------------------------------------------------------ maps
def _merge_map(original: Object, patch: Object, schema: Schema) -> Object:
    if _DIRECTIVE in patch:
        directive = patch.pop(_DIRECTIVE)
        if directive == "replace":
            return patch
        if directive == "delete":
            return {}
        raise _unknown_directive(directive, {_DIRECTIVE: directive, **patch})
    _retain_keys(original, patch)
    _merge_ordered_lists(original, patch, schema)
    for name, value in patch.items():
        deleting = name.startswith(_DELETE_FROM)
        key = _directed_key(name, _DELETE_FROM, _BAD_PRIMITIVE_LIST) if deleting else name
        if value is None:
            original.pop(key, None)
            continue
        current = original.get(key)
        if isinstance(current, dict) and isinstance(value, dict):
            original[key] = _merge_map(current, value, _field(schema, key))
        elif isinstance(current, list) and isinstance(value, list):
            original[key] = _merge_list_field(current, value, _field(schema, key), deleting)
        elif not deleting:
            _take(original, key, value, same_kind=key in original and _kind(current) == _kind(value))
    return original


def _take(original: Object, key: str, value: Any, *, same_kind: bool) -> None:
    """Take the patch's value for what was not there, or was of another kind."""
    if same_kind:
        original[key] = value
        return
    _drop_nulls(value)
    kept, cleaned = _without_directives(value)
    if kept:
        original[key] = cleaned
    else:
        original.pop(key, None)


def _kind(value: Any) -> str:
    return "null" if value is None else json_type(value)


def _field(schema: Schema, name: str) -> Schema:
    """Raises StatusError where Go's types cannot tell how a value is merged."""
    found = schema.properties.get(name)
    if found is not None:
        return found
    if schema.additional is not None:
        raise _failed("merging an object in json but data type is not struct, instead is: map")
    if schema is ANY:
        return ANY
    raise _failed(f'unable to find api field in struct {schema.kind_name} for the json field "{name}"')


def _directed_key(name: str, prefix: str, error: str) -> str:
    directive, slash, key = name.partition("/")
    if directive != prefix or not slash:
        raise bad_request(error)
    return key


def _drop_nulls(value: Any) -> None:
    """Nulls in a map delete; where there is nothing to delete they are left out."""
    if isinstance(value, dict):
        for key in [key for key, child in value.items() if child is None]:
            del value[key]
        for child in value.values():
            _drop_nulls(child)
    elif isinstance(value, list):
        for child in value:
            _drop_nulls(child)


def _without_directives(value: Any) -> tuple[bool, Any]:
    """Whether to keep a value that is taken as it is, and what is left of it: maps that are directives go.

    Other directives stay, as if they were fields.
    """
    if isinstance(value, list):
        kept = [cleaned for keep, cleaned in map(_without_directives, value) if keep]
        return True, kept
    if not isinstance(value, dict):
        return True, value
    if _DIRECTIVE in value:
        return False, None
    out = {}
    for key, child in value.items():
        keep, cleaned = _without_directives(child)
        if keep:
            out[key] = cleaned
    return True, out


def _retain_keys(original: Object, patch: Object) -> None:
    """`$retainKeys: [a, b]`: all other keys go; the patch may set no others."""
    if _RETAIN_KEYS not in patch:
        return
    retained = patch.pop(_RETAIN_KEYS)
    if not isinstance(retained, list):
        raise bad_request(_BAD_RETAIN_KEYS)
    names = {name for name in retained if isinstance(name, str)}
    for key, value in patch.items():
        if value is not None and not key.startswith((_DELETE_FROM, _ORDER)) and key not in names:
            raise bad_request(_BAD_RETAIN_KEYS)
    for key in [key for key in original if key not in names]:
        del original[key]


def _merge_ordered_lists(original: Object, patch: Object, schema: Schema) -> None:
    """`$setElementOrder/NAME`: merge the list NAME and put it in this order; what only the server has is kept."""
    for name in [name for name in patch if name.startswith(_ORDER)]:
        order = patch.pop(name)
        if not isinstance(order, list):
            raise _bad_type(_LIST, order)
        key = _directed_key(name, _ORDER, _BAD_ORDER)
        for side in (original, patch):
            if key in side and not isinstance(side[key], list):
                raise _bad_type(_LIST, side[key])
        current, wanted = original.get(key, []), patch.get(key, [])
        field = _field(schema, key)
        merge_key = field.merge_key
        _check_order(wanted, order, merge_key)
        if key not in original and key not in patch:
            continue
        if key not in patch:
            merged = current
        elif key not in original:
            merged = _without_directives(wanted)[1]
        else:
            # Merging changes the list; where its elements stood before is needed below.
            merged = _merge_list_field(list(current), wanted, field, deleting=False)
        if merge_key:
            _find_all(merged, order, merge_key)
        if not current and not wanted:
            raise _failed("no elements in any of the given slices")
        _check_elements(current, wanted)
        for element in [] if merge_key else [*merged, *current]:
            if isinstance(element, dict):
                raise _no_merge_key(element, merge_key)
        original[key] = _in_order(merged, order, current, merge_key)
        patch.pop(key, None)


def _check_order(wanted: Sequence[Any], order: Sequence[Any], merge_key: str) -> None:
    """The elements that the patch sets must stand in the order list, in the same order."""
    if not wanted or not order:
        return
    elements = wanted
    if merge_key:
        for element in wanted:
            if not isinstance(element, dict):
                raise _bad_type(_MAP, element)
        elements = [element for element in wanted if element.get(_DIRECTIVE) != "delete"]
    place = seen = 0
    while place < len(elements) and seen < len(order):
        element = elements[place]
        if isinstance(element, dict) and _DIRECTIVE in element:
            place += 1
            continue
        if _identity(element, merge_key) == _identity(order[seen], merge_key):
            place += 1
        seen += 1
    if place < len(elements):
        raise _failed(
            f"The order in patch list:\n{gojson.value_text(list(wanted))}\n doesn't match {_ORDER} list:\n"
            f"{gojson.value_text(list(order))}\n"
        )


def _find_all(elements: Sequence[Any], order: Sequence[Any], merge_key: str) -> None:
    """Look for each element in the order list, from its start: all that is passed on the way must be maps."""
    wrong = next((position for position, value in enumerate(order) if not isinstance(value, dict)), len(order))
    before = {orjson.dumps(value.get(merge_key), option=orjson.OPT_SORT_KEYS) for value in order[:wrong]}
    for element in elements:
        if _token(element, merge_key) not in before and wrong < len(order):
            raise _failed(f"value for key {wrong} is not a map")


# ------------------------------------------------------------------ lists
def _merge_list_field(original: list[Any], patch: list[Any], field: Schema, deleting: bool) -> list[Any]:
    if not deleting and "merge" not in field.merge_strategy:
        return patch
    if not original and not patch:
        return original
    _check_elements(original, patch)
    element = original[0] if original else patch[0]
    if not isinstance(element, dict):
        if deleting:
            gone = {_token(value, "") for value in patch}
            return [value for value in original if _token(value, "") not in gone]
        return _in_order(_unique([*original, *patch]), patch, original, "")
    merge_key = field.merge_key
    if not merge_key:
        raise _failed("cannot merge lists without merge key for struct")
    original, patch = _directed(original, patch, merge_key)
    merged = list(original)
    places = _places(merged, merge_key)
    for value in patch:
        token = _token(value, merge_key)
        if token in places:
            position = places[token]
            merged[position] = _merge_map(merged[position], value, field.items or ANY)
        else:
            places[token] = len(merged)
            merged.append(value)
    return _in_order(merged, patch, original, merge_key)


def _directed(original: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """Carry out `$patch` elements: what is left of the original, and what is left to merge into it."""
    rest: list[Any] = []
    gone: set[bytes] = set()
    replace = False
    for element in patch:
        if _DIRECTIVE not in element:
            rest.append(element)
            continue
        directive = element[_DIRECTIVE]
        if directive == "delete":
            gone.add(_token(element, merge_key))
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise _failed("merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(directive, element)
    if replace:
        return rest, []
    return [current for current in original if _token(current, merge_key) not in gone] if gone else original, rest


def _in_order(merged: list[Any], order: Sequence[Any], server_order: Sequence[Any], merge_key: str) -> list[Any]:
    """What `order` names in that order, and between it the rest, where the server had it, as far as possible."""
    wanted, served = _places(order, merge_key), _places(server_order, merge_key)
    tokens = [(_token(element, merge_key), element) for element in merged]
    named = sorted((pair for pair in tokens if pair[0] in wanted), key=lambda pair: wanted[pair[0]])
    others = sorted((pair for pair in tokens if pair[0] not in wanted), key=lambda pair: served.get(pair[0], -1))
    result: list[Any] = []
    left = right = 0
    while left < len(others) and right < len(named):
        if 0 <= served.get(others[left][0], -1) < served.get(named[right][0], -1):
            result.append(others[left][1])
            left += 1
        else:
            result.append(named[right][1])
            right += 1
    return result + [element for _, element in named[right:] + others[left:]]


def _places(elements: Iterable[Any], merge_key: str) -> dict[bytes, int]:
    """Where each element stands; the first of those that are named alike."""
    places: dict[bytes, int] = {}
    for position, element in enumerate(elements):
        places.setdefault(_token(element, merge_key), position)
    return places


def _token(element: Any, merge_key: str) -> bytes:
    """An element's identity as something that can be looked up."""
    return orjson.dumps(_identity(element, merge_key), option=orjson.OPT_SORT_KEYS)


def _identity(element: Any, merge_key: str) -> Any:
    """What tells elements apart: the merge key's value, or the value itself."""
    if not merge_key:
        return element
    if not isinstance(element, dict):
        raise _bad_type(_MAP, element)
    if merge_key not in element:
        raise _no_merge_key(element, merge_key)
    return element[merge_key]


def _check_elements(original: Sequence[Any], patch: Sequence[Any]) -> None:
    """All elements must be of one kind, and not lists."""
    first: str | None = None
    for element in [*original, *patch]:
        kind = _go_type(element)
        if first is None:
            first = kind
            if kind == _LIST:
                raise StatusError(422, "Invalid", "the server rejected our request due to an error in our request", {})
        elif kind != first:
            shown = gojson.value_text([list(original), list(patch)])
            raise _failed(f"list element types are not identical: {shown}")


def _unique(values: Iterable[Any]) -> list[Any]:
    return list({_token(value, ""): value for value in values}.values())


def _go_type(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "int64" if isinstance(value, int) else "float64"
    return {"object": _MAP, "array": _LIST, "string": "string", "bool": "bool"}[json_type(value)]
