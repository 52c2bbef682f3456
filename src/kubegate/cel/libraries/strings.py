"""Text: cel-go's extended string functions, version 2."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from kubegate.api.field import ESCAPES, quoted
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
    if not part:
        return start
    if start < 0:
        raise EvaluationError(f"index out of range: {start}")
    return text.find(part, start)


@overload("string.lastIndexOf(string) -> int")
def _last_index_of(text: str, part: str) -> int:
    return len(text) if not part else _last_index_of_until(text, part, len(text) - 1)


@overload("string.lastIndexOf(string, int) -> int")
def _last_index_of_until(text: str, part: str, last: int) -> int:
    if not part:
        return last
    if last < 0:
        raise EvaluationError(f"index out of range: {last}")
    return text.rfind(part, 0, last + len(part)) if last < len(text) else -1


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


@overload("strings.quote(string) -> string")
def _quote(text: str) -> str:
    return '"' + "".join(ESCAPES.get(letter, letter) for letter in text) + '"'


@overload("string.format(list(dyn)) -> string")
def _format(template: str, arguments: list[Any]) -> str:
    """`%s`, `%d`, `%f`, `%e`, `%b`, `%x`, `%X`, `%o`, `%%`, with `.3` precision for the floating ones.

    More arguments than clauses are no error here: where both are literals, the compiler has refused them.
    """
    length = 0

    def put(position: int, verb: str, precision: int) -> str:
        nonlocal length
        text = _formatted(verb, arguments[position], precision)
        length += len(text)
        if length > _LONGEST:
            raise CostExceeded
        return text

    return interpolate(template, len(arguments), put, early=True)


def interpolate(template: str, count: int, put: Callable[[int, str, int], str], *, early: bool) -> str:
    """The template with each clause replaced by what `put` gives for argument, verb and precision.

    With `early`, a clause that has no argument is told before one that has no end. Raises EvaluationError.
    """
    made: list[str] = []
    at = used = 0
    while at < len(template):
        percent = template.find("%", at)
        if percent < 0:
            made.append(template[at:])
            break
        made.append(template[at:percent])
        at = percent + 1
        if template[at : at + 1] == "%":
            made.append("%")
            at += 1
            continue
        if early and used >= count:
            raise EvaluationError(f"index {used} out of range")
        if at >= len(template):
            raise EvaluationError("unexpected end of string")
        if used >= count:
            raise EvaluationError(f"index {used} out of range")
        verb, precision, at = _clause(template, at)
        made.append(put(used, verb, precision))
        used += 1
    return "".join(made)


def _clause(template: str, at: int) -> tuple[str, int, int]:
    """The verb after a `%`, its precision, and where the template goes on."""
    precision = 6
    if template[at] == ".":
        start = at = at + 1
        while at < len(template) and "0" <= template[at] <= "9":
            at += 1
        if at >= len(template):
            raise _bad_clause("error while parsing precision: could not find end of precision specifier")
        digits = template[start:at]
        if not digits or len(digits) > 4:
            why = "value out of range" if digits else "invalid syntax"
            raise _bad_clause(
                "error while parsing precision: error while converting precision to integer:"
                f' strconv.Atoi: parsing "{digits}": {why}'
            )
        precision = int(digits)
    verb = template[at]
    if verb not in "sdfebxXo":
        raise _bad_clause(f'unrecognized formatting clause "{verb}"')
    return verb, precision, at + 1


def _bad_clause(why: str) -> EvaluationError:
    return EvaluationError(f"could not parse formatting clause: {why}")


def _formatted(verb: str, value: Any, precision: int) -> str:
    integer = isinstance(value, int) and not isinstance(value, bool)
    match verb:
        case "s":
            values.check_extent(value)
            return _text(value)
        case "d" if integer:
            return str(int(value))
        case "f" | "e" if isinstance(value, float) or value in ("NaN", "Infinity", "-Infinity"):
            return _real(verb, float(value), precision)
        case "b" if isinstance(value, int):
            return format(int(value), "b")
        case "o" if integer:
            return format(int(value), "o")
        case "x" | "X" if integer:
            return format(int(value), verb)
        case "x" | "X" if isinstance(value, (str, bytes)):
            digits = (value.encode() if isinstance(value, str) else value).hex()
            return digits.upper() if verb == "X" else digits
    raise unfit(verb, values.type_name(value))


def unfit(verb: str, kind: str) -> EvaluationError:
    """A value of this type cannot be written with this verb."""
    return EvaluationError(f"error during formatting: {_CLAUSES[verb]}, was given {kind}")


_CLAUSES = {
    "s": "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations,"
    " and timestamps",
    "d": "decimal clause can only be used on integers",
    "f": "fixed-point clause can only be used on doubles",
    "e": "scientific clause can only be used on doubles",
    "b": "only integers and bools can be formatted as binary",
    "o": "octal clause can only be used on integers",
    "x": "only integers, byte buffers, and strings can be formatted as hex",
    "X": "only integers, byte buffers, and strings can be formatted as hex",
}

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def _real(verb: str, value: float, precision: int) -> str:
    """As people in the USA write it: `1,234.50`, `1.2345 × 10⁰³` with narrow spaces that do not break, `∞`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if verb == "f":
        return f"{value:,.{precision}f}"
    mantissa, _, exponent = f"{value:.{precision}e}".partition("e")
    power = exponent.removeprefix("+").translate(_SUPERSCRIPT)
    return f"{mantissa}\u202f×\u202f10{power}"


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case str():
            return value
        case bytes():
            return value.decode(errors="replace")
        case bool() | float() | UInt() | int() | Duration() | Timestamp():
            return standard.to_string(value)
        case list() | tuple():
            return "[" + ", ".join(_literal(item) for item in value) + "]"
        case dict():
            entries = sorted(((_literal(k), _literal(v)) for k, v in value.items()), key=lambda entry: entry[0])
            return "{" + ", ".join(f"{key}:{item}" for key, item in entries) + "}"
    if hasattr(value, "parameters"):
        from kubegate.cel.types import runtime_name

        return runtime_name(value)
    raise unfit("s", values.type_name(value))


def _literal(value: Any) -> str:
    """A value inside a list or a map, as an expression would write it."""
    match value:
        case str():
            return quoted(value)
        case bytes():
            return "b" + quoted(value.decode(errors="replace"))
        case Timestamp():
            return f'timestamp("{standard.to_string(value)}")'
        case Duration():
            return f'duration("{standard.to_string(value)}")'
        case float():
            if math.isnan(value) or math.isinf(value):
                return f'"{values.double_text(value)}"'
            return f"{value:.6f}"
    return _text(value)
