"""In which form a client takes its answer: `api.negotiate`'s gates, once for each Accept header that is seen."""

from __future__ import annotations

from functools import lru_cache

import orjson
from msgspec import Struct

from kubegate.api import Object, negotiate
from kubegate.api.codec import encode_json, encode_protobuf, encode_yaml
from kubegate.api.resources import Resource
from kubegate.api.status import not_acceptable
from kubegate.server.call import Call
from kubegate.server.responses import JSON, PROTOBUF, YAML

PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_CONTENT_TYPES = {negotiate.JSON: JSON, negotiate.YAML: YAML, negotiate.PROTOBUF: PROTOBUF}
JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY = PATCHES
CUSTOM_PATCHES = (JSON_PATCH, MERGE_PATCH, APPLY)


class Accepted(Struct, frozen=True):
    """`transform` is "", Table, PartialObjectMetadata or its List; `plain`: stored bytes may go as they are."""

    media_type: str
    transform: str
    version: str
    pretty: bool

    @property
    def plain(self) -> bool:
        return self.media_type == negotiate.JSON and not self.transform and not self.pretty

    @property
    def content_type(self) -> bytes:
        return _CONTENT_TYPES[self.media_type]

    def encode(self, value: Object) -> bytes:
        if self.media_type == negotiate.YAML:
            return encode_yaml(value)
        if self.media_type == negotiate.PROTOBUF:
            return encode_protobuf(value)
        return encode_json(value, pretty=True) if self.pretty else orjson.dumps(value)


def one(call: Call, resource: Resource, *, tables: bool = True) -> Accepted:
    """For an answer with one object. `tables`: whether it can be shown as one (reviews cannot). Raises 406."""
    found = _accepted(call.header("accept"), False, False, wants_pretty(call), resource.custom is None, tables)
    return found if found.media_type != negotiate.PROTOBUF else _possible(found, resource)


def many(call: Call, resource: Resource) -> Accepted:
    """For a list."""
    found = _accepted(call.header("accept"), True, False, wants_pretty(call), resource.custom is None)
    return found if found.media_type != negotiate.PROTOBUF else _possible(found, resource)


def stream(call: Call, resource: Resource) -> Accepted:
    """For a watch."""
    found = _accepted(call.header("accept"), True, True, False, resource.custom is None)
    return found if found.media_type != negotiate.PROTOBUF else _possible(found, resource)


def _possible(accepted: Accepted, resource: Resource) -> Accepted:
    """What is wanted in protobuf, if it has a form in it: custom resources have none. Raises 406."""
    if not accepted.transform:
        from kubegate.api import protobufwriter

        known = protobufwriter.type_of(resource.group, resource.version, resource.kind)
        if resource.custom is not None or not known:
            raise not_acceptable(negotiate.OBJECTS)
    return accepted


_PEOPLE = (b"curl", b"Wget", b"Mozilla/5.0")


def wants_pretty(call: Call) -> bool:
    """Asked for by `pretty`; without it, people with curl or a browser are shown more than one line."""
    if "pretty" in call.query:
        return call.parameter("pretty") not in ("0", "false")
    return call.headers.begins(b"user-agent", _PEOPLE)


@lru_cache(1024)
def _accepted(accept: str, is_list: bool, is_stream: bool, pretty: bool, routed: bool, tables: bool = True) -> Accepted:
    if routed:  # custom resources have no routes of their own
        negotiate.check_route(accept, negotiate.LISTS if is_list else negotiate.OBJECTS)
    answer = negotiate.negotiate(accept, tables=tables, stream=is_stream)
    return Accepted(answer.media_type, answer.kind, answer.version, pretty or answer.pretty)
