"""Field errors: what is wrong with one field of an object, in kube-apiserver's words.

Follows k8s.io/apimachinery/pkg/util/validation/field. Paths are plain strings (`spec.ports[0].name`),
built by the caller: `child(path, "ports")`, `index(path, 0)`, `key(path, "a/b")`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import orjson
from msgspec import Struct

from kubegate.api.numbers import as_json, float_text


class FieldError(Struct, frozen=True):
    """One cause: `reason` (FieldValueInvalid …), the field's path, and the words after the path."""

    reason: str
    field: str
    text: str

    def body(self) -> str:
        return self.text

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


def child(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def index(path: str, position: int) -> str:
    return f"{path}[{position}]"


def key(path: str, name: str) -> str:
    return f"{path}[{name}]"


class Omitted:
    """A value that is not shown: only what is wrong with it is told."""


OMITTED = Omitted()


def shown(value: Any) -> str:
    """A value as Go's field.Error prints it: strings quoted, numbers and booleans bare, the rest as JSON."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float):
        return float_text(value)
    try:
        text = orjson.dumps(as_json(value)).decode()
    except TypeError:  # integers of more than 64 bits
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.translate(HTML)


HTML = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
"""What HTML gives a meaning is escaped in the JSON that Go writes."""
ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}
"""What Go writes in texts that it quotes, for what has a name there."""


def quoted(text: str) -> str:
    """Go's %q."""
    if text.isprintable():
        escaped = orjson.dumps(text).decode()
        return escaped
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(char: str) -> str:
    code = ord(char)
    if found := ESCAPES.get(char):
        return found
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted_list(texts: Iterable[str]) -> str:
    """Go's %q of a list of them: `["a" "b"]`."""
    return "[" + " ".join(map(quoted, texts)) + "]"


def aggregate(texts: Iterable[str]) -> str:
    """Several errors as one text, each once, as Go's aggregates tell them: `e`, `[e, f]`, or "" for none."""
    unique = list(dict.fromkeys(texts))
    if len(unique) < 2:
        return unique[0] if unique else ""
    return f"[{', '.join(unique)}]"


def invalid(path: str, value: Any, detail: str) -> FieldError:
    text = "Invalid value" if value is OMITTED else f"Invalid value: {shown(value)}"
    return FieldError("FieldValueInvalid", path, f"{text}: {detail}" if detail else text)


def type_invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueTypeInvalid", path, f"Invalid value: {shown(value)}: {detail}")


def required(path: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", path, f"Required value: {detail}" if detail else "Required value")


def duplicate(path: str, value: Any) -> FieldError:
    text = "Duplicate value" if value is OMITTED else f"Duplicate value: {shown(value)}"
    return FieldError("FieldValueDuplicate", path, text)


def forbidden(path: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", path, f"Forbidden: {detail}" if detail else "Forbidden")


def not_found(path: str, value: Any) -> FieldError:
    return FieldError("FieldValueNotFound", path, f"Not found: {shown(value)}")


def not_supported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    choices = ", ".join(quoted(choice) for choice in supported)
    text = f"Unsupported value: {shown(value)}"
    return FieldError("FieldValueNotSupported", path, f"{text}: supported values: {choices}" if choices else text)


def too_long(path: str, maximum: int) -> FieldError:
    """For strings: the value itself is not shown."""
    return FieldError(
        "FieldValueTooLong", path, f"Too long: may not be more than {maximum} byte{'' if maximum == 1 else 's'}"
    )


def too_many(path: str, actual: int, maximum: int) -> FieldError:
    text = f"Too many: {actual}: must have at most {maximum} item{'' if maximum == 1 else 's'}"
    return FieldError("FieldValueTooMany", path, text)


def internal(path: str, error: str) -> FieldError:
    return FieldError("InternalError", path, f"Internal error: {error}")


IMMUTABLE = "field is immutable"


def immutable(path: str, new: Any, old: Any) -> list[FieldError]:
    """One error where `new` differs from `old`."""
    return [] if new == old else [invalid(path, new, IMMUTABLE)]
