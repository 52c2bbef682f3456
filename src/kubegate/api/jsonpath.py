"""The JSONPath of printer columns: fields, elements, slices, wildcards, and filters such as `[?(@.type=="Ready")]`.

A path is compiled once; what cannot be understood matches nothing. Follows k8s.io/client-go/util/jsonpath.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

_Step = Callable[[Any], Iterator[Any]]

_MAX_LENGTH = 4096
_MOST_FOUND = 100_000
_TOKEN = re.compile(
    r"""
    (?P<recursive>\.\.)
  | \.?\[\?\(\s*@(?P<left>[^=!<>)]*?)\s*(?:(?P<operator>==|!=|<=|>=|<|>)\s*(?P<right>[^)]*?))?\s*\)\]
  | \.?\[\s*(?P<quote>['"])(?P<quoted>.*?)(?<!\\)(?P=quote)\s*\]
  | \.?\[\s*(?P<slice>-?\d*:-?\d*(?::\d*)?)\s*\]
  | \.?\[\s*(?P<index>-?\d+)\s*\]
  | \.?\[\s*(?P<every>\*)\s*\]
  | \.?(?P<name>(?:\\.|[^.\[\]\\])+)
    """,
    re.VERBOSE,
)
_OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def find(path: str, value: Any) -> list[Any]:
    """All that `path` (`.status.conditions[0].type`) finds in `value`, in order.

    Nothing where a step finds more than anybody would read: each `..` multiplies what the one before it found.
    """
    steps = _compiled(path)
    if steps is None:
        return []
    found = [value]
    for step in steps:
        found = list(islice((result for one in found for result in step(one)), _MOST_FOUND))
        if len(found) == _MOST_FOUND:
            return []
    return found


@lru_cache(1024)
def _compiled(path: str) -> tuple[_Step, ...] | None:
    if len(path) > _MAX_LENGTH:
        return None
    steps: list[_Step] = []
    position = 0
    while position < len(path):
        token = _TOKEN.match(path, position)
        if token is None:
            # A dot at the end is the object itself.
            return tuple(steps) if path[position:] == "." else None
        position = token.end()
        steps.append(_step(token))
    return tuple(steps)


def _step(token: re.Match[str]) -> _Step:
    if token["recursive"]:
        return _descend
    if token["left"] is not None:
        return _filter(token["left"], token["operator"], token["right"])
    if token["quoted"] is not None:
        return _path(f".{token['quoted']}")
    if token["slice"] is not None:
        start, end, step = (int(part) if part else None for part in f"{token['slice']}::".split(":")[:3])
        return _slice(start or 0, end, 1 if step is None else step)
    if token["index"] is not None:
        return _element(int(token["index"]))
    if token["every"] is not None or token["name"] == "*":
        return _members
    return _member(re.sub(r"\\(.)", r"\1", token["name"]))


def _member(name: str) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _element(index: int) -> _Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _path(path: str) -> _Step:
    """In quotes, too, a dot that is not escaped stands between fields."""
    return lambda value: iter(find(path, value))


def _slice(start: int, end: int | None, step: int) -> _Step:
    """Nothing where it reaches beyond the list."""

    def elements(value: Any) -> Iterator[Any]:
        if not isinstance(value, list):
            return
        size = len(value)
        first = start + size if start < 0 else start
        last = size if end is None else end + size if end < 0 else end
        if 0 <= first < last <= size and step > 0:
            yield from value[first:last:step]

    return elements


def _members(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _descend(value: Any) -> Iterator[Any]:
    yield value
    for member in list(_members(value)):
        yield from _descend(member)


def _filter(left: str, sign: str | None, right: str | None) -> _Step:
    compare = _OPERATORS.get(sign or "")

    def step(value: Any) -> Iterator[Any]:
        if not isinstance(value, list):
            return
        for element in value:
            found = find(left.strip(), element) if left.strip() else [element]
            if compare is None:
                matches = bool(found)
            else:
                wanted = _operand(right or "", element)
                matches = bool(found) and bool(wanted) and _compared(compare, found[0], wanted[0])
            if matches:
                yield element

    return step


def _operand(text: str, element: Any) -> list[Any]:
    """The right side of a filter: text in quotes, a number, a boolean, or a path of the element."""
    if text[:1] in ("'", '"') and len(text) > 1 and text[-1] == text[0]:
        return [re.sub(r"\\(.)", r"\1", text[1:-1])]
    if text in ("true", "false"):
        return [text == "true"]
    if text.startswith("@"):
        return find(text[1:], element)
    try:
        return [float(text)]
    except ValueError:
        return []


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return (numbers or type(left) is type(right)) and bool(compare(left, right))
