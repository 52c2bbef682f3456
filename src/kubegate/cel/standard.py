"""CEL's standard functions and operators. Operators are told apart at run time by the values; functions by overload."""

from __future__ import annotations

import math
from datetime import UTC
from typing import Any

from kubegate.cel import values
from kubegate.cel.functions import Library
from kubegate.cel.types import CelType, parse, type_of
from kubegate.cel.values import (
    Duration,
    EvaluationError,
    Optional,
    Timestamp,
    UInt,
    checked_duration,
    checked_int,
    checked_timestamp,
    checked_uint,
    no_such_overload,
)

library = Library()
overload = library.overload

NUMBERS = ("int", "uint", "double")


# Joining lists costs nothing in Kubernetes' units; without a bound, few operations would fill the memory.
_MOST_ELEMENTS = 2_000_000


# --- operators: `no such overload` where the values do not fit, as with dyn operands they may not

_ADDABLE = frozenset({str, bytes})
_ORDERED_TYPES = frozenset({bool, bytes, float, Duration, int, str, Timestamp, UInt})
_LISTS = frozenset({list, values.KeyedList, values.OwnList, values.OwnTexts, tuple})
_TAKEN = {
    "_+_": frozenset({bytes, float, Duration, int, *_LISTS, str, Timestamp, UInt}),
    "_-_": frozenset({float, Duration, int, Timestamp, UInt}),
    "_*_": frozenset({float, int, UInt}),
    "_/_": frozenset({float, int, UInt}),
    "_%_": frozenset({int, UInt}),
    "-_": frozenset({bool, float, Duration, int}),
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), _ORDERED_TYPES),
}
"""The types whose values may stand at the left of an operator."""
_WITH_METHODS = frozenset({str, Timestamp, Duration})


def _unfit(operator: str, left: Any) -> EvaluationError:
    """Of a value that the operator never takes the operator is told; of two that do not fit each other it is not.

    Nor is it of values that have methods of their own.
    """
    plain = type(left) in _TAKEN[operator] or type(left) in _WITH_METHODS
    return EvaluationError("no such overload" if plain else f"no such overload: {operator}")


@overload("_+_(bytes, bytes) -> bytes", id="add_bytes")
@overload("_+_(double, double) -> double", id="add_double")
@overload("_+_(duration, duration) -> duration", id="add_duration_duration")
@overload("_+_(duration, timestamp) -> timestamp", id="add_duration_timestamp")
@overload("_+_(timestamp, duration) -> timestamp", id="add_timestamp_duration")
@overload("_+_(int, int) -> int", id="add_int64")
@overload("_+_(list(A), list(A)) -> list(A)", id="add_list")
@overload("_+_(string, string) -> string", id="add_string")
@overload("_+_(uint, uint) -> uint", id="add_uint64")
def add(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind in _ADDABLE:
            return left + right
        if kind is int:
            return checked_int(left + right)
        if kind is float:
            return left + right
        if kind is UInt:
            return checked_uint(int(left) + int(right))
        if kind is Duration:
            return checked_duration(left.nanoseconds + right.nanoseconds)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        if len(left) + len(right) > _MOST_ELEMENTS:
            raise values.CostExceeded
        return left.joined(right) if isinstance(left, values.KeyedList) else [*left, *right]
    if kind is Timestamp and type(right) is Duration:
        return checked_timestamp(left.nanoseconds + right.nanoseconds, left.offset)
    if kind is Duration and type(right) is Timestamp:
        return checked_timestamp(left.nanoseconds + right.nanoseconds, right.offset)
    raise _unfit("_+_", left)


@overload("_-_(double, double) -> double", id="subtract_double")
@overload("_-_(duration, duration) -> duration", id="subtract_duration_duration")
@overload("_-_(int, int) -> int", id="subtract_int64")
@overload("_-_(timestamp, duration) -> timestamp", id="subtract_timestamp_duration")
@overload("_-_(timestamp, timestamp) -> duration", id="subtract_timestamp_timestamp")
@overload("_-_(uint, uint) -> uint", id="subtract_uint64")
def subtract(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is int:
            return checked_int(left - right)
        if kind is float:
            return left - right
        if kind is UInt:
            return checked_uint(int(left) - int(right))
        if kind in (Duration, Timestamp):
            return checked_duration(left.nanoseconds - right.nanoseconds)
    if isinstance(left, Timestamp) and isinstance(right, Duration):
        return checked_timestamp(left.nanoseconds - right.nanoseconds, left.offset)
    raise _unfit("_-_", left)


@overload("_*_(double, double) -> double", id="multiply_double")
@overload("_*_(int, int) -> int", id="multiply_int64")
@overload("_*_(uint, uint) -> uint", id="multiply_uint64")
def multiply(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is int:
            return checked_int(left * right)
        if kind is float:
            return left * right
        if kind is UInt:
            return checked_uint(int(left) * int(right))
    raise _unfit("_*_", left)


@overload("_/_(double, double) -> double", id="divide_double")
@overload("_/_(int, int) -> int", id="divide_int64")
@overload("_/_(uint, uint) -> uint", id="divide_uint64")
def divide(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is not type(right) or not values.is_number(left):
        raise _unfit("_/_", left)
    if kind is float:
        if right == 0.0:
            if left == 0.0 or math.isnan(left):
                return math.nan
            return math.copysign(math.inf, left) * math.copysign(1.0, right)
        return left / right
    if right == 0:
        raise EvaluationError("division by zero")
    quotient = abs(int(left)) // abs(int(right))
    quotient = quotient if (left < 0) == (right < 0) else -quotient
    return checked_int(quotient) if kind is int else UInt(quotient)


@overload("_%_(int, int) -> int", id="modulo_int64")
@overload("_%_(uint, uint) -> uint", id="modulo_uint64")
def modulo(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is not type(right) or kind not in (int, UInt):
        raise _unfit("_%_", left)
    if right == 0:
        raise EvaluationError("modulus by zero")
    if kind is int and left == values.INT_MIN and right == -1:
        raise EvaluationError("integer overflow")
    remainder = abs(int(left)) % abs(int(right))
    return -remainder if left < 0 else kind(remainder)


@overload("-_(double) -> double", id="negate_double")
@overload("-_(int) -> int", id="negate_int64")
def negate(value: Any) -> Any:
    if type(value) is int:
        return checked_int(-value)
    if type(value) is float:
        return -value
    if type(value) is Duration:
        return checked_duration(-value.nanoseconds)
    raise _unfit("-_", value)


@overload("!_(bool) -> bool", id="logical_not")
def logical_not(value: Any) -> bool:
    if value is True:
        return False
    if value is False:
        return True
    raise no_such_overload()


_ORDERED = (
    ("bool", "bool"),
    ("int", "int"),
    ("int", "double"),
    ("int", "uint"),
    ("uint", "uint"),
    ("uint", "double"),
    ("uint", "int"),
    ("double", "double"),
    ("double", "int"),
    ("double", "uint"),
    ("string", "string"),
    ("bytes", "bytes"),
    ("timestamp", "timestamp"),
    ("duration", "duration"),
)
_OVERLOAD_NAMES = {"int": "int64", "uint": "uint64"}


def _compared(operator: str, left: Any, right: Any) -> int:
    if type(left) not in _TAKEN[operator]:
        raise _unfit(operator, left)
    return values.compare(left, right)


def _less(left: Any, right: Any) -> bool:
    if type(left) is int is type(right):
        return bool(left < right)
    return _compared("_<_", left, right) < 0


def _less_equal(left: Any, right: Any) -> bool:
    if type(left) is int is type(right):
        return bool(left <= right)
    return _compared("_<=_", left, right) <= 0


def _greater(left: Any, right: Any) -> bool:
    if type(left) is int is type(right):
        return bool(left > right)
    return _compared("_>_", left, right) > 0


def _greater_equal(left: Any, right: Any) -> bool:
    if type(left) is int is type(right):
        return bool(left >= right)
    return _compared("_>=_", left, right) >= 0


for _operator, _name, _compare in (
    ("_<_", "less", _less),
    ("_<=_", "less_equals", _less_equal),
    ("_>_", "greater", _greater),
    ("_>=_", "greater_equals", _greater_equal),
):
    for _left, _right in _ORDERED:
        _id = _OVERLOAD_NAMES.get(_left, _left)
        if _left != _right:
            _id += "_" + _OVERLOAD_NAMES.get(_right, _right)
        overload(f"{_operator}({_left}, {_right}) -> bool", id=f"{_name}_{_id}")(_compare)


@overload("_==_(A, A) -> bool", id="equals")
def equal(left: Any, right: Any) -> bool:
    return values.equal(left, right)


@overload("_!=_(A, A) -> bool", id="not_equals")
def not_equal(left: Any, right: Any) -> bool:
    try:
        return not values.equal(left, right)
    except EvaluationError:
        return True


@overload("@in(A, list(A)) -> bool", id="in_list")
@overload("@in(A, map(A, B)) -> bool", id="in_map")
def contained(wanted: Any, container: Any) -> bool:
    return values.contains(container, wanted)


def index(container: Any, key: Any) -> Any:
    """`container[key]`; raises `no such key` or `index out of bounds`."""
    if isinstance(container, dict):
        found = values.find(container, key)
        if found is values.MISSING:
            raise values.no_such_key(key)
        return found
    if isinstance(container, (list, tuple)):
        position = key
        if isinstance(key, float) and key.is_integer():
            position = int(key)
        if isinstance(position, bool) or not isinstance(position, int):
            raise no_such_index(key)
        if not 0 <= position < len(container):
            raise EvaluationError(f"index out of bounds: {values.plain_text(key)}")
        return container[position]
    if isinstance(container, Optional):
        return optional_index(container, key)
    if hasattr(container, "select"):
        return container.select(key)
    raise values.no_such_key(key)


def no_such_index(key: Any) -> EvaluationError:
    """The error of a list's element that is asked for by something that is no integer."""
    if isinstance(key, float):
        return EvaluationError(f"unsupported index value {values.plain_text(key)} in list")
    return EvaluationError(f"unsupported index type '{values.type_name(key)}' in list")


def optional_index(container: Any, key: Any) -> Optional:
    """`container[?key]`, and an index of an optional value: nothing where there is no such entry."""
    if isinstance(container, Optional):
        if not container.present:
            return container
        container = container.value
    if isinstance(container, dict):
        found = values.find(container, key)
        return values.NONE if found is values.MISSING else Optional(True, found)
    if isinstance(container, (list, tuple)):
        position = int(key) if isinstance(key, float) and key.is_integer() else key
        if isinstance(position, int) and not isinstance(position, bool) and 0 <= position < len(container):
            return Optional(True, container[position])
        return values.NONE
    if hasattr(container, "has"):
        return Optional(True, container.select(key)) if container.has(key) else values.NONE
    return values.NONE


overload("_[_](list(A), int) -> A", id="index_list")(index)
overload("_[_](map(A, B), A) -> B", id="index_map")(index)
overload("_[_](optional(list(V)), int) -> optional(V)", id="optional_list_index_int")(index)
overload("_[_](optional(map(K, V)), K) -> optional(V)", id="optional_map_index_value")(index)
overload("_[?_](list(V), int) -> optional(V)", id="list_optindex_optional_int")(optional_index)
overload("_[?_](optional(list(V)), int) -> optional(V)", id="optional_list_optindex_optional_int")(optional_index)
overload("_[?_](map(K, V), K) -> optional(V)", id="map_optindex_optional_value")(optional_index)
overload("_[?_](optional(map(K, V)), K) -> optional(V)", id="optional_map_optindex_optional_value")(optional_index)


def _evaluated_elsewhere(*_: Any) -> Any:
    raise AssertionError("operators that do not evaluate all their arguments are not called")


# Declared for the checker; the evaluator has its own way with them.
overload("_&&_(bool, bool) -> bool", id="logical_and")(_evaluated_elsewhere)
overload("_||_(bool, bool) -> bool", id="logical_or")(_evaluated_elsewhere)
overload("_?_:_(bool, A, A) -> A", id="conditional")(_evaluated_elsewhere)
overload("@not_strictly_false(bool) -> bool", id="not_strictly_false")(_evaluated_elsewhere)


# --- sizes, strings


for _signature, _id in (
    ("size(bytes) -> int", "size_bytes"),
    ("bytes.size() -> int", "bytes_size"),
    ("size(list(A)) -> int", "size_list"),
    ("list(A).size() -> int", "list_size"),
    ("size(map(A, B)) -> int", "size_map"),
    ("map(A, B).size() -> int", "map_size"),
    ("size(string) -> int", "size_string"),
    ("string.size() -> int", "string_size"),
):
    overload(_signature, id=_id)(values.size)


@overload("string.contains(string) -> bool", id="contains_string")
def _contains(text: str, part: str) -> bool:
    return part in text


@overload("string.startsWith(string) -> bool", id="starts_with_string")
def _starts_with(text: str, part: str) -> bool:
    return text.startswith(part)


@overload("string.endsWith(string) -> bool", id="ends_with_string")
def _ends_with(text: str, part: str) -> bool:
    return text.endswith(part)


@overload("matches(string, string) -> bool", id="matches")
@overload("string.matches(string) -> bool", id="matches_string")
def _matches(text: str, pattern: str) -> bool:
    from kubegate.cel.libraries import regex

    return regex.compiled(pattern).search(text.encode()) is not None


# --- conversions


def _cannot(value: Any, wanted: str) -> EvaluationError:
    return EvaluationError(f"type conversion error from '{values.type_name(value)}' to '{wanted}'")


@overload("bool(bool) -> bool", id="bool_to_bool")
@overload("bool(string) -> bool", id="string_to_bool")
def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise _cannot(value, "bool")


@overload("bytes(bytes) -> bytes", id="bytes_to_bytes")
@overload("bytes(string) -> bytes", id="string_to_bytes")
def _to_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


@overload("double(double) -> double", id="double_to_double")
@overload("double(int) -> double", id="int64_to_double")
@overload("double(string) -> double", id="string_to_double")
@overload("double(uint) -> double", id="uint64_to_double")
def _to_double(value: Any) -> float:
    if isinstance(value, str):
        try:
            if value != value.strip():
                raise ValueError
            found = float.fromhex(value) if "x" in value.lower() and "p" in value.lower() else float(value)
            if math.isinf(found) and any(map(str.isdigit, value)):  # too large
                raise ValueError
            return found
        except (ValueError, OverflowError):
            raise _cannot(value, "double") from None
    return float(value)


def _readable(digits: str) -> bool:
    """Whether they are digits, of a number that may fit: Python refuses to read thousands of them."""
    return digits.isascii() and digits.isdigit() and len(digits) <= 4000


@overload("int(int) -> int", id="int64_to_int64")
@overload("int(double) -> int", id="double_to_int64")
@overload("int(duration) -> int", id="duration_to_int64")
@overload("int(string) -> int", id="string_to_int64")
@overload("int(timestamp) -> int", id="timestamp_to_int64")
@overload("int(uint) -> int", id="uint64_to_int64")
def _to_int(value: Any) -> int:
    if isinstance(value, str):
        digits = value.removeprefix("-") if value.startswith("-") else value.removeprefix("+")
        if not _readable(digits) or not values.INT_MIN <= int(value) <= values.INT_MAX:
            raise _cannot(value, "int")
        return int(value)
    if isinstance(value, float):
        if math.isnan(value) or not -(2.0**63) < value < 2.0**63:
            raise EvaluationError("integer overflow")
        return int(value)
    if isinstance(value, Timestamp):
        return value.nanoseconds // 10**9
    if isinstance(value, Duration):
        return value.nanoseconds
    return checked_int(int(value))


@overload("uint(uint) -> uint", id="uint64_to_uint64")
@overload("uint(double) -> uint", id="double_to_uint64")
@overload("uint(int) -> uint", id="int64_to_uint64")
@overload("uint(string) -> uint", id="string_to_uint64")
def _to_uint(value: Any) -> UInt:
    if isinstance(value, str):
        if not _readable(value) or int(value) > values.UINT_MAX:
            raise _cannot(value, "uint")
        return UInt(int(value))
    if isinstance(value, float) and (math.isnan(value) or math.isinf(value)):
        raise EvaluationError("unsigned integer overflow")
    return checked_uint(int(value))


@overload("string(string) -> string", id="string_to_string")
@overload("string(bool) -> string", id="bool_to_string")
@overload("string(bytes) -> string", id="bytes_to_string")
@overload("string(double) -> string", id="double_to_string")
@overload("string(duration) -> string", id="duration_to_string")
@overload("string(int) -> string", id="int64_to_string")
@overload("string(timestamp) -> string", id="timestamp_to_string")
@overload("string(uint) -> string", id="uint64_to_string")
def to_string(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise EvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None
        case float():
            return values.double_text(value)
        case int() | Duration() | Timestamp():
            return str(int(value)) if isinstance(value, int) else str(value)
    raise no_such_overload("string", value)


@overload("timestamp(timestamp) -> timestamp", id="timestamp_to_timestamp")
@overload("timestamp(string) -> timestamp", id="string_to_timestamp")
@overload("timestamp(int) -> timestamp", id="int64_to_timestamp")
def _to_timestamp(value: Any) -> Timestamp:
    if isinstance(value, str):
        moment = values.parse_timestamp(value)
        if moment is None:
            raise _cannot(value, "google.protobuf.Timestamp")
        return moment
    return value if isinstance(value, Timestamp) else checked_timestamp(int(value) * 10**9)


@overload("duration(duration) -> duration", id="duration_to_duration")
@overload("duration(string) -> duration", id="string_to_duration")
@overload("duration(int) -> duration", id="int64_to_duration")
def _to_duration(value: Any) -> Duration:
    if isinstance(value, str):
        parsed = values.parse_duration(value)
        if parsed is None:
            raise _cannot(value, "google.protobuf.Duration")
        return parsed
    return value if isinstance(value, Duration) else checked_duration(int(value))


@overload("dyn(A) -> dyn", id="to_dyn")
def _to_dyn(value: Any) -> Any:
    return value


@overload("type(A) -> type(A)", id="type")
def type_value(value: Any) -> CelType:
    """The type of a value, as a value."""
    if isinstance(value, CelType):
        return type_of(parse("dyn"))
    name = values.type_name(value)
    return TYPE_VALUES.get(name) or CelType("object", name)


TYPE_VALUES = {
    "bool": parse("bool"),
    "bytes": parse("bytes"),
    "double": parse("double"),
    "google.protobuf.Duration": parse("duration"),
    "google.protobuf.Timestamp": parse("timestamp"),
    "int": parse("int"),
    "list": parse("list(dyn)"),
    "map": parse("map(dyn, dyn)"),
    "null_type": parse("null"),
    "optional_type": parse("optional(dyn)"),
    "string": parse("string"),
    "type": type_of(parse("dyn")),
    "uint": parse("uint"),
}
"""Types that an expression may name, by their names; each is a value of `type`."""


# --- times


_CALENDAR = {
    "getDate": lambda t: t.day,
    "getDayOfMonth": lambda t: t.day - 1,
    "getDayOfWeek": lambda t: t.isoweekday() % 7,
    "getDayOfYear": lambda t: t.timetuple().tm_yday - 1,
    "getFullYear": lambda t: t.year,
    "getMonth": lambda t: t.month - 1,
    "getHours": lambda t: t.hour,
    "getMinutes": lambda t: t.minute,
    "getSeconds": lambda t: t.second,
}


def _declare_times() -> None:
    for name, part in _CALENDAR.items():

        def without(moment: Timestamp, part: Any = part) -> int:
            return int(part(moment.at(UTC)))

        def with_zone(moment: Timestamp, zone: str, part: Any = part) -> int:
            return int(part(moment.at(values.time_zone(zone))))

        overload(f"timestamp.{name}() -> int")(without)
        overload(f"timestamp.{name}(string) -> int")(with_zone)
    for name, unit in (("getHours", 3600 * 10**9), ("getMinutes", 60 * 10**9), ("getSeconds", 10**9)):

        def whole(length: Duration, unit: int = unit) -> int:
            count = abs(length.nanoseconds) // unit
            return count if length.nanoseconds >= 0 else -count

        overload(f"duration.{name}() -> int")(whole)


_declare_times()


@overload("timestamp.getMilliseconds() -> int")
def _timestamp_milliseconds(moment: Timestamp) -> int:
    return moment.nanoseconds % 10**9 // 10**6


@overload("timestamp.getMilliseconds(string) -> int")
def _timestamp_milliseconds_in(moment: Timestamp, _zone: str) -> int:
    return moment.nanoseconds % 10**9 // 10**6


@overload("duration.getMilliseconds() -> int")
def _duration_milliseconds(length: Duration) -> int:
    count = abs(length.nanoseconds) // 10**6
    return count if length.nanoseconds >= 0 else -count


# --- optional values


@overload("optional.of(V) -> optional(V)", id="optional_of")
def _optional_of(value: Any) -> Optional:
    return Optional(True, value)


@overload("optional.ofNonZeroValue(V) -> optional(V)", id="optional_ofNonZeroValue")
def _optional_of_non_zero(value: Any) -> Optional:
    if value is None or (isinstance(value, (bool, int, float, str, bytes, list, tuple, dict)) and not value):
        return values.NONE
    if isinstance(value, (Duration, Timestamp)) and not value.nanoseconds:
        return values.NONE
    return Optional(True, value)


@overload("optional.none() -> optional(V)", id="optional_none")
def _optional_none() -> Optional:
    return values.NONE


@overload("optional(V).value() -> V", id="optional_value")
def _optional_value(value: Optional) -> Any:
    if not value.present:
        raise EvaluationError("optional.none() dereference")
    return value.value


@overload("optional(V).hasValue() -> bool", id="optional_hasValue")
def _optional_has_value(value: Optional) -> bool:
    return value.present


# The argument is evaluated only where it is needed; see evaluate.
overload("optional(V).or(optional(V)) -> optional(V)", id="optional_or_optional")(_evaluated_elsewhere)
overload("optional(V).orValue(V) -> V", id="optional_orValue_value")(_evaluated_elsewhere)


@overload("list(V).first() -> optional(V)", id="list_first")
def _first(items: list[Any]) -> Optional:
    return Optional(True, items[0]) if items else values.NONE


@overload("list(V).last() -> optional(V)", id="list_last")
def _last(items: list[Any]) -> Optional:
    return Optional(True, items[-1]) if items else values.NONE


@overload("optional.unwrap(list(optional(V))) -> list(V)", id="optional_unwrap")
@overload("list(optional(V)).unwrapOpt() -> list(V)", id="optional_unwrapOpt")
def _unwrapped(items: list[Any]) -> list[Any]:
    for item in items:
        if not isinstance(item, Optional):
            raise EvaluationError(f"value {values.plain_text(item)} is not optional")
    return [item.value for item in items if item.present]


# --- what the macros with two variables use


@overload("cel.@mapInsert(map(K, V), K, V) -> map(K, V)", id="@mapInsert_map_key_value")
def _map_insert(entries: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    if values.find(entries, key) is not values.MISSING:
        raise EvaluationError(f"insert failed: key {values.plain_text(key)} already exists")
    return {**entries, key: value}


@overload("cel.@mapInsert(map(K, V), map(K, V)) -> map(K, V)", id="@mapInsert_map_map")
def _map_insert_all(entries: dict[Any, Any], more: dict[Any, Any]) -> dict[Any, Any]:
    for key in more:
        if values.find(entries, key) is not values.MISSING:
            raise EvaluationError(f"insert failed: key {values.plain_text(key)} already exists")
    return {**entries, **more}
