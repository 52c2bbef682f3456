"""Text: cel-go's extended string functions, version 2."""

from __future__ import annotations

import math
from typing import Any

from kubegate.cel import standard, values
from kubegate.cel.functions import Library
from kubegate.cel.values import CostExceeded, Duration, EvaluationError, Timestamp, UInt

library = Library()
overload = library.overload

_LONGEST = 10_000_000
"""No result is longer than what one evaluation could pay for, even where the functions' costs do not say so."""

_SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


@overload("string.charAt(int) -> string")
def _char_at(text: str, position: int) -> str:
    if position < 0 or position > len(text):
        raise EvaluationError(f"index out of range: {position}")
    return text[position : position + 1]


@overload("string.indexOf(string) -> int")
def _index_of(text: str, part: str) -> int:
    return text.find(part)


@overload("string.indexOf(string, int) -> int")
def _index_of_from(text: str, part: str, start: int) -> int:
    if start < 0 or start > len(text):
        raise EvaluationError(f"index out of range: {start}")
    return text.find(part, start)


@overload("string.lastIndexOf(string) -> int")
def _last_index_of(text: str, part: str) -> int:
    return text.rfind(part)


@overload("string.lastIndexOf(string, int) -> int")
def _last_index_of_until(text: str, part: str, last: int) -> int:
    if last < 0 or last > len(text):
        raise EvaluationError(f"index out of range: {last}")
    return text.rfind(part, 0, last + len(part))


@overload("string.lowerAscii() -> string")
def _lower(text: str) -> str:
    return text.encode().lower().decode()


@overload("string.upperAscii() -> string")
def _upper(text: str) -> str:
    return text.encode().upper().decode()


@overload("string.replace(string, string) -> string")
def _replace_all(text: str, old: str, new: str) -> str:
    return _replace(text, old, new, -1)


@overload("string.replace(string, string, int) -> string")
def _replace(text: str, old: str, new: str, count: int) -> str:
    occurrences = text.count(old) if count < 0 else min(count, text.count(old))
    if len(text) + occurrences * (len(new) - len(old)) > _LONGEST:
        raise CostExceeded
    return text.replace(old, new, count)


@overload("string.split(string) -> list(string)")
def _split_all(text: str, separator: str) -> list[str]:
    return list(text) if not separator else text.split(separator)


@overload("string.split(string, int) -> list(string)")
def _split(text: str, separator: str, count: int) -> list[str]:
    if count == 0:
        return []
    if count < 0:
        return _split_all(text, separator)
    if not separator:
        return [*text[: count - 1], text[count - 1 :]] if len(text) >= count else list(text)
    return text.split(separator, count - 1)


@overload("string.substring(int) -> string")
def _substring_from(text: str, start: int) -> str:
    if start < 0 or start > len(text):
        raise EvaluationError(f"index out of range: {start}")
    return text[start:]


@overload("string.substring(int, int) -> string")
def _substring(text: str, start: int, end: int) -> str:
    if start > end:
        raise EvaluationError(f"invalid substring range. start: {start}, end: {end}")
    if start < 0 or start > len(text):
        raise EvaluationError(f"index out of range: {start}")
    if end > len(text):
        raise EvaluationError(f"index out of range: {end}")
    return text[start:end]


@overload("string.trim() -> string")
def _trim(text: str) -> str:
    return text.strip(_SPACES)


@overload("list(string).join() -> string")
def _join_plain(items: list[Any]) -> str:
    return _join(items, "")


@overload("list(string).join(string) -> string")
def _join(items: list[Any], separator: str) -> str:
    for item in items:
        if not isinstance(item, str):
            raise EvaluationError(f"join: invalid input: {values.plain_text(item)}")
    if sum(map(len, items)) + len(separator) * len(items) > _LONGEST:
        raise CostExceeded
    return separator.join(items)


_QUOTED = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


@overload("strings.quote(string) -> string")
def _quote(text: str) -> str:
    return '"' + "".join(_QUOTED.get(letter, letter) for letter in text) + '"'


@overload("string.format(list(dyn)) -> string")
def _format(template: str, arguments: list[Any]) -> str:
    """`%s`, `%d`, `%f`, `%e`, `%b`, `%x`, `%X`, `%o`, `%%`, with `.3` precision for the floating ones."""
    made: list[str] = []
    at = used = length = 0
    while at < len(template):
        percent = template.find("%", at)
        if percent < 0:
            made.append(template[at:])
            break
        made.append(template[at:percent])
        at = percent + 1
        if at >= len(template):
            raise EvaluationError("unexpected end of string")
        if template[at] == "%":
            made.append("%")
            at += 1
            continue
        if used >= len(arguments):
            raise EvaluationError(f"index {used} out of range")
        precision = 6
        if template[at] == ".":
            digits = at + 1
            while digits < len(template) and template[digits].isdigit():
                digits += 1
            precision = int(template[at + 1 : digits] or 0)
            if precision > 1000:
                raise EvaluationError(f"precision {precision} is too large")
            at = digits
            if at >= len(template):
                raise EvaluationError("could not find end of precision specifier")
        text = _formatted(template[at], arguments[used], precision)
        length += len(text)
        if length > _LONGEST:
            raise CostExceeded
        made.append(text)
        used += 1
        at += 1
    if used != len(arguments):
        raise EvaluationError(f"too many arguments supplied to string.format (expected {used}, got {len(arguments)})")
    return "".join(made)


def _formatted(verb: str, value: Any, precision: int) -> str:
    number = values.is_number(value)
    try:
        match verb:
            case "s":
                return _text(value)
            case "d" if number and (not isinstance(value, float) or math.isnan(value) or math.isinf(value)):
                return _text(value)
            case "f" | "e" if number or value in ("NaN", "Infinity", "-Infinity"):
                real = float(value)
                if math.isnan(real) or math.isinf(real):
                    return _text(real)
                return f"{real:.{precision}{verb}}"
            case "b" if isinstance(value, int):
                return format(int(value), "b")
            case "o" if isinstance(value, int) and not isinstance(value, bool):
                return format(int(value), "o")
            case "x" | "X" if isinstance(value, int) and not isinstance(value, bool):
                return format(int(value), verb)
            case "x" | "X" if isinstance(value, (str, bytes)):
                digits = (value.encode() if isinstance(value, str) else value).hex()
                return digits.upper() if verb == "X" else digits
    except OverflowError:
        pass
    if verb not in "sdfebxXo":
        raise EvaluationError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')
    raise EvaluationError(f"error during formatting: {_CLAUSES[verb]}, was given {values.type_name(value)}")


_CLAUSES = {
    "d": "decimal clause can only be used on integers",
    "f": "fixed-point clause can only be used on doubles",
    "e": "scientific clause can only be used on doubles",
    "b": "only integers and bools can be formatted as binary",
    "o": "octal clause can only be used on integers",
    "x": "only integers, byte buffers, and strings can be formatted as hex",
    "X": "only integers, byte buffers, and strings can be formatted as hex",
}


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            if math.isinf(value):
                return "Infinity" if value > 0 else "-Infinity"
            return "NaN" if math.isnan(value) else values.double_text(value)
        case bytes():
            return value.decode(errors="replace")
        case UInt() | int() | Duration() | Timestamp():
            return standard.to_string(value)
        case list() | tuple():
            return "[" + ", ".join(_text(item) for item in value) + "]"
        case dict():
            return "{" + ", ".join(f"{k}: {v}" for k, v in sorted((_text(k), _text(v)) for k, v in value.items())) + "}"
    if hasattr(value, "parameters"):
        from kubegate.cel.types import runtime_name

        return runtime_name(value)
    raise EvaluationError(
        "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists,"
        f" types, durations, and timestamps, was given {values.type_name(value)}"
    )
