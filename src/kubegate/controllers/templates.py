"""Hashes of pod templates and revisions: what ReplicaSets, their pods and ControllerRevisions are named with.

kube-controller-manager hashes a text that a Go library writes of its structs, with the types' and fields' names and
all zero values. `api/data/go-pod-template.json.gz` has those types: for each struct its fields in order as
`[Go name, JSON name ("" where the fields stand in the same JSON object), type]`, and what named types are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson

from kubegate.api import Object
from kubegate.api.metadata import NAME_LETTERS
from kubegate.api.quantity import parse
from kubegate.api.resources import data

_OFFSET, _PRIME = 2166136261, 16777619
_MAP = re.compile(r"map\[([^\]]+)\](.+)")
_QUANTITY = re.compile(r"([+-]?)0*([0-9]*)(?:\.([0-9]*))?([A-Za-z].*)?")
_ZERO_TEXT = {"bool": "false", "string": ""}
_SECONDS_TO_1970 = 62135596800


def template_hash(template: Object, collisions: int | None = None) -> str:
    """`pod-template-hash` of a PodTemplateSpec; `collisions` is the owner's status.collisionCount."""
    digest = _fnv1a(_field("v1.PodTemplateSpec", template).encode())
    if collisions is not None:
        digest = _fnv1a(collisions.to_bytes(4, "little") + bytes(4), digest)
    return safe_text(digest)


def revision_hash(raw: Object, collisions: int | None = None) -> str:
    """The hash in a StatefulSet's ControllerRevision's name, of its `data`."""
    text = orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)
    if collisions is not None:
        text += str(collisions).encode()
    digest = _OFFSET
    for byte in text:
        digest = (digest * _PRIME & 0xFFFFFFFF) ^ byte
    return safe_text(digest)


def safe_text(number: int) -> str:
    """A number in letters that may stand in a name."""
    return "".join(NAME_LETTERS[ord(digit) % len(NAME_LETTERS)] for digit in str(number))


def _fnv1a(text: bytes, digest: int = _OFFSET) -> int:
    for byte in text:
        digest = (digest ^ byte) * _PRIME & 0xFFFFFFFF
    return digest


@cache
def _types() -> Mapping[str, Any]:
    found: Mapping[str, Any] = orjson.loads(data("go-pod-template.json.gz"))
    return found


def _field(kind: str, value: Any) -> str:
    """A struct's field with its type before it."""
    if kind.startswith("*"):
        return f"({kind})<nil>" if value is None else f"({kind}){_value(kind[1:], value)}"
    return f"({kind}){_value(kind, value)}"


def _value(kind: str, value: Any) -> str:
    special = _SPECIAL.get(kind)
    if special is not None:
        return special(value)
    kind = _types()["named"].get(kind, kind)
    if kind.startswith("[]"):
        if not value:
            return "<nil>"
        return "[" + " ".join(_value(kind[2:], each) for each in value) + "]"
    if found := _MAP.fullmatch(kind):
        if not value:
            return "<nil>"
        return "map[" + " ".join(f"{key}:{_value(found[2], value[key])}" for key in sorted(value)) + "]"
    if kind in _types()["structs"]:
        return _struct(kind, value or {})
    if value is None:
        return _ZERO_TEXT.get(kind, "0")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _struct(kind: str, value: Object) -> str:
    parts = []
    for name, key, its in _types()["structs"][kind]:
        parts.append(f"{name}:{_field(its, value.get(key) if key else value)}")
    return "{" + " ".join(parts) + "}"


def _quantity(value: Any) -> str:
    text = "" if value is None else str(value)
    number, scale, family = 0, 0, ""
    found = _QUANTITY.fullmatch(text)
    if text not in ("", "0") and found:
        quantity = parse(text)
        family, fraction = quantity.format, found[3] or ""
        if family == "BinarySI":
            number = quantity.value()
        else:
            # the digits as they were written, and where the point is
            number = int((found[2] or "0") + fraction) * (-1 if found[1] == "-" else 1)
            scale = _scale(quantity.unscaled, quantity.exponent, number)
    amount = f"{{value:(int64){number} scale:(resource.Scale){scale}}}"
    return (
        f"{{i:(resource.int64Amount){amount} d:(resource.infDecAmount){{Dec:(*inf.Dec)<nil>}} "
        f"s:(string){text} Format:(resource.Format){family}}}"
    )


def _scale(unscaled: int, exponent: int, number: int) -> int:
    """The power of ten by which `number` is the same as unscaled * 10**exponent."""
    while unscaled and abs(number) > abs(unscaled):
        unscaled, exponent = unscaled * 10, exponent - 1
    while number and abs(number) < abs(unscaled):
        unscaled, exponent = unscaled // 10, exponent + 1
    return exponent


def _int_or_string(value: Any) -> str:
    text, number = (value, 0) if isinstance(value, str) else ("", value or 0)
    sort = int(isinstance(value, str))
    return f"{{Type:(intstr.Type){sort} IntVal:(int32){number} StrVal:(string){text}}}"


def _time(value: Any) -> str:
    from kubegate.api.clock import parse_rfc3339

    seconds = 0 if value is None else int(parse_rfc3339(value)) + _SECONDS_TO_1970
    return f"{{Time:(time.Time){{wall:(uint64)0 ext:(int64){seconds} loc:(*time.Location)<nil>}}}}"


_SPECIAL = {"resource.Quantity": _quantity, "intstr.IntOrString": _int_or_string, "v1.Time": _time}
