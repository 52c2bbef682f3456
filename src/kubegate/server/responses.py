"""What goes back to a client: a status, headers, and bytes or a stream of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from msgspec import Struct, field

from kubegate.api.status import StatusError

JSON = b"application/json"
YAML = b"application/yaml"
TEXT = b"text/plain; charset=utf-8"

Header = tuple[bytes, bytes]
Message = MutableMapping[str, Any]
Session = Callable[[Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
"""receive, send -> until the session is over. It accepts the websocket, and closes it."""


class Response(Struct):
    """`stream` in place of `body` for watches; it is closed when the client goes.

    `session` takes a websocket over (status 101): it is given what speaks ASGI's websocket messages, and the
    subprotocols that were offered are checked already.
    """

    status: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: list[Header] = field(default_factory=list)
    stream: AsyncIterator[bytes] | None = None
    session: Session | None = None


def json(value: Any, status: int = 200, *, pretty: bool = False) -> Response:
    return Response(status, orjson.dumps(value, option=orjson.OPT_INDENT_2 if pretty else None))


def text(body: str, status: int = 200) -> Response:
    return Response(status, body.encode(), TEXT, [(b"x-content-type-options", b"nosniff")])


def not_found_page() -> Response:
    """What kube-apiserver's outermost mux says of a path that nobody serves."""
    return text("404 page not found\n", 404)


def of_error(error: StatusError, accept: str = "", *, pretty: bool = False) -> Response:
    """The Status, in YAML for those who take that and not JSON."""
    response = json(error.status(), error.code, pretty=pretty)
    if "application/yaml" in accept and "application/json" not in accept:
        from kubegate.api.codec import encode_yaml

        response.body, response.content_type = encode_yaml(error.status()), YAML
    response.headers += [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
    return response


def warning_header(text: str) -> Header:
    """RFC 7234's Warning as kube-apiserver sends it: code 299, agent `-`, the text quoted, control characters out."""
    cleaned = "".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in text)
    escaped = cleaned.replace("\\", "\\\\").replace('"', '\\"')
    return b"warning", f'299 - "{escaped}"'.encode()
