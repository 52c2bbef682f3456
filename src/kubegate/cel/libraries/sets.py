"""Lists as sets: cel-go's `sets`."""

from __future__ import annotations

from typing import Any

from kubegate.cel import values
from kubegate.cel.functions import Library

library = Library()
overload = library.overload


@overload("sets.contains(list(T), list(T)) -> bool")
def _contains(items: list[Any], wanted: list[Any]) -> bool:
    return all(values.contains(items, item) for item in wanted)


@overload("sets.equivalent(list(T), list(T)) -> bool")
def _equivalent(first: list[Any], second: list[Any]) -> bool:
    return _contains(first, second) and _contains(second, first)


@overload("sets.intersects(list(T), list(T)) -> bool")
def _intersects(first: list[Any], second: list[Any]) -> bool:
    return any(values.contains(second, item) for item in first)
