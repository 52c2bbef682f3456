"""What Go says about JSON: the error for text that is no JSON, names of kinds, and `%v` of decoded values.

Clients see these texts in answers to malformed bodies and patches. Only used once something is known to be wrong.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

_SPACE = b" \t\r\n"
_NUMBER_END = re.compile(rb"[0-9]*")
_UNEXPECTED_END = "unexpected end of JSON input"
_ESCAPES = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r"}
# Go stops at this many nested containers.
_MAX_DEPTH = 10_000


def kind_of(value: Any) -> str:
    """How encoding/json names the kind of a JSON value: object, array, string, number, bool, null."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return "string" if isinstance(value, str) else "number"


def cannot_unmarshal(value: Any, into: str) -> str:
    """The text of an UnmarshalTypeError: `into` is "Go value of type X" or "Go struct field T.f of type X"."""
    return f"json: cannot unmarshal {kind_of(value)} into {into}"


def syntax_error(text: bytes) -> str:
    """What Go's decoder says about `text`, "" where it is well-formed JSON."""
    try:
        end = _Scanner(text).document()
    except _SyntaxFault as fault:
        return fault.text
    return f"invalid character {_quoted(text, end)} after top-level value" if end < len(text) else ""


def value_text(value: Any) -> str:
    """Go's `%v` of a decoded JSON value: map[a:1 b:[x y] c:<nil>]."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{value_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(value_text, value)) + "]"
    if isinstance(value, float):
        return float_text(value)
    return str(value)


def float_text(value: float) -> str:
    """Go's `%v` of a float64: the shortest form, with an exponent from 1e+21 on and below 1e-4."""
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    mantissa, mark, exponent = text.partition("e")
    if not mark:
        return text
    return f"{mantissa.removesuffix('.0')}e{exponent[0]}{exponent[1:].zfill(2)}"


class _SyntaxFault(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _quoted(text: bytes, at: int) -> str:
    """One byte as Go's decoder quotes it in an error."""
    byte = text[at : at + 1]
    if byte == b"'":
        return r"'\''"
    if byte == b'"':
        return "'\"'"
    code = byte[0]
    if code < 0x20 or code == 0x7F:
        return "'" + _ESCAPES.get(code, f"\\x{code:02x}") + "'"
    if 0x80 <= code < 0xA0 or code == 0xAD:
        return f"'\\u{code:04x}'"
    character = chr(code)
    return "'\\\\'" if character == "\\" else f"'{character}'"


class _Scanner:
    """Finds the first byte at which Go's scanner gives up, and what it expected there."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    def document(self) -> int:
        """The position after the value and the space that follows it."""
        return self.space(self.value(self.space(0), 0))

    def fail(self, at: int, context: str) -> _SyntaxFault:
        if at >= len(self.text):
            return _SyntaxFault(_UNEXPECTED_END)
        return _SyntaxFault(f"invalid character {_quoted(self.text, at)} {context}")

    def at(self, position: int) -> bytes:
        return self.text[position : position + 1]

    def space(self, position: int) -> int:
        while position < len(self.text) and self.text[position] in _SPACE:
            position += 1
        return position

    def value(self, start: int, depth: int) -> int:
        """Walks containers with a stack of its own, so that deep nesting costs no recursion."""
        closers: list[bytes] = []
        position = start
        while True:
            position = self.space(position)
            opener = self.at(position)
            if opener in (b"{", b"["):
                if len(closers) >= _MAX_DEPTH:
                    raise _SyntaxFault("exceeded max depth")
                closer = b"}" if opener == b"{" else b"]"
                inside = self.space(position + 1)
                if self.at(inside) == closer:
                    position = inside + 1
                else:
                    closers.append(closer)
                    position = self.key(inside) if closer == b"}" else inside
                    continue
            else:
                position = self.scalar(position)
            while closers:
                position = self.space(position)
                found = self.at(position)
                if found == b",":
                    position = self.space(position + 1)
                    if closers[-1] == b"}":
                        position = self.key(position)
                    break
                if found != closers[-1]:
                    what = "after object key:value pair" if closers[-1] == b"}" else "after array element"
                    raise self.fail(position, what)
                closers.pop()
                position += 1
            else:
                return position

    def key(self, position: int) -> int:
        if self.at(position) != b'"':
            raise self.fail(position, "looking for beginning of object key string")
        position = self.space(self.string(position))
        if self.at(position) != b":":
            raise self.fail(position, "after object key")
        return position + 1

    def scalar(self, position: int) -> int:
        first = self.at(position)
        if first == b'"':
            return self.string(position)
        for literal in (b"true", b"false", b"null"):
            if first == literal[:1]:
                return self.literal(position, literal)
        if first == b"-" or first.isdigit():
            return self.number(position)
        raise self.fail(position, "looking for beginning of value")

    def literal(self, position: int, literal: bytes) -> int:
        for offset in range(1, len(literal)):
            if self.at(position + offset) != literal[offset : offset + 1]:
                wanted = chr(literal[offset])
                raise self.fail(position + offset, f"in literal {literal.decode()} (expecting '{wanted}')")
        return position + len(literal)

    def string(self, position: int) -> int:
        position += 1
        while position < len(self.text):
            code = self.text[position]
            if code == 0x22:
                return position + 1
            if code == 0x5C:
                position = self.escape(position + 1)
            elif code < 0x20:
                raise self.fail(position, "in string literal")
            else:
                position += 1
        raise self.fail(position, "")

    def escape(self, position: int) -> int:
        found = self.at(position)
        if found == b"u":
            for offset in range(1, 5):
                if self.at(position + offset) not in b"0123456789abcdefABCDEF" or position + offset >= len(self.text):
                    raise self.fail(position + offset, r"in \u hexadecimal character escape")
            return position + 5
        if not found or found not in b'bfnrt\\/"':
            raise self.fail(position, "in string escape code")
        return position + 1

    def number(self, position: int) -> int:
        if self.at(position) == b"-":
            position += 1
            if not self.at(position).isdigit():
                raise self.fail(position, "in numeric literal")
        position = position + 1 if self.at(position) == b"0" else self.digits(position)
        if self.at(position) == b".":
            position += 1
            if not self.at(position).isdigit():
                raise self.fail(position, "after decimal point in numeric literal")
            position = self.digits(position)
        if self.at(position) in (b"e", b"E"):
            position += 1
            if self.at(position) in (b"+", b"-"):
                position += 1
            if not self.at(position).isdigit():
                raise self.fail(position, "in exponent of numeric literal")
            position = self.digits(position)
        return position

    def digits(self, position: int) -> int:
        found = _NUMBER_END.match(self.text, position)
        return found.end() if found else position


def loads(text: bytes) -> Any:
    """Decode JSON. Raises ValueError with Go's text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(syntax_error(text) or str(error)) from None
