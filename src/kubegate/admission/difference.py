"""What changed between two states of an object, as a JSON patch (RFC 6902)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

Members = dict[str, bytes]
"""An object's members, each as JSON: a state of it that no later change reaches."""

_MISSING: Any = object()
_SCALARS = frozenset({str, int, float, bool, type(None)})
# Down to this depth, parts that are as they were are found by comparing them whole, which costs least. Each part is
# looked at once for each level above it, and no more often than this, however deep the document is.
_COMPARED_WHOLE = 6


def between(before: bytes, after: bytes) -> list[dict[str, Any]]:
    """The operations that turn one JSON document into the other. Lists are compared position by position."""
    operations: list[dict[str, Any]] = []
    _compare("", orjson.loads(before), orjson.loads(after), operations, 0)
    return operations


def members(document: Mapping[str, Any]) -> Members:
    """The document's state. Raises TypeError where it holds what is no JSON, or is nested too deep."""
    dumps = orjson.dumps
    return {name: dumps(value) for name, value in document.items()}


def changes(before: Members, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As `between`, from a state to the document as it is now. Only the members that differ are looked into.

    Raises TypeError as `members` does.
    """
    operations: list[dict[str, Any]] = []
    if not before.keys() <= document.keys():
        operations = [{"op": "remove", "path": _child("", name)} for name in before if name not in document]
    dumps = orjson.dumps
    for name, value in document.items():
        new = dumps(value)
        if name in before:
            if new != before[name]:
                _compare(_child("", name), orjson.loads(before[name]), orjson.loads(new), operations, 1)
        elif type(name) is str:
            operations.append({"op": "add", "path": _child("", name), "value": orjson.loads(new)})
        else:
            raise TypeError(f"a key is {type(name).__name__}; wanted is str")
    return operations


def _compare(path: str, old: Any, new: Any, operations: list[dict[str, Any]], depth: int) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        if not old.keys() <= new.keys():
            for name in old:
                if name not in new:
                    operations.append({"op": "remove", "path": _child(path, name)})
        for name, value in new.items():
            found = old.get(name, _MISSING)
            if found is _MISSING:
                operations.append({"op": "add", "path": _child(path, name), "value": value})
            elif type(value) in _SCALARS:
                if type(found) is not type(value) or found != value:
                    operations.append({"op": "replace", "path": _child(path, name), "value": value})
            elif _differs(found, value, depth):
                _compare(_child(path, name), found, value, operations, depth + 1)
    elif isinstance(old, list) and isinstance(new, list):
        shared = min(len(old), len(new))
        for position in range(shared):
            if type(new[position]) in _SCALARS or _differs(old[position], new[position], depth):
                _compare(f"{path}/{position}", old[position], new[position], operations, depth + 1)
        for position in range(len(old) - 1, shared - 1, -1):
            operations.append({"op": "remove", "path": f"{path}/{position}"})
        for value in new[shared:]:
            operations.append({"op": "add", "path": f"{path}/-", "value": value})
    elif type(old) is not type(new) or old != new:
        operations.append({"op": "replace", "path": path, "value": new})


def _differs(old: Any, new: Any, depth: int) -> bool:
    """Whether there may be a difference within. 1, 1.0 and True are equal in Python, and differ as JSON."""
    return depth >= _COMPARED_WHOLE or old != new or orjson.dumps(old) != orjson.dumps(new)


def _child(path: str, name: str) -> str:
    if "~" in name or "/" in name:
        name = name.replace("~", "~0").replace("/", "~1")
    return f"{path}/{name}"
