"""Objects in Kubernetes' protobuf form, as typed clients of late send them: read into the JSON form.

`data/protobuf.json.gz` has the field numbers of every built-in type, measured from the types in kubectl v1.36.3: for
each schema name {number: [JSON name, code]}. A name of "" is an embedded struct, whose fields stand beside its
siblings. Codes: s text, b boolean, i integer, d double, y bytes, Q quantity, T time, U micro time, P integer or text,
R raw JSON, D duration, M… a message; `[` before a code is a list of it, `{` a map to it, `L` a message that is nothing
but a list.
Follows k8s.io/apimachinery/pkg/runtime/serializer/protobuf.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import orjson

from kubegate.api import Object
from kubegate.api.resources import data

_PREFIX: Final = b"k8s\x00"
_MAX_DEPTH: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ProtobufError(ValueError):
    """The bytes are no object in protobuf; the message is for the client."""


@cache
def _messages() -> dict[str, dict[int, tuple[str, str]]]:
    found = orjson.loads(data("protobuf.json.gz"))
    return {
        name: {int(number): (field[0], field[1]) for number, field in fields.items()} for name, fields in found.items()
    }


def envelope(body: bytes) -> tuple[str, str, bytes]:
    """apiVersion, kind and the message in a body. Raises ProtobufError."""
    if not body:
        raise ProtobufError("empty data")
    if not body.startswith(_PREFIX):
        expected = " ".join(str(byte) for byte in _PREFIX)
        raise ProtobufError(f"provided data does not appear to be a protobuf message, expected prefix [{expected}]")
    if len(body) == len(_PREFIX):
        raise ProtobufError("empty body")
    api_version = kind = ""
    raw = b""
    for number, value in _fields(memoryview(body)[len(_PREFIX) :]):
        if number == 1 and not isinstance(value, int):
            type_meta = {n: bytes(v).decode("utf-8", "replace") for n, v in _fields(value) if not isinstance(v, int)}
            api_version, kind = type_meta.get(1, ""), type_meta.get(2, "")
        elif number == 2 and not isinstance(value, int):
            raw = bytes(value)
    return api_version, kind, raw


def decode(raw: bytes, schema_name: str) -> Object:
    """A message as the JSON form of the type `schema_name`. Raises ProtobufError.

    Zero values that Go wrote are there as well; `normalize` takes them out.
    """
    return _message(memoryview(raw), schema_name, 0)


def known(schema_name: str) -> bool:
    return schema_name in _messages()


def fields_of(schema_name: str) -> dict[int, tuple[str, str]]:
    """JSON name and code of each field by its number. Raises KeyError."""
    return _messages()[schema_name]


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value): an int for varints and fixed sizes, a view for what has a length."""
    position, size = 0, len(message)
    while position < size:
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
        elif kind == 2:
            length, position = _varint(message, position)
            if length > size - position:
                raise ProtobufError("unexpected EOF")
            yield key >> 3, message[position : position + length]
            position += length
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            if width > size - position:
                raise ProtobufError("unexpected EOF")
            yield key >> 3, int.from_bytes(message[position : position + width], "little")
            position += width
        else:
            raise ProtobufError(f"proto: illegal wireType {kind}")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift > 63:
            raise ProtobufError("proto: integer overflow")
    raise ProtobufError("unexpected EOF")


def _message(message: memoryview, name: str, depth: int) -> Object:
    if depth > _MAX_DEPTH:
        raise ProtobufError("exceeded max depth")
    fields = _messages()[name]
    found: Object = {}
    for number, value in _fields(message):
        field = fields.get(number)
        if field is None:
            continue
        json_name, code = field
        if code[0] == "[":
            found.setdefault(json_name, []).extend(_elements(code[1:], value, depth))
        elif code[0] == "{":
            key, member = _entry(code[1:], value, depth)
            found.setdefault(json_name, {})[key] = member
        elif not json_name:
            found.update(_value(code, value, depth))
        else:
            found[json_name] = _value(code, value, depth)
    return found


def _elements(code: str, value: int | memoryview, depth: int) -> list[Any]:
    """One element of a list, or many numbers that were packed together."""
    if code in ("i", "b") and not isinstance(value, int):
        found, position = [], 0
        while position < len(value):
            number, position = _varint(value, position)
            found.append(_value(code, number, depth))
        return found
    return [_value(code, value, depth)]


def _entry(code: str, value: int | memoryview, depth: int) -> tuple[str, Any]:
    key: str = ""
    member: Any = None
    for number, part in _fields(_view(value)):
        if number == 1:
            key = _text(part)
        elif number == 2:
            member = _value(code, part, depth)
    return key, _value(code, memoryview(b""), depth) if member is None and code not in ("i", "b", "d") else member


def _value(code: str, value: int | memoryview, depth: int) -> Any:
    kind = code[0]
    if kind == "s":
        return _text(value)
    if kind == "M":
        return _message(_view(value), code[1:], depth + 1)
    if kind == "L":
        return [
            one for number, part in _fields(_view(value)) if number == 1 for one in _elements(code[1:], part, depth)
        ]
    if kind == "y":
        return base64.b64encode(_view(value)).decode()
    if kind in "ibd":
        return _number(kind, value)
    return _READERS[kind](_view(value))


def _number(kind: str, value: int | memoryview) -> Any:
    if not isinstance(value, int):
        raise ProtobufError("proto: wrong wireType")
    if kind == "b":
        return value != 0
    if kind == "d":
        return struct.unpack("<d", value.to_bytes(8, "little"))[0]
    return value - (1 << 64) if value >> 63 else value


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ProtobufError("proto: wrong wireType")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_view(value)).decode("utf-8", "replace")


def _first(message: memoryview) -> bytes:
    """The bytes of field 1."""
    return next((bytes(_view(value)) for number, value in _fields(message) if number == 1), b"")


def _quantity(message: memoryview) -> str:
    return _first(message).decode("utf-8", "replace") or "0"


def _raw_json(message: memoryview) -> Any:
    raw = _first(message)
    if not raw:
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise ProtobufError("raw extension is no JSON") from None


def _moment(message: memoryview) -> datetime | None:
    """Seconds and nanoseconds since 1970; None for the zero time, of which nothing is sent."""
    parts = {number: _number("i", value) for number, value in _fields(message)}
    if not parts.get(1) and not parts.get(2):
        return None
    try:
        return _EPOCH + timedelta(seconds=parts.get(1, 0), microseconds=parts.get(2, 0) // 1000)
    except OverflowError:
        raise ProtobufError("time out of range") from None


def _time(message: memoryview) -> str | None:
    moment = _moment(message)
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _micro_time(message: memoryview) -> str | None:
    moment = _moment(message)
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _int_or_string(message: memoryview) -> int | str:
    kind = number = 0
    text = ""
    for field, value in _fields(message):
        if field == 3:
            text = _text(value)
        elif field == 1:
            kind = _number("i", value)
        elif field == 2:
            number = _number("i", value)
    return text if kind else number


def _duration(message: memoryview) -> str:
    """Nanoseconds as Go's duration text; whole seconds are enough for what has one."""
    nanos = next((_number("i", value) for number, value in _fields(message) if number == 1), 0)
    return f"{nanos / 1e9:g}s"


_READERS: Final[dict[str, Any]] = {
    "D": _duration,
    "P": _int_or_string,
    "Q": _quantity,
    "R": _raw_json,
    "T": _time,
    "U": _micro_time,
}
