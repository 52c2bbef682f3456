"""Values by key, and the keys in order: what the watch cache holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sortedcontainers import SortedList

Value = TypeVar("Value")

_MOST_NEW = 1000
"""New keys that wait to be put in order: who reads next waits for that."""


class Ordered(Generic[Value]):
    """A key takes its place in the order when somebody reads in order: most writes come many to one such read."""

    __slots__ = ("_by_key", "_in_order", "_new", "get")

    def __init__(self, values: dict[str, Value] | None = None) -> None:
        self._by_key = values or {}
        self._in_order = SortedList(self._by_key)
        self._new: set[str] = set()
        self.get: Callable[[str], Value | None] = self._by_key.get

    def put(self, key: str, value: Value) -> None:
        if key not in self._by_key:
            new = self._new
            new.add(key)
            if len(new) > _MOST_NEW:
                self._order()
        self._by_key[key] = value

    def remove(self, key: str) -> None:
        """It may not be there."""
        if self._by_key.pop(key, None) is None:
            return
        if key in self._new:
            self._new.remove(key)
        else:
            self._in_order.remove(key)

    def place(self, key: str, *, after: bool = False) -> int:
        """How many keys are less than `key`; `after`: that, or `key` itself."""
        order = self._order()
        place: int = order.bisect_right(key) if after else order.bisect_left(key)
        return place

    def values(self, start: int, stop: int) -> list[Value]:
        """Those at the places from `start` up to, and without, `stop`."""
        by_key = self._by_key
        return [by_key[key] for key in self._order().islice(start, stop)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._order())

    def _order(self) -> SortedList:
        if self._new:
            self._in_order.update(self._new)
            self._new.clear()
        return self._in_order
