"""JSON patches as webhooks and mutating policies send them, with the texts of evanphx/json-patch v4.

What a client's PATCH is answered tells no more than that it failed (see api.patch); whose patch comes from a webhook
is told what, so the same operations are done here with their errors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from kubegate.api import Object, clone, gojson
from kubegate.api.codec import too_deep
from kubegate.api.field import quoted
from kubegate.api.patch import MAX_COPIED_BYTES, same, unescaped

_MISSING = "missing value"
_SHORT = ("add", "remove", "copy")
"""Of these the library does not tell what is wrong with the path."""
_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
_TOO_DEEP = "what comes out is nested too deeply"


class PatchError(Exception):
    """The patch cannot be applied; the text is the library's."""


def decode(patch: bytes) -> list[Object]:
    """The operations of a patch. Raises ValueError with Go's text for what is no list of objects."""
    operations = gojson.loads(patch)
    if operations is None:
        return []
    if not isinstance(operations, list):
        raise ValueError(gojson.cannot_unmarshal(operations, "Go value of type jsonpatch.Patch"))
    for operation in operations:
        if operation is not None and not isinstance(operation, dict):
            raise ValueError(gojson.cannot_unmarshal(operation, "Go value of type jsonpatch.Operation"))
    return [operation or {} for operation in operations]


def apply(document: Object, operations: Sequence[Object]) -> Any:
    """What `document`, which stays as it was, becomes. Raises PatchError."""
    result: Any = clone(document)
    copied = 0
    for operation in operations:
        result, size = _perform(result, operation)
        copied += size
        if copied > MAX_COPIED_BYTES:
            raise PatchError(
                "Unable to complete the copy, the accumulated size increase of copy is "
                f"{copied}, exceeding the limit {MAX_COPIED_BYTES}"
            )
    if any(map(_deepens, operations)) and too_deep(result):
        raise PatchError(_TOO_DEEP)
    return result


def _deepens(operation: Object) -> bool:
    """Whether what comes out of an operation may be deeper than what was there."""
    return operation.get("op") in ("copy", "move") or isinstance(operation.get("value"), dict | list)


def _perform(document: Any, operation: Object) -> tuple[Any, int]:
    kind = operation.get("op")
    match kind:
        case "add":
            path = _text(operation, "path", kind)
            _add(*_found(document, path, 'add operation does not apply: doc is missing path: "%s"'), operation, path)
        case "remove":
            path = _text(operation, "path", kind)
            container, key = _found(document, path, 'remove operation does not apply: doc is missing path: "%s"')
            _remove(container, key, f"error in remove for path: '{path}'")
        case "replace":
            path = _text(operation, "path", kind)
            if path == "":
                # what is neither is passed over, because the library loses its own error
                value = operation.get("value")
                return (value if isinstance(value, (dict, list)) else document), 0
            container, key = _found(document, path, "replace operation does not apply: doc is missing path: %s")
            if isinstance(container, list) and isinstance(_position(key, len(container)), str):
                raise PatchError(f"replace operation does not apply: doc is missing key: {path}: {_MISSING}")
            # the library's own words for a failing replace speak of remove
            _set(container, key, operation.get("value"), f"error in remove for path: '{path}'")
        case "move":
            source = _text(operation, "from", kind)
            container, key = _found(document, source, "move operation does not apply: doc is missing from path: %s")
            value = _get(container, key, f"error in move for path: '{key}'")
            _remove(container, key, f"error in move for path: '{key}'")
            path = _text(operation, "path", kind)
            target, last = _found(document, path, "move operation does not apply: doc is missing destination path: %s")
            _insert(target, last, value, f"error in move for path: '{path}'")
        case "copy":
            source = _text(operation, "from", kind)
            container, key = _found(document, source, "copy operation does not apply: doc is missing from path: %s")
            value = _copy(_get(container, key, f"error in copy for from: '{source}'"))
            path = _text(operation, "path", kind)
            target, last = _found(document, path, "copy operation does not apply: doc is missing destination path: %s")
            _insert(target, last, value, "error while adding value during copy")
            return document, len(orjson.dumps(value))
        case "test":
            _test(document, operation)
        case _:
            raise PatchError(f"Unexpected kind: {kind if isinstance(kind, str) else 'unknown'}")
    return document, 0


def _copy(value: Any) -> Any:
    try:
        return clone(value)
    except TypeError:
        raise PatchError(_TOO_DEEP) from None


def _text(operation: Object, name: str, kind: str) -> str:
    value = operation.get(name)
    if isinstance(value, str):
        return value
    why = _MISSING
    if kind not in _SHORT or name == "from":
        lacks = "operation, missing" if name == "from" else "operation missing"
        missing = f"{lacks} {name} field: {_MISSING}"
        why = missing if value is None else gojson.cannot_unmarshal(value, "Go value of type string")
    raise PatchError(f"{kind} operation failed to decode {name}: {why}")


def _found(document: Any, path: str, missing: str) -> tuple[Any, str]:
    """The container that the path's last part is in, and that part."""
    parts = path.split("/")
    container = document if len(parts) >= 2 else None
    for part in parts[1:-1]:
        if isinstance(container, dict):
            container = container.get(unescaped(part))
        elif isinstance(container, list):
            position = _position(unescaped(part), len(container))
            container = container[position] if isinstance(position, int) else None
        else:
            container = None
        if not isinstance(container, (dict, list)):
            container = None
            break
    if container is None:
        raise PatchError(f"{missing % path}: {_MISSING}")
    return container, unescaped(parts[-1])


def _position(key: str, length: int) -> int | str:
    """An index into a list of `length`; negative ones count from the end. What is wrong with it, otherwise."""
    if not _INTEGER.fullmatch(key):
        return f"strconv.Atoi: parsing {quoted(key)}: invalid syntax"
    position = int(key)
    if not -(2**63) <= position < 2**63:
        return f"strconv.Atoi: parsing {quoted(key)}: value out of range"
    if position < -length or position >= length:
        return f"Unable to access invalid index: {position}: invalid index referenced"
    return position + length if position < 0 else position


def _at(container: list[Any], key: str, context: str) -> int:
    position = _position(key, len(container))
    if isinstance(position, str):
        raise PatchError(f"{context}: {position}")
    return position


def _get(container: Any, key: str, context: str) -> Any:
    if isinstance(container, dict):
        return container.get(key)
    return container[_at(container, key, context)]


def _set(container: Any, key: str, value: Any, context: str) -> None:
    if isinstance(container, dict):
        container[key] = value
    else:
        container[_at(container, key, context)] = value


def _add(container: Any, key: str, operation: Object, path: str) -> None:
    _insert(container, key, operation.get("value"), f"error in add for path: '{path}'")


def _insert(container: Any, key: str, value: Any, context: str) -> None:
    if isinstance(container, dict):
        container[key] = value
    elif key == "-":
        container.append(value)
    else:
        position = _position(key, len(container) + 1)
        if isinstance(position, str):
            if position.startswith("strconv"):
                position = f"value was not a proper array index: '{key}': {position}"
            raise PatchError(f"{context}: {position}")
        container.insert(position, value)


def _remove(container: Any, key: str, context: str) -> None:
    if isinstance(container, dict):
        if key not in container:
            raise PatchError(f"{context}: Unable to remove nonexistent key: {key}: {_MISSING}")
        del container[key]
    else:
        del container[_at(container, key, context)]


def _test(document: Any, operation: Object) -> None:
    path = _text(operation, "path", "test")
    found = document
    if path != "":
        container, key = _found(document, path, "test operation does not apply: is missing path: %s")
        found = _get(container, key, f"error in test for path: '{path}'")
    if not same(found, operation.get("value")):
        raise PatchError(f"testing value {path} failed: test failed")
