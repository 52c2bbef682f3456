"""Objects from their JSON form into Kubernetes' protobuf form, as those are answered who take nothing else.

As Go's generated code writes them: fields in the order of their numbers, zero values written too unless a field is a
pointer in Go, entries of maps by their keys. Field numbers are those of `protobuf`.
Follows k8s.io/apimachinery/pkg/runtime/serializer/protobuf.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import orjson

from kubegate.api import gotypes, protobuf
from kubegate.api.schema import schema_for

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
_OBJECT_META, _LIST_META = f"M{_META}ObjectMeta", f"M{_META}ListMeta"
_PARTIAL: Final = f"{_META}PartialObjectMetadata"
# What the measured field numbers leave out.
_FURTHER: Final[dict[str, list[tuple[int, str, str]]]] = {
    _PARTIAL: [(1, "metadata", _OBJECT_META)],
    f"{_PARTIAL}List": [(1, "metadata", _LIST_META), (2, "items", f"[M{_PARTIAL}")],
}
_OF_META: Final = frozenset(
    {"APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status", "PartialObjectMetadata"}
    | {"PartialObjectMetadataList"}
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ABSENT: Final = object()


def type_of(group: str, version: str, kind: str) -> str:
    """The name of a kind's message; "" where it has none."""
    if kind in _OF_META and group in ("", "meta.k8s.io"):
        return f"{_META}{kind}"
    schema = schema_for(group, version, kind)
    return schema.name if schema is not None and protobuf.known(schema.name) else ""


def document(value: Mapping[str, Any]) -> bytes:
    """An object in its envelope. Raises KeyError where there is no message for its kind (see `type_of`)."""
    api_version = value.get("apiVersion") or "v1"
    group, _, version = api_version.rpartition("/")
    name = type_of(group, version, value["kind"])
    if not name:
        raise KeyError(value["kind"])
    said = part(1, api_version.encode()) + part(2, value["kind"].encode())
    return b"k8s\x00" + part(1, said) + part(2, message(value, name)) + part(3, b"") + part(4, b"")


def watch_event(kind: bytes, value: Mapping[str, Any]) -> bytes:
    """A frame of a watch: its length in four bytes, and a WatchEvent around the whole object."""
    event = part(1, kind) + part(2, part(1, document(value)))
    return len(event).to_bytes(4, "big") + event


def message(value: Mapping[str, Any], name: str) -> bytes:
    """The message of the type `name`."""
    return b"".join(_parts(value, name, gotypes.fields_of(name)))


@cache
def _fields(name: str) -> list[tuple[int, str, str]]:
    """Number, JSON name and code of each field, in the order of the numbers."""
    return _FURTHER.get(name) or sorted((number, *field) for number, field in protobuf.fields_of(name).items())


def _parts(value: Mapping[str, Any], name: str, types: Mapping[str, gotypes.GoField]) -> Iterator[bytes]:
    for number, json_name, code in _fields(name):
        if not json_name:  # an embedded struct: its fields, and what is known of them, stand beside these
            yield part(number, b"".join(_parts(value, code[1:], types)))
            continue
        found = value.get(json_name)
        if found is None:
            type_ = types.get(json_name)
            found = _ABSENT if type_ is not None and type_.pointer else _zero(code)
        if found is not _ABSENT:
            yield from _field(number, code, found)


def _zero(code: str) -> Any:
    """What is written of a field in which nothing is set."""
    kind = code[0]
    if kind in "[{Ly":
        return _ABSENT
    return {"s": "", "b": False, "i": 0, "d": 0.0, "M": {}, "P": 0, "Q": "0"}.get(kind)


def _field(number: int, code: str, value: Any) -> Iterator[bytes]:
    kind = code[0]
    if kind == "[":
        for one in value:
            yield from _field(number, code[1:], one)
    elif kind == "{":
        for key in sorted(value):
            entry = part(1, key.encode()) + b"".join(_field(2, code[1:], value[key]))
            yield part(number, entry)
    elif kind in "ib":
        yield varint(number << 3) + varint(int(value))
    elif kind == "d":
        yield varint(number << 3 | 1) + struct.pack("<d", value)
    else:
        yield part(number, _bytes(code, value))


def _bytes(code: str, value: Any) -> bytes:
    match code[0]:
        case "s":
            return str(value).encode()
        case "M":
            return message(value or {}, code[1:])
        case "L":
            return b"".join(part for one in value for part in _field(1, code[1:], one))
        case "y":
            return base64.b64decode(value)
        case "Q":
            return part(1, str(value).encode())
        case "R":
            return b"" if value is None else part(1, orjson.dumps(value))
        case "T" | "U":
            return b"" if value is None else _moment(value)
        case "P":
            text, whole = (value, 0) if isinstance(value, str) else ("", value)
            kind = varint(1 << 3) + varint(int(isinstance(value, str)))
            return kind + varint(2 << 3) + varint(whole) + part(3, text.encode())
    raise KeyError(code)


def _moment(text: str) -> bytes:
    """Seconds and nanoseconds since 1970."""
    seconds, micros = divmod((datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND, 1_000_000)
    return varint(1 << 3) + varint(seconds) + varint(2 << 3) + varint(micros * 1000)


def part(number: int, content: bytes) -> bytes:
    """A field that holds bytes: a text, a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """An integer of at most 64 bits; a negative one as its complement."""
    value &= (1 << 64) - 1
    if value < 0x80:
        return value.to_bytes(1, "little")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
