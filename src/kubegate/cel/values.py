"""What CEL values are in Python, how they compare, and the errors that working with them gives.

null, bool, int, double, string, bytes, list and map are None, bool, int, float, str, bytes, list (or tuple) and dict;
the other types have a class here or in `libraries`, with `cel_type` saying which. Texts of errors are cel-go's.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from kubegate.api import durations
from kubegate.cel import types
from kubegate.cel.types import CelType

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
UINT_MAX = 2**64 - 1


class EvaluationError(Exception):
    """What an expression evaluates to where it has no value. The text is what clients see."""


class CostExceeded(EvaluationError):
    """The expression cost more than one call may. Unlike other errors, `||` and `&&` do not swallow it."""

    def __init__(self) -> None:
        super().__init__("operation cancelled: actual cost limit exceeded")


class Opaque(Protocol):
    """A value of a library's own type."""

    cel_type: ClassVar[CelType]


class UInt(int):
    """An unsigned integer, told from `int` by its type alone."""

    __slots__ = ()


class Duration(Struct, frozen=True):
    cel_type: ClassVar[CelType] = types.DURATION
    nanoseconds: int

    def __str__(self) -> str:
        return _seconds_text(self.nanoseconds) + "s"


class Timestamp(Struct, frozen=True, eq=False):
    """A moment, in nanoseconds since 1970 (UTC); `offset` is the time zone, in seconds, that it is written in."""

    cel_type: ClassVar[CelType] = types.TIMESTAMP
    nanoseconds: int
    offset: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timestamp) and self.nanoseconds == other.nanoseconds

    def __hash__(self) -> int:
        return hash(self.nanoseconds)

    def __str__(self) -> str:
        seconds, rest = divmod(self.nanoseconds, 10**9)
        # at the ends of the calendar its own time zone may have no date for it
        offset = self.offset if _FIRST_SECOND <= seconds + self.offset <= _LAST_SECOND else 0
        text = (_EPOCH + timedelta(seconds=seconds + offset)).strftime("%Y-%m-%dT%H:%M:%S")
        text = text.rjust(19, "0")
        hours, minutes = divmod(abs(offset) // 60, 60)
        zone = f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}" if offset else "Z"
        return f"{text}.{rest:09d}".rstrip("0") + zone if rest else text + zone

    def at(self, zone: tzinfo) -> datetime:
        return (_EPOCH + timedelta(seconds=self.nanoseconds // 10**9)).astimezone(zone)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND, _LAST_SECOND = -62135596800, 253402300799


class Optional(Struct, frozen=True):
    """optional.of(value), or optional.none() where `present` is false."""

    cel_type: ClassVar[CelType] = types.optional_of(types.DYN)
    present: bool
    value: Any = None


NONE = Optional(False)


class ObjectValue(Struct, frozen=True):
    """An object written in an expression: `Object.spec{replicas: 1}`. `fields` are those that were written."""

    name: str
    fields: dict[str, Any]

    def select(self, field: str) -> Any:
        try:
            return self.fields[field]
        except KeyError:
            raise no_such_key(field) from None

    def has(self, field: str) -> bool:
        return field in self.fields


class KeyedList(list[Any]):
    """A list whose order means nothing (`x-kubernetes-list-type: set` or `map`): its items are told by their keys.

    `keys` are the fields that tell them; of a set, where there are none, the items themselves do.
    """

    __slots__ = ("keys",)

    def __init__(self, items: Iterable[Any], keys: tuple[str, ...] = ()) -> None:
        super().__init__(items)
        self.keys = keys

    def key(self, item: Any) -> Any:
        if not self.keys:
            return type(item), item
        return tuple((type(value), value) for value in (item.get(key) for key in self.keys))

    def by_key(self) -> dict[Any, Any]:
        return {self.key(item): item for item in self}

    def joined(self, more: Iterable[Any]) -> KeyedList:
        """`list + more`: items with keys that are there already take the place of those."""
        found = self.by_key()
        found.update((self.key(item), item) for item in more)
        return KeyedList(found.values(), self.keys)


class OwnList(list[Any]):
    """A list that an expression made. In mutations alone: kube-apiserver does not take it for a list of an object's."""


class OwnMap(dict[Any, Any]):
    """A map that an expression made; see `OwnList`."""


class OwnTexts(OwnList):
    """The texts that a function made of one: what is not even a list of CEL's."""


def own(value: Any) -> Any:
    """The same, as made by an expression."""
    if type(value) is list:
        return OwnList(value)
    return OwnMap(value) if type(value) is dict else value


def go_type_name(value: Any) -> str:
    """What kube-apiserver's own language calls the type of a value, in the few errors that tell it."""
    name = type_name(value)
    if name in _GO_NAMES:
        return _GO_NAMES[name]
    return f"cel.{name.rpartition('.')[2]}" if name in _COMPARED_TO_THEIR_OWN else f"types.{name.capitalize()}"


_GO_NAMES = {
    "google.protobuf.Duration": "types.Duration",
    "google.protobuf.Timestamp": "types.Timestamp",
    "null_type": "types.Null",
    "optional_type": "*types.Optional",
    "type": "*types.Type",
}


def type_name(value: Any) -> str:
    """The run-time name of a value's type, as errors and `type()` give it."""
    kind = type(value)
    if kind in _NAMES:
        return _NAMES[kind]
    if isinstance(value, ObjectValue):
        return value.name
    declared = getattr(value, "cel_type", None)
    return types.runtime_name(declared) if declared is not None else "map"


_NAMES: dict[type, str] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    KeyedList: "list",
    OwnList: "list",
    OwnTexts: "list",
    OwnMap: "map",
    tuple: "list",
    dict: "map",
    CelType: "type",
}


def no_such_key(key: Any) -> EvaluationError:
    return EvaluationError(f"no such key: {plain_text(key)}")


def no_such_overload(function: str = "", *arguments: Any) -> EvaluationError:
    """`no such overload`, with the function and its arguments' types where cel-go tells them."""
    if not function:
        return EvaluationError("no such overload")
    return EvaluationError(f"no such overload: {function}({', '.join(type_name(a) for a in arguments)})")


def plain_text(value: Any) -> str:
    """A value inside an error text, as Go's %v gives it."""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, float):
        return double_text(value)
    if value is None:
        return "NULL_VALUE"
    if isinstance(value, list | tuple | dict):
        check_extent(value)
        return _aggregate_text(value)
    return str(value)


def _aggregate_text(value: Any) -> str:
    match value:
        case list() | tuple():
            return f"[{', '.join(map(_aggregate_text, value))}]"
        case dict():
            return "{" + ", ".join(f"{plain_text(key)}: {_aggregate_text(item)}" for key, item in value.items()) + "}"
    return plain_text(value)


def equal(first: Any, second: Any) -> bool:
    """CEL's `==`: numbers by their value whatever their type, aggregates by their elements, else by type and value."""
    kind = type(first)
    if kind is type(second) and kind in _PLAIN:
        return bool(first == second)
    return _equal(first, second, set())


_COMPARED_TO_THEIR_OWN = frozenset(
    {
        *("kubernetes.NamedFormat", "kubernetes.Quantity", "kubernetes.Semver", "kubernetes.URL"),
        *("net.CIDR", "net.IP"),
    }
)
"""Types whose values are not just unequal to those of another type."""


def _equal(first: Any, second: Any, met: set[tuple[int, int]]) -> bool:
    """`met` are aggregates that were compared: a list may hold another one eight times, which holds a third one ….

    What was found to differ ends the comparison, so that all of them are equal, or are just being compared.
    """
    if is_number(first) and is_number(second):
        return bool(first == second)
    if isinstance(first, (list, tuple, dict, Optional, ObjectValue)):
        pair = (id(first), id(second))
        if pair in met:
            return True
        met.add(pair)
    if isinstance(first, KeyedList):
        own = first.by_key()
        return (
            isinstance(second, (list, tuple))
            and len(first) == len(second)
            and all(
                (key := first.key(item)) in own and (not first.keys or _equal(own[key], item, met)) for item in second
            )
        )
    if isinstance(first, (list, tuple)):
        return (
            isinstance(second, (list, tuple))
            and len(first) == len(second)
            and all(_equal(a, b, met) for a, b in zip(first, second, strict=True))
        )
    if isinstance(first, dict):
        return (
            isinstance(second, dict)
            and len(first) == len(second)
            and all(
                (found := find(second, key)) is not MISSING and _equal(value, found, met)
                for key, value in first.items()
            )
        )
    if isinstance(first, Optional):
        return (
            isinstance(second, Optional)
            and first.present == second.present
            and (not first.present or _equal(first.value, second.value, met))
        )
    if isinstance(first, ObjectValue):
        return (
            isinstance(second, ObjectValue) and first.name == second.name and _equal(first.fields, second.fields, met)
        )
    if type(first) is not type(second) and second is not None and type_name(first) in _COMPARED_TO_THEIR_OWN:
        raise no_such_overload()
    return type(first) is type(second) and bool(first == second)


_MOST_ITEMS = 1_000_000


def check_extent(value: Any) -> None:
    """Raises CostExceeded for what would be endless when it is written out: lists may hold one another many times."""
    left, rest = _MOST_ITEMS, [value]
    while rest:
        found = rest.pop()
        if isinstance(found, ObjectValue):
            found = found.fields
        if isinstance(found, (list, tuple, dict)):
            left -= len(found) + 1
            if left < 0:
                raise CostExceeded
            rest += found.values() if isinstance(found, dict) else found


_PLAIN = frozenset({str, int, bool, float, type(None), bytes, UInt})


def is_number(value: Any) -> bool:
    kind = type(value)
    return kind is int or kind is float or kind is UInt


class _Missing:
    pass


MISSING: Any = _Missing()


def find(mapping: dict[Any, Any], key: Any) -> Any:
    """The value under a key, or MISSING. Python takes true for 1 and CEL does not; 1.0 and 1u find 1 in both."""
    if type(key) is str:
        return mapping.get(key, MISSING)
    try:
        found = mapping.get(key, MISSING)
    except TypeError:
        return MISSING
    if found is MISSING or not (isinstance(key, (bool, int, float))):
        return found
    for own in mapping:
        if own == key and isinstance(own, bool) == isinstance(key, bool):
            return found
    return MISSING


def contains(container: Any, wanted: Any) -> bool:
    """CEL's `in`."""
    if isinstance(container, dict):
        return find(container, wanted) is not MISSING
    if isinstance(container, (list, tuple)):
        if type(wanted) is str:
            return wanted in container
        return any(equal(item, wanted) for item in container)
    if hasattr(container, "has"):
        return bool(container.has(wanted))
    raise no_such_overload()


def compare(first: Any, second: Any) -> int:
    """-1, 0 or 1; for the types that have an order, numbers also across types."""
    kind = type(first)
    if is_number(first) and is_number(second):
        if first != first or second != second:
            raise EvaluationError("NaN values cannot be ordered")
    elif kind is not type(second) or kind not in (str, bytes, bool, Duration, Timestamp):
        raise no_such_overload()
    elif kind in (Duration, Timestamp):
        first, second = first.nanoseconds, second.nanoseconds
    elif kind is str:
        # Go compares bytes; code points have the same order in UTF-8
        pass
    return int(first > second) - int(first < second)


def size(value: Any) -> int:
    """Characters, bytes, elements or entries."""
    if isinstance(value, (str, bytes, list, tuple, dict)):
        return len(value)
    raise no_such_overload("size", value)


def cost_size(value: Any) -> int:
    """The size that costs are counted with: 1 for whatever has none."""
    if isinstance(value, (str, bytes, list, tuple, dict)):
        return len(value)
    return int(getattr(value, "cost_size", 1))


def checked_int(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise EvaluationError("integer overflow")
    return value


def checked_uint(value: int) -> UInt:
    if not 0 <= value <= UINT_MAX:
        raise EvaluationError("unsigned integer overflow")
    return UInt(value)


def checked_duration(nanoseconds: int) -> Duration:
    if not INT_MIN <= nanoseconds <= INT_MAX:
        raise EvaluationError("integer overflow")
    return Duration(nanoseconds)


def checked_timestamp(nanoseconds: int, offset: int = 0) -> Timestamp:
    if not _FIRST_SECOND <= nanoseconds // 10**9 <= _LAST_SECOND:
        raise EvaluationError("timestamp overflow")
    return Timestamp(nanoseconds, offset)


_TIMESTAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)


def parse_timestamp(text: str) -> Timestamp | None:
    """RFC 3339, to the nanosecond; None where it is not that."""
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    seconds, offset = round((moment - _EPOCH).total_seconds()), 0
    if sign:
        if int(hours) > 23 or int(minutes) > 59:
            return None
        offset = (int(hours) * 3600 + int(minutes) * 60) * (1 if sign == "+" else -1)
        seconds -= offset
    nanoseconds = int((fraction or "")[:9].ljust(9, "0"))
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        return None
    return Timestamp(seconds * 10**9 + nanoseconds, offset)


def parse_duration(text: str) -> Duration | None:
    """Go's notation, `1h30m`, `1.5s`; None where it is not that."""
    try:
        return Duration(durations.nanoseconds(text))
    except ValueError:
        return None


def _seconds_text(nanoseconds: int) -> str:
    sign, whole = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    seconds, rest = divmod(whole, 10**9)
    return f"{sign}{seconds}" + (f".{rest:09d}".rstrip("0") if rest else "")


def double_text(value: float) -> str:
    """Go's strconv.FormatFloat(value, 'g', -1, 64): as few digits as tell it apart."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign, digits, exponent = "", "", 0
    shortest = repr(abs(value))
    if "e" in shortest or "E" in shortest:
        mantissa, _, power = shortest.lower().partition("e")
        whole, _, fraction = mantissa.partition(".")
        digits, exponent = (whole + fraction).rstrip("0") or "0", int(power)
    else:
        whole, _, fraction = shortest.partition(".")
        fraction = "" if fraction == "0" else fraction
        if whole == "0":
            stripped = fraction.lstrip("0")
            digits, exponent = stripped or "0", -(len(fraction) - len(stripped)) - 1 if stripped else 0
        else:
            digits, exponent = (whole + fraction).rstrip("0") or "0", len(whole) - 1
    if math.copysign(1.0, value) < 0:
        sign = "-"
    if exponent < -4 or exponent >= 6:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    fraction = digits[exponent + 1 :]
    return f"{sign}{whole}" + (f".{fraction}" if fraction else "")


@lru_cache(maxsize=64)
def time_zone(name: str) -> tzinfo:
    """`America/New_York`, or an offset `+01:30`. Raises EvaluationError."""
    from zoneinfo import ZoneInfo

    found = re.fullmatch(r"([+-]?)(\d\d?):(\d\d)", name, re.ASCII)
    if found:
        from datetime import timezone

        minutes = int(found[2]) * 60 + int(found[3])
        if minutes < 24 * 60:
            return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes))
    try:
        return UTC if name in ("", "UTC") else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise EvaluationError(f"unknown time zone {name}") from None


def printable(text: str) -> bool:
    """Whether Go would print all of it as it is (unicode.IsPrint)."""
    return all(letter == " " or unicodedata.category(letter)[0] in "LMNPS" for letter in text)
