"""Content negotiation: what an Accept header asks for, what a Content-Type says, and the refusals of both.

Two gates stand one after the other, as in kube-apiserver: the router looks at the media types of a route alone, then
the handler at their parameters (`as=Table`). Protobuf is for those who take nothing else: clients that offer it beside
JSON, as all do, get JSON, which costs less here. Follows k8s.io/apiserver/pkg/endpoints/handlers/negotiation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from msgspec import Struct, field

from kubegate.api.codec import JSON as JSON
from kubegate.api.codec import PROTOBUF as PROTOBUF
from kubegate.api.codec import YAML as YAML
from kubegate.api.status import StatusError, not_acceptable, unsupported_media_type

OBJECTS: Final = (JSON, YAML, PROTOBUF)
"""What answers with one object are offered in."""
_STREAMS: Final = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
LISTS: Final = (*OBJECTS, *_STREAMS)
"""What collections that can be watched are offered in."""

_SERVED = (JSON, YAML)
_TABLE, _PARTIAL = "Table", frozenset({"PartialObjectMetadata", "PartialObjectMetadataList"})
_META_VERSIONS = frozenset({"v1", "v1beta1"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Answer(Struct, frozen=True):
    """How an answer is to be written.

    `kind` is "" for the object as it is, or Table, PartialObjectMetadata or PartialObjectMetadataList of
    meta.k8s.io in `version`.
    """

    media_type: str = JSON
    kind: str = ""
    version: str = "v1"
    pretty: bool = False


class Clause(Struct, frozen=True):
    """One alternative of an Accept header."""

    type: str
    subtype: str
    quality: float = 1.0
    parameters: dict[str, str] = field(default_factory=dict)

    def takes(self, media_type: str) -> bool:
        kind, _, subtype = media_type.partition("/")
        return self.type in ("*", kind) and (self.subtype in ("*", subtype))


def parse_accept(header: str) -> list[Clause]:
    """The alternatives, the most wanted first; what cannot be read is left out."""
    clauses = []
    for part in header.split(",")[:100]:
        name, *parameters = part.split(";")
        kind, slash, subtype = name.strip().partition("/")
        if not kind or (not slash and kind != "*"):
            continue
        found = {}
        quality = 1.0
        for parameter in parameters:
            key, equals, value = parameter.strip().partition("=")
            if not equals:
                continue
            if key == "q":
                quality = _quality(value)
            else:
                found[key] = value.strip('"')
        clauses.append(Clause(kind, subtype or "*", quality, found))
    return sorted(clauses, key=lambda c: (-c.quality, c.type == "*", c.subtype == "*"))


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


def check_route(accept: str, offered: Sequence[str]) -> None:
    """The router's gate: StatusError 406 unless one of `offered` is named, or `*/*`, or nothing is asked for."""
    if not accept:
        return
    for part in accept.split(","):
        name = part.split(";", 1)[0].strip(" ")
        if name == "*/*" or name in offered:
            return
    raise StatusError(
        406, "NotAcceptable", "406: Not Acceptable\n\nAvailable representations: " + ", ".join(offered), {}
    )


def negotiate(accept: str, *, tables: bool = True, stream: bool = False) -> Answer:
    """The handler's gate. `tables`: whether the resource can be shown as a Table (reviews cannot); `stream`: whether
    this is a watch, which YAML has no form for. Raises StatusError 406.
    """
    if not accept:
        return Answer()
    clauses = parse_accept(accept)
    for clause in clauses:
        for media_type in _SERVED:
            if clause.takes(media_type):
                answer = _answer(clause, media_type, tables)
                if answer is not None:
                    if stream and media_type == YAML:
                        raise not_acceptable(_STREAMS)
                    return answer
    for clause in clauses:
        protobuf = _answer(clause, PROTOBUF, tables=False) if clause.takes(PROTOBUF) else None
        if protobuf is not None:
            return protobuf
    raise not_acceptable(OBJECTS)


def for_error(accept: str) -> str:
    """What a refusal is written in: never as a Table, and as JSON for who takes none of what there is."""
    return _for_error(accept) or JSON


def takes_errors(accept: str) -> bool:
    """Whether a refusal can be written in a form that is asked for."""
    return not accept or bool(_for_error(accept))


@lru_cache(1024)
def _for_error(accept: str) -> str:
    clauses = parse_accept(accept)
    for offered in (_SERVED, (PROTOBUF,)):
        for clause in clauses:
            for media_type in offered:
                answer = _answer(clause, media_type, False) if clause.takes(media_type) else None
                if answer is not None and not answer.kind:
                    return media_type
    return ""


def _answer(clause: Clause, media_type: str, tables: bool) -> Answer | None:
    wanted = clause.parameters
    # Whoever asks for a stream may be given one document all the same, but not in YAML.
    if wanted.get("stream") and not (wanted["stream"] == "watch" and media_type != YAML):
        return None
    kind, group, version = wanted.get("as", ""), wanted.get("g", ""), wanted.get("v", "")
    if kind or group or version:
        known = group == "meta.k8s.io" and version in _META_VERSIONS
        if not known or not ((kind == _TABLE and tables) or kind in _PARTIAL):
            return None
    return Answer(media_type, kind, version or "v1", wanted.get("pretty") == "1")


@lru_cache(256)
def body_media_type(content_type: str | None) -> str:
    """JSON, YAML or PROTOBUF by the Content-Type of a body with an object; JSON where none is given.

    Raises StatusError 415.
    """
    if not content_type:
        return JSON
    media_type = parse_media_type(content_type)
    if media_type not in OBJECTS:
        raise unsupported_media_type(OBJECTS)
    return media_type


@lru_cache(256)
def parse_media_type(content_type: str) -> str:
    """`application/json` of `application/JSON; charset=utf-8`; "" where it is malformed."""
    name, _, parameters = content_type.partition(";")
    kind, slash, subtype = name.strip().lower().partition("/")
    if not slash or not _TOKEN.fullmatch(kind) or not _TOKEN.fullmatch(subtype):
        return ""
    for parameter in parameters.split(";"):
        text = parameter.strip()
        if text and not _TOKEN.fullmatch(text.partition("=")[0].strip()):
            return ""
    return f"{kind}/{subtype}"


def check_patch_type(content_type: str | None, accepted: Sequence[str], *, routed: bool = True) -> str:
    """The media type of a patch. Raises StatusError 415 where it is none of `accepted`.

    `routed`: whether the router refuses, as for built-in resources; custom ones have their handler's words.
    """
    media_type = parse_media_type(content_type) if content_type else ""
    if media_type not in accepted:
        if not routed:
            raise unsupported_media_type(accepted)
        raise StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    return media_type


def wrong_list(kind: str, is_list: bool, go_type: str) -> StatusError:
    """406 where PartialObjectMetadata is asked of a list, or its List of one object.

    `go_type` is the object's type inside kube-apiserver: `core.SecretList`, `core.Secret`.
    """
    what = "a list" if is_list else "not a list"
    return StatusError(406, "NotAcceptable", f"you requested {kind}, but the requested object is {what} (*{go_type})")
