"""Bodies that are right as they stand: JSON of texts alone, in which nothing is empty, unknown or there twice.

Most reviews, ConfigMaps and roles come so. They are decoded in one step straight into what `codec.decode_object` and
`normalize` would make of them; of all others None is told, and those two look closer.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Required, TypedDict

import msgspec
import orjson

from kubegate.api import Object
from kubegate.api.codec import group_version
from kubegate.api.normalize import complete, is_plain_text
from kubegate.api.schema import Schema, schema_for

# Kinds that often come so; for others it would only be one more look at the body.
_KINDS = frozenset(
    {
        ("", "ConfigMap"),
        ("", "ServiceAccount"),
        *(("authentication.k8s.io", kind) for kind in ("SelfSubjectReview", "TokenReview")),
        *(
            ("authorization.k8s.io", kind)
            for kind in ("LocalSubjectAccessReview", "SelfSubjectAccessReview", "SubjectAccessReview")
        ),
        *(("rbac.authorization.k8s.io", kind) for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")),
    }
)


def decode(body: bytes, expected: tuple[str, str, str], *, completing: bool) -> Object | None:
    """The object, of the kind `expected` (group, version, kind); None where more has to be looked at.

    `completing`: as in `normalize.normalize`.
    """
    decoder = _decoder(expected, completing)
    # What is written by number may be a half of a character, or a colon, which are counted below.
    if decoder is None or (b"\\" in body and b"\\u" in body) or not body.isascii():
        return None
    try:
        value: Object = decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    written = orjson.dumps(value)
    # Each field has its colon: one that is unknown, or was there before, is not in the value.
    if written.count(b":") != body.count(b":") or b'""' in written or b"[]" in written or b"{}" in written:
        return None
    group, version, kind = expected
    said, itself = (value.get("apiVersion"), value.get("kind")), (group_version(group, version), kind)
    if said != itself:
        if said != (None, None):
            return None
        value["apiVersion"], value["kind"] = itself
    return value


@cache
def _decoder(expected: tuple[str, str, str], completing: bool) -> msgspec.json.Decoder[Any] | None:
    group, _, kind = expected
    schema = schema_for(*expected)
    if (group, kind) not in _KINDS or schema is None:
        return None
    made = _type(schema, completing, ())
    return None if made is None else msgspec.json.Decoder(made)


def _type(schema: Schema, completing: bool, within: tuple[str, ...]) -> Any:
    """The Python type of values that need nothing done to them; None where there is none. `within`: no recursion."""
    if is_plain_text(schema):
        return str
    below = schema.items if schema.type == "array" else schema.additional
    if schema.type == "object" and schema.properties:
        return None if schema.name in within else _struct(schema, completing, (*within, schema.name))
    if below is None or (found := _type(below, completing, within)) is None:
        return None
    if schema.type != "array" and found is not str:
        return None  # maps are told in order: metadata's and data when they are stored, others by `normalize`
    return list[found] if schema.type == "array" else dict[str, found]  # type: ignore[valid-type]


def _struct(schema: Schema, completing: bool, within: tuple[str, ...]) -> Any:
    fields = {name: _type(child, completing, within) for name, child in schema.properties.items()}
    plain = {name: found for name, found in fields.items() if found is not None}
    # What Go writes whether or not it was sent must have been.
    always = complete({}, schema) if completing else {}
    if not plain.keys() >= always.keys():
        return None
    make: Any = TypedDict
    return make(schema.kind_name, plain | {name: Required[plain[name]] for name in always}, total=False)
