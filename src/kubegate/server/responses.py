"""What goes back to a client: a status, headers, and bytes or a stream of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from itertools import accumulate
from typing import Any

import orjson
from msgspec import Struct, field

from kubegate.api import negotiate
from kubegate.api.status import StatusError

JSON = b"application/json"
YAML = b"application/yaml"
PROTOBUF = b"application/vnd.kubernetes.protobuf"
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
    """The Status, in YAML or protobuf for those who would rather have that than JSON."""
    response = json(error.status(), error.code, pretty=pretty)
    wanted = negotiate.for_error(accept)
    if wanted != negotiate.JSON:
        from kubegate.api.codec import encode_protobuf, encode_yaml

        encode = encode_yaml if wanted == negotiate.YAML else encode_protobuf
        response.body, response.content_type = encode(error.status()), wanted.encode()
    response.headers += [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
    seconds = (error.details or {}).get("retryAfterSeconds")
    if isinstance(seconds, int) and seconds > 0 and "Retry-After" not in error.headers:
        response.headers.append((b"retry-after", str(seconds).encode()))
    return response


def timed_out() -> Response:
    """The Status as kube-apiserver's timeout filter writes it: without its kind, and called text."""
    message = "Timeout: request did not complete within the allotted timeout"
    told = {"metadata": {}, "status": "Failure", "message": message, "reason": "Timeout", "details": {}, "code": 504}
    return Response(504, orjson.dumps(told) + b"\n", b"text/plain; charset=utf-8")


# All warnings of an answer have this many characters together; where they had more, each is cut to so many.
_MOST_WARNED, _MOST_IN_A_WARNING = 4096, 256
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def warning_headers(texts: Iterable[str]) -> list[Header]:
    """RFC 7234's Warning as kube-apiserver sends it: code 299, agent `-`, the text quoted.

    Texts with control characters are left out. Of warnings that are too long together each is cut short, and then as
    many are sent as fit, and one more.
    """
    whole = [text for text in texts if not _CONTROL.search(text)]
    if sum(map(len, whole)) > _MOST_WARNED:
        whole = list(_cut(whole))
    return [_warning_header(text) for text in whole]


def _cut(texts: Sequence[str]) -> Iterator[str]:
    """What led to the cutting is sent in any case."""
    uncut = accumulate(map(len, texts))
    enough = next(position for position, length in enumerate(uncut) if length > _MOST_WARNED)
    written = 0
    for position, text in enumerate(texts):
        if position > enough and written >= _MOST_WARNED:
            return
        written += len(text[:_MOST_IN_A_WARNING])
        yield text[:_MOST_IN_A_WARNING]


def _warning_header(text: str) -> Header:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return b"warning", f'299 - "{escaped}"'.encode()
