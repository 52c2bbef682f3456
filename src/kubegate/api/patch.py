"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386) as kube-apiserver applies them.

It uses evanphx/json-patch v4, whose differences from the RFCs are kept: `replace` of a missing key adds it, `copy` of
a missing key copies null, negative list indices count from the end.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubegate.api import Object, clone, codec, gojson
from kubegate.api.status import StatusError, bad_request

MAX_OPERATIONS = 10_000
"""The server's limit for one JSON patch."""
MAX_COPIED_BYTES = 3 * 1024 * 1024
"""What `copy` operations of one patch may add in total; else one could double an object with every operation."""

_OPERATION_FIELDS = frozenset({"op", "path", "from", "value"})


def json_patch(obj: Object, body: bytes, *, strict: bool = True) -> Object:
    """Apply a JSON patch to `obj`, which stays as it was. What comes out need not be a valid object.

    Raises StatusError: 400 for what is no patch (in other words where fields are not validated: not `strict`), 413 for
    too many operations, 422 where an operation cannot be done.
    """
    operations = _decode(body, "error decoding patch: " if strict else "")
    if operations is None:
        return clone(obj)
    _check_operations(operations, strict)
    if len(operations) > MAX_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}"
        raise StatusError(413, "RequestEntityTooLarge", f"Request entity too large: {text}")
    document: Any = clone(obj)
    copied = 0
    try:
        for operation in operations:
            document, size = _perform(document, operation or {})
            copied += size
            if copied > MAX_COPIED_BYTES:
                raise _Impossible("copied too much")
        if codec.too_deep(document):
            raise _Impossible("what comes out is nested too deeply")
    except _Impossible:
        raise _unprocessable() from None
    return document  # type: ignore[no-any-return]


def unknown_fields(operations: Any) -> list[str]:
    """Paths of fields in a JSON patch (decoded) that mean nothing."""
    return [
        f"[{position}].{name}"
        for position, operation in enumerate(operations or ())
        for name in operation or ()
        if name not in _OPERATION_FIELDS
    ]


def merge_patch(obj: Object, body: bytes, *, strict: bool = True) -> Object:
    """Apply a JSON merge patch to `obj`, which stays as it was. Raises StatusError 400 for what is no merge patch."""
    try:
        patch = _decode(body, "error decoding patch: ")
    except StatusError:
        if strict:
            raise
        patch = None
    if patch is None or not (strict or isinstance(patch, dict)):
        raise bad_request("Invalid JSON Patch")
    if not isinstance(patch, dict):
        text = gojson.cannot_unmarshal(patch, "Go value of type map[string]interface {}")
        raise bad_request(f"error decoding patch: {text}")
    document = clone(obj)
    _merge(document, patch)
    return document


class _Impossible(Exception):
    """An operation that does not apply. Clients are told no more than that."""


def _decode(body: bytes, said_before: str) -> Any:
    try:
        return gojson.loads(body)
    except ValueError as error:
        raise bad_request(f"{said_before}{error}") from None


def _unprocessable() -> StatusError:
    return StatusError(422, "Invalid", "the server rejected our request due to an error in our request", {})


# ------------------------------------------------------------------ JSON patch
def _check_operations(operations: Any, strict: bool) -> None:
    """Raises 400 for what is no list of operations; strict decoding looks at their fields as well."""
    before, listed, single = "error decoding patch: ", "[]handlers.jsonPatchOp", "handlers.jsonPatchOp"
    if not strict:
        before, listed, single = "", "jsonpatch.Patch", "jsonpatch.Operation"
    if not isinstance(operations, list):
        raise bad_request(before + gojson.cannot_unmarshal(operations, f"Go value of type {listed}"))
    for operation in operations:
        if operation is None:
            continue
        if not isinstance(operation, dict):
            raise bad_request(before + gojson.cannot_unmarshal(operation, f"Go value of type {single}"))
        for name in ("op", "path", "from") if strict else ():
            value = operation.get(name)
            if value is not None and not isinstance(value, str):
                into = f"Go struct field jsonPatchOp.{name} of type string"
                raise bad_request(before + gojson.cannot_unmarshal(value, into))


def _perform(document: Any, operation: Object) -> tuple[Any, int]:
    """The document after one operation, and how many bytes a copy added."""
    match operation.get("op"):
        case "add":
            container, key = _find(document, _path(operation))
            _add(container, key, operation.get("value"))
        case "remove":
            container, key = _find(document, _path(operation))
            _remove(container, key)
        case "replace":
            if _path(operation) == "":
                value = operation.get("value")
                if not isinstance(value, dict | list):
                    raise _Impossible("the whole document can be replaced by an object or array only")
                return value, 0
            container, key = _find(document, _path(operation))
            _get(container, key)
            _set(container, key, operation.get("value"))
        case "move":
            container, key = _find(document, _path(operation, "from"))
            value = _get(container, key)
            _remove(container, key)
            container, key = _find(document, _path(operation))
            _add(container, key, value)
        case "copy":
            container, key = _find(document, _path(operation, "from"))
            encoded = _encoded(_get(container, key))
            container, key = _find(document, _path(operation))
            _add(container, key, orjson.loads(encoded))
            return document, len(encoded)
        case "test":
            _test(document, operation)
        case _:
            raise _Impossible("no such operation")
    return document, 0


def _encoded(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        raise _Impossible("what is to be copied is nested too deeply") from None


def _path(operation: Object, name: str = "path") -> str:
    path = operation.get(name)
    if not isinstance(path, str):
        raise _Impossible(f"the operation has no {name}")
    return path


def _find(document: Any, path: str) -> tuple[Any, str]:
    """The container that a path's last part is in, and that part. What stands before the first slash is ignored."""
    parts = path.split("/")
    if len(parts) < 2:
        raise _Impossible("the path names nothing in the document")
    container = document
    for part in parts[1:-1]:
        container = _get(container, unescaped(part))
        if not isinstance(container, dict | list):
            raise _Impossible("the path leads through something that has no parts")
    return container, unescaped(parts[-1])


def unescaped(part: str) -> str:
    """A part of a JSON pointer as the name that it stands for."""
    return part.replace("~1", "/").replace("~0", "~")


def _index(key: str, length: int) -> int:
    """A list index; negative ones count from the end."""
    try:
        position = int(key)
    except ValueError:
        raise _Impossible("a list index must be a number") from None
    if position < -length or position >= length:
        raise _Impossible("the list is not that long")
    return position + length if position < 0 else position


def _get(container: Any, key: str) -> Any:
    if isinstance(container, dict):
        return container.get(key)
    return container[_index(key, len(container))]


def _set(container: Any, key: str, value: Any) -> None:
    if isinstance(container, dict):
        container[key] = value
    else:
        container[_index(key, len(container))] = value


def _add(container: Any, key: str, value: Any) -> None:
    if isinstance(container, dict):
        container[key] = value
    elif key == "-":
        container.append(value)
    else:
        container.insert(_index(key, len(container) + 1), value)


def _remove(container: Any, key: str) -> None:
    if isinstance(container, dict):
        if key not in container:
            raise _Impossible("there is nothing to remove")
        del container[key]
    else:
        del container[_index(key, len(container))]


def _test(document: Any, operation: Object) -> None:
    path = _path(operation)
    found = document
    if path != "":
        container, key = _find(document, path)
        found = _get(container, key)
    if not same(found, operation.get("value")):
        raise _Impossible("the test failed")


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: unlike Python's, true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


# ------------------------------------------------------------------ merge patch
def _merge(document: Object, patch: Object) -> None:
    """RFC 7386, except that nulls inside lists stay and that only new values lose their nulls."""
    for key, value in patch.items():
        if value is None:
            document.pop(key, None)
            continue
        current = document.get(key)
        if isinstance(current, dict) and isinstance(value, dict):
            _merge(current, value)
        else:
            if not isinstance(current, dict):
                _prune_nulls(value)
            document[key] = value


def _prune_nulls(value: Any) -> None:
    if isinstance(value, dict):
        for key in [key for key, child in value.items() if child is None]:
            del value[key]
        for child in value.values():
            _prune_nulls(child)
    elif isinstance(value, list):
        for child in value:
            _prune_nulls(child)
