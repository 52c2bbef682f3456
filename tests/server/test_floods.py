"""HTTP/2 floods that servers have fallen to: the connection ends, and the server goes on."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from itertools import count, islice

import pytest
from server_process import ServerProcess, serving
from test_hostile import MEGABYTE, assert_alive

HEADERS, RESET, SETTINGS, PING, GOAWAY, CONTINUATION = 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("floods"), ("--storage=memory", "--controllers=none")) as running:
        yield running


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes, first: bytes = b"\0") -> bytes:
    """A header that is spelt out; with `first` 0x40 one that is remembered."""
    return first + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)])
    rest, written = len(text) - 127, b"\x7f"
    while rest >= 128:
        written += bytes([rest % 128 | 128])
        rest //= 128
    return written + bytes([rest])


GET = b"\x82\x87" + literal(b":path", b"/api/v1/namespaces") + literal(b":authority", b"x")


def resets() -> Iterator[bytes]:
    """CVE-2023-44487."""
    for stream in count(1, 2):
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream, GET) + frame(RESET, 0, stream, b"\0\0\0\x08")


def continuations() -> Iterator[bytes]:
    """CVE-2023-45288."""
    yield frame(HEADERS, END_STREAM, 1, GET)
    for number in count():
        yield frame(CONTINUATION, 0, 1, literal(b"x-%d" % number, b"a" * 1000))


def remembered_headers() -> Iterator[bytes]:
    """CVE-2019-9518 and its kind: 4 kB that are remembered, and named ten thousand times in each request."""
    yield frame(HEADERS, END_STREAM | END_HEADERS, 1, GET + literal(b"x-big", b"a" * 4000, b"\x40"))
    for stream in count(3, 2):
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream, GET + b"\xbe" * 10_000)


def pings() -> Iterator[bytes]:
    """CVE-2019-9512, of a client that reads no answer."""
    while True:
        yield frame(PING, 0, 0, b"12345678")


@pytest.mark.parametrize("flood", [resets, continuations, remembered_headers, pings])
def test_a_flood_of_frames_costs_the_server_little(server: ServerProcess, flood: object) -> None:
    context = ssl.create_default_context(cafile=str(server.folder / "pki" / "ca.crt"))
    context.set_alpn_protocols(["h2"])
    memory, worked = server.resident(), server.worked()
    with server.connect(context=context) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        frames = flood()  # type: ignore[operator]
        try:
            for _ in range(20):
                connection.sendall(b"".join(islice(frames, 200)))
        except OSError:
            pass  # the server has had enough
    assert server.resident() - memory < 64 * MEGABYTE
    assert server.worked() - worked < 10
    assert_alive(server)
