"""What changed between two states of an object, as a JSON patch (RFC 6902)."""

from __future__ import annotations

from typing import Any

import orjson

_MISSING: Any = object()
# Most fields are these, and most are as they were: no path is written for them.
_SCALARS = frozenset({str, int, float, bool, type(None)})


def between(before: bytes, after: bytes) -> list[dict[str, Any]]:
    """The operations that turn one JSON document into the other. Lists are compared position by position."""
    operations: list[dict[str, Any]] = []
    _compare("", orjson.loads(before), orjson.loads(after), operations)
    return operations


def _compare(path: str, old: Any, new: Any, operations: list[dict[str, Any]]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old:
            if name not in new:
                operations.append({"op": "remove", "path": _child(path, name)})
        for name, value in new.items():
            found = old.get(name, _MISSING)
            if found is _MISSING:
                operations.append({"op": "add", "path": _child(path, name), "value": value})
            elif type(value) not in _SCALARS or type(found) is not type(value) or found != value:
                _compare(_child(path, name), found, value, operations)
    elif isinstance(old, list) and isinstance(new, list):
        shared = min(len(old), len(new))
        for position in range(shared):
            _compare(f"{path}/{position}", old[position], new[position], operations)
        for position in range(len(old) - 1, shared - 1, -1):
            operations.append({"op": "remove", "path": f"{path}/{position}"})
        for value in new[shared:]:
            operations.append({"op": "add", "path": f"{path}/-", "value": value})
    elif type(old) is not type(new) or old != new:
        operations.append({"op": "replace", "path": path, "value": new})


def _child(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
