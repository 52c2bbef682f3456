"""/openapi/v3 and /openapi/v2: the documents that kubectl explain, apply and helm read, made when first asked for.

Documents are kept as bytes until the set of resources changes. Follows k8s.io/kube-openapi/pkg/handler and handler3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, unquote

import orjson

from kubegate.api import negotiate
from kubegate.api.resources import Resources
from kubegate.server import openapi_documents, openapi_proto
from kubegate.server.call import Call
from kubegate.server.responses import Response, not_found_page

_V3_TYPES = ("application/json", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf")
_V2_PROTOBUF = (
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
)
_V2_TYPES = ("application/json", *_V2_PROTOBUF)
_FOR_A_YEAR = b"public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _Kept:
    body: bytes
    hash: str


class OpenApi:
    """Answers what is under /openapi."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._kept: dict[str, _Kept] = {}
        resources.on_change(self._kept.clear)

    def answer(self, call: Call) -> Response:
        """By any method; what is not there or not acceptable is an empty 404 or 406, as kube-openapi has it."""
        path = call.path
        if path == "/openapi/v2":
            return self._v2(call)
        if path == "/openapi/v3":
            return _answered(call, self._keep("v3", self._index), b"text/plain; charset=utf-8")
        if path.startswith("/openapi/v3/"):
            return self._v3(call, unquote(path.removeprefix("/openapi/v3/")))
        return not_found_page()

    def _keep(self, name: str, make: Callable[[], bytes]) -> _Kept:
        found = self._kept.get(name)
        if found is None:
            body = make()
            found = self._kept[name] = _Kept(body, hashlib.sha512(body).hexdigest().upper())
        return found

    def _document(self, name: str) -> _Kept | None:
        if name not in openapi_documents.names(self._resources):
            return None
        return self._keep(f"v3/{name}", lambda: orjson.dumps(openapi_documents.document(self._resources, name)))

    def _index(self) -> bytes:
        """Each document's hash is in its URL, so that clients may keep it for ever."""
        paths = {}
        for name in openapi_documents.names(self._resources):
            # What a document says follows from what its resources are; making each now would cost a second at start.
            paths[name] = {"serverRelativeURL": f"/openapi/v3/{quote(name)}?hash={self._hash(name)}"}
        return orjson.dumps({"paths": paths})

    def _hash(self, name: str) -> str:
        parts = [openapi_documents.fingerprint()]
        for resource in self._resources:
            if resource.custom is not None and f"apis/{resource.group}/{resource.version}" == name:
                parts.append(orjson.dumps([resource.resource, sorted(resource.subresources)]))
                parts.append(orjson.dumps(resource.custom.openapi, option=orjson.OPT_SORT_KEYS))
        return hashlib.sha512(b"\0".join([name.encode(), *parts])).hexdigest().upper()

    def _v3(self, call: Call, name: str) -> Response:
        found = self._document(name)
        if found is None:
            return Response(404, b"", b"")
        if not _accepts(call, _V3_TYPES):
            return Response(406, b"", b"")
        hash_ = self._hash(name)
        asked = call.parameter("hash")
        if asked and asked != hash_:
            where = f"/openapi/v3/{quote(name)}?hash={hash_}"
            return Response(301, b"", b"", [(b"location", where.encode())])
        response = _answered(call, _Kept(found.body, hash_), b"application/json")
        if asked:
            response.headers.append((b"cache-control", _FOR_A_YEAR))
        return response

    def _v2(self, call: Call) -> Response:
        wanted = _accepts(call, _V2_TYPES)
        if not wanted:
            return Response(406, b"", b"")
        if wanted in _V2_PROTOBUF:
            found = self._keep("v2.pb", lambda: openapi_proto.encode(openapi_documents.document_v2(self._resources)))
            # What clients ask for has an @, which is not allowed in a media type: the answer names it without.
            return _answered(call, found, _V2_PROTOBUF[1].encode())
        found = self._keep("v2", lambda: orjson.dumps(openapi_documents.document_v2(self._resources)))
        return _answered(call, found, b"application/json")


def _accepts(call: Call, offered: tuple[str, ...]) -> str:
    """The first of the types asked for that is offered, "" where there is none. Nothing asked for is JSON."""
    header = call.header("accept")
    if not header:
        return offered[0]
    for clause in negotiate.parse_accept(header):
        for media_type in offered:
            if clause.takes(media_type):
                return media_type
    return ""


def _answered(call: Call, kept: _Kept, content_type: bytes) -> Response:
    tag = f'"{kept.hash}"'
    headers = [(b"etag", tag.encode()), (b"vary", b"Accept")]
    if call.header("if-none-match") == tag:
        return Response(304, b"", content_type, headers)
    return Response(200, kept.body, content_type, headers)
