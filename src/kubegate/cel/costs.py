"""What evaluating costs, in kube-apiserver's units: roughly one for each step, more for what walks through data.

The amounts follow cel-go's runtime cost tracker and Kubernetes' own estimator for its libraries; clients meet them as
limits, so they are facts to keep, not choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from kubegate.cel.values import check_extent, cost_size

PER_CALL = 1_000_000
"""What one evaluation may cost."""
POLICY_BUDGET = 10_000_000
"""What all expressions of one policy (or of one custom resource) may cost for one object."""
MATCH_CONDITIONS_BUDGET = 2_500_000
"""What all match conditions of one webhook may cost for one request."""

TRAVERSAL = 0.1
"""Cost of each character that is walked through."""
PATTERN = 0.25
"""Cost of each character of a regular expression."""
LIST, MAP, OBJECT = 10, 30, 40
"""Cost of making one."""

Cost = Callable[[Sequence[Any], Any], int]
"""From the arguments (a member's target first) and the result to what the call cost."""


def walked(size: float) -> int:
    return math.ceil(size * TRAVERSAL)


def _first(arguments: Sequence[Any], _result: Any) -> int:
    return walked(cost_size(arguments[0]))


def _second(arguments: Sequence[Any], _result: Any) -> int:
    return walked(cost_size(arguments[1]))


def _first_twice(arguments: Sequence[Any], _result: Any) -> int:
    return walked(2 * cost_size(arguments[0]))


def _result_twice(_arguments: Sequence[Any], result: Any) -> int:
    return walked(2 * cost_size(result))


def _shorter(arguments: Sequence[Any], _result: Any) -> int:
    return walked(min(cost_size(arguments[0]), cost_size(arguments[1])))


def _both(arguments: Sequence[Any], _result: Any) -> int:
    return walked(cost_size(arguments[0]) + cost_size(arguments[1]))


def _second_size(arguments: Sequence[Any], _result: Any) -> int:
    return cost_size(arguments[1])


def _pattern(arguments: Sequence[Any], _result: Any) -> int:
    return walked(1 + cost_size(arguments[0])) * math.ceil(cost_size(arguments[1]) * PATTERN)


def _contains(arguments: Sequence[Any], _result: Any) -> int:
    return walked(cost_size(arguments[0])) * walked(cost_size(arguments[1]))


def traversal(value: Any) -> int:
    """Walking through a value and all that is in it."""
    if isinstance(value, (str, bytes)):
        return int(len(value.encode() if isinstance(value, str) else value) * TRAVERSAL)
    if isinstance(value, (list, tuple)):
        return sum(traversal(item) for item in value)
    if isinstance(value, dict):
        return sum(traversal(key) + traversal(item) for key, item in value.items())
    return 1


def _traversal(arguments: Sequence[Any], _result: Any) -> int:
    check_extent(arguments[0])
    return traversal(arguments[0])


def _contains_address(arguments: Sequence[Any], _result: Any) -> int:
    cost = walked(2 * cost_size(arguments[0]))
    return cost + walked(len(arguments[1])) if isinstance(arguments[1], str) else cost


def _contains_network(arguments: Sequence[Any], _result: Any) -> int:
    own = cost_size(arguments[0])
    cost = walked(2 * own) + walked(own) + 1
    return cost + walked(len(arguments[1])) if isinstance(arguments[1], str) else cost


def _set_product(arguments: Sequence[Any], _result: Any) -> int:
    return 1 + cost_size(arguments[0]) * cost_size(arguments[1])


def _set_product_twice(arguments: Sequence[Any], _result: Any) -> int:
    return 1 + 2 * cost_size(arguments[0]) * cost_size(arguments[1])


def _list_result(_arguments: Sequence[Any], result: Any) -> int:
    return 1 + LIST + cost_size(result)


def _flattened(arguments: Sequence[Any], _result: Any) -> int:
    depth = arguments[1] if len(arguments) == 2 else 1
    return 1 + LIST + cost_size(arguments[0]) * depth


def _compared(arguments: Sequence[Any], _result: Any) -> int:
    """Each element with each other, twice; of `@sortByAssociatedKeys` the keys."""
    compared = arguments[-1]
    size = cost_size(compared)
    factor = 2 + TRAVERSAL if size and isinstance(compared[0], (str, bytes)) else 2
    return 1 + LIST + int(size * size * factor)


def _validated(arguments: Sequence[Any], _result: Any) -> int:
    named = arguments[0]
    return walked(1 + len(arguments[1])) * math.ceil(getattr(named, "pattern_size", 10) * PATTERN)


def _selector(arguments: Sequence[Any], _result: Any) -> int:
    """Requirements of two characters or more, each an object with a list."""
    size = cost_size(arguments[1])
    return LIST + walked(size) + math.ceil(size * 0.5) * (LIST + OBJECT)


def _equals(arguments: Sequence[Any], result: Any) -> int:
    return 1 if hasattr(arguments[0], "cost_size") else _shorter(arguments, result)


_BY_FUNCTION: dict[str, int | Cost] = {
    "check": 350_000,
    "fieldSelector": _selector,
    "labelSelector": _selector,
    "isSorted": _traversal,
    "sum": _traversal,
    "max": _traversal,
    "min": _traversal,
    "indexOf": _traversal,
    "lastIndexOf": _traversal,
    "url": _first,
    "lowerAscii": _first,
    "upperAscii": _first,
    "substring": _first,
    "trim": _first,
    "replace": _first_twice,
    "split": _first_twice,
    "join": _result_twice,
    "find": _pattern,
    "findAll": _pattern,
    "cidr": _first,
    "isIP": _first,
    "isCIDR": _first,
    "ip": _first,
    "ip.isCanonical": _first_twice,
    "containsIP": _contains_address,
    "containsCIDR": _contains_network,
    "quantity": _first,
    "isQuantity": _first,
    "semver": _first,
    "isSemver": _first,
    "validate": _validated,
    "format.named": 1,
    "sets.contains": _set_product,
    "sets.intersects": _set_product,
    "sets.equivalent": _set_product_twice,
    "sort": _compared,
    "@sortByAssociatedKeys": _compared,
    "distinct": _compared,
    "flatten": _flattened,
    "slice": _list_result,
    "reverse": _list_result,
    "lists.range": _list_result,
    "jsonpatch.escapeKey": _first,
}
_COUNTED_WHERE_KNOWN = frozenset({"sort", "@sortByAssociatedKeys"})
"""They have an overload for each type of element; what that is, is not known of the lists of a dynamic object."""
_BY_OVERLOAD: dict[str, int | Cost] = {
    "starts_with_string": _second,
    "ends_with_string": _second,
    "string_to_bytes": _first,
    "bytes_to_string": _first,
    "in_list": _second_size,
    "less_string": _shorter,
    "greater_string": _shorter,
    "less_equals_string": _shorter,
    "greater_equals_string": _shorter,
    "less_bytes": _shorter,
    "greater_bytes": _shorter,
    "less_equals_bytes": _shorter,
    "greater_equals_bytes": _shorter,
    "equals": _equals,
    "not_equals": _shorter,
    "add_string": _both,
    "add_bytes": _both,
    "matches_string": _pattern,
    "contains_string": _contains,
    "cidr_ip": 1,
}


def of_call(function: str, overload: str) -> int | Cost:
    """What a call costs. `overload` is "" where the checker could not tell which of several it is."""
    if overload == "cidr_ip" or (not overload and function in _COUNTED_WHERE_KNOWN):
        return 1
    return _BY_FUNCTION.get(function) or _BY_OVERLOAD.get(overload) or 1
