"""Lists: Kubernetes' own functions, and cel-go's extended ones (version 3)."""

from __future__ import annotations

from functools import cmp_to_key
from itertools import pairwise
from typing import Any

from kubegate.cel import costs, standard, values
from kubegate.cel.functions import Library
from kubegate.cel.values import CostExceeded, Duration, EvaluationError, UInt

library = Library()
overload = library.overload

_COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_ZERO: dict[str, Any] = {"int": 0, "uint": UInt(0), "double": 0.0, "duration": Duration(0)}


@overload(*(f"list({kind}).isSorted() -> bool" for kind in _COMPARABLE))
def _is_sorted(items: list[Any]) -> bool:
    return all(values.compare(a, b) <= 0 for a, b in pairwise(items))


def _declare_sums() -> None:
    for kind, zero in _ZERO.items():

        def total(items: list[Any], zero: Any = zero) -> Any:
            result = zero
            for item in items:
                result = standard.add(result, item)
            return result

        overload(f"list({kind}).sum() -> {kind}")(total)


_declare_sums()


@overload(*(f"list({kind}).max() -> {kind}" for kind in _COMPARABLE))
def _max(items: list[Any]) -> Any:
    return _extreme(items, "max", -1)


@overload(*(f"list({kind}).min() -> {kind}" for kind in _COMPARABLE))
def _min(items: list[Any]) -> Any:
    return _extreme(items, "min", 1)


def _extreme(items: list[Any], name: str, worse: int) -> Any:
    if not items:
        raise EvaluationError(f"{name} called on empty list")
    best = items[0]
    for item in items[1:]:
        if values.compare(best, item) == worse:
            best = item
    return best


@overload("list(A).indexOf(A) -> int")
def _index_of(items: list[Any], wanted: Any) -> int:
    return next((i for i, item in enumerate(items) if values.equal(item, wanted)), -1)


@overload("list(A).lastIndexOf(A) -> int")
def _last_index_of(items: list[Any], wanted: Any) -> int:
    return next((i for i in reversed(range(len(items))) if values.equal(items[i], wanted)), -1)


@overload("list(T).slice(int, int) -> list(T)")
def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    call = f"cannot slice({start}, {end})"
    if start < 0 or end < 0:
        raise EvaluationError(f"{call}, negative indexes not supported")
    if start > end:
        raise EvaluationError(f"{call}, start index must be less than or equal to end index")
    if len(items) < end:
        raise EvaluationError(f"{call}, list is length {len(items)}")
    return list(items[start:end])


@overload("list(list(T)).flatten() -> list(T)")
def _flatten_once(items: list[Any]) -> list[Any]:
    return _flatten(items, 1)


@overload("list(dyn).flatten(int) -> list(dyn)")
def _flatten(items: list[Any], depth: int) -> list[Any]:
    if depth < 0:
        raise EvaluationError("level must be non-negative")
    flat: list[Any] = []
    for item in items:
        if isinstance(item, (list, tuple)) and depth:
            flat.extend(_flatten(list(item), depth - 1))
        else:
            flat.append(item)
        if len(flat) > costs.PER_CALL:
            raise CostExceeded
    return flat


@overload(*(f"list({kind}).sort() -> list({kind})" for kind in _COMPARABLE))
def _sort(items: list[Any]) -> list[Any]:
    return _sort_by(items, items)


@overload(*(f"list(T).@sortByAssociatedKeys(list({kind})) -> list(T)" for kind in _COMPARABLE))
def _sort_by(items: list[Any], keys: list[Any]) -> list[Any]:
    if not items:
        return items
    if values.type_name(keys[0]) in ("list", "map", "null_type"):
        raise EvaluationError("list elements must be comparable")
    if any(type(key) is not type(keys[0]) for key in keys):
        raise EvaluationError("list elements must have the same type")
    if len(items) ** 2 > costs.PER_CALL:
        raise CostExceeded
    order = cmp_to_key(values.compare)
    return [items[i] for i in sorted(range(len(items)), key=lambda i: order(keys[i]))]


@overload("lists.range(int) -> list(int)")
def _range(count: int) -> list[int]:
    if count < 0:
        raise EvaluationError(f"lists.range: size must be non-negative, got {count}")
    if count > costs.PER_CALL:
        raise CostExceeded
    return list(range(count))


@overload("list(T).reverse() -> list(T)")
def _reverse(items: list[Any]) -> list[Any]:
    return list(reversed(items))


@overload("list(T).distinct() -> list(T)")
def _distinct(items: list[Any]) -> list[Any]:
    if len(items) ** 2 > costs.PER_CALL:
        raise CostExceeded
    found: list[Any] = []
    for item in items:
        if not values.contains(found, item):
            found.append(item)
    return found
