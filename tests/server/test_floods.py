"""HTTP/2 floods that servers have fallen to: the connection ends, and the server goes on."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count, islice

import pytest
from server_process import ServerProcess, serving
from test_hostile import MEGABYTE, assert_alive

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
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
POST = b"\x83" + GET[1:]
TOKEN = literal(b"authorization", b"Bearer admin-token")


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
    """CVE-2016-6581 and its kind: 4 kB that are remembered, and named ten thousand times in each request."""
    yield frame(HEADERS, END_STREAM | END_HEADERS, 1, GET + literal(b"x-big", b"a" * 4000, b"\x40"))
    for stream in count(3, 2):
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream, GET + b"\xbe" * 10_000)


def pings() -> Iterator[bytes]:
    """CVE-2019-9512, of a client that reads no answer."""
    while True:
        yield frame(PING, 0, 0, b"12345678")


def made_you_reset(more: Callable[[int], bytes]) -> Callable[[], Iterator[bytes]]:
    """CVE-2025-8671 and CVE-2019-9514: frames for which the server itself has to reset the stream."""

    def frames() -> Iterator[bytes]:
        for stream in count(1, 2):
            yield frame(HEADERS, END_STREAM | END_HEADERS, stream, GET) + more(stream)

    return frames


RESETTING = {
    "a window past all bounds": lambda stream: frame(WINDOW_UPDATE, 0, stream, b"\x7f\xff\xff\xff") * 2,
    "a window of nothing": lambda stream: frame(WINDOW_UPDATE, 0, stream, bytes(4)),
    "a priority of three bytes": lambda stream: frame(PRIORITY, 0, stream, bytes(3)),
    "a stream that waits for itself": lambda stream: frame(PRIORITY, 0, stream, stream.to_bytes(4, "big") + b"\0"),
    "data after the end": lambda stream: frame(DATA, 0, stream, b"x"),
}


def settings() -> Iterator[bytes]:
    """CVE-2019-9515."""
    while True:
        yield frame(SETTINGS, 0, 0)


def settings_of_two_thousand() -> Iterator[bytes]:
    """CVE-2020-11080."""
    while True:
        yield frame(SETTINGS, 0, 0, b"\0\1\0\0\x10\0" * 2000)


def priorities() -> Iterator[bytes]:
    """CVE-2019-9513."""
    for stream in count(1, 2):
        yield frame(PRIORITY, 0, stream, b"\0\0\0\0\1")


def headers_without_names() -> Iterator[bytes]:
    """CVE-2019-9516."""
    for stream in count(1, 2):
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream, GET + literal(b"", b"") * 2000)


def empty_frames() -> Iterator[bytes]:
    """CVE-2019-9518."""
    yield frame(HEADERS, END_HEADERS, 1, POST)
    while True:
        yield frame(DATA, 0, 1)


def answers_that_nobody_takes() -> Iterator[bytes]:
    """CVE-2019-9511 and CVE-2019-9517: large answers asked for, and a window of nothing."""
    yield frame(SETTINGS, 0, 0, b"\0\4" + bytes(4))
    for stream in count(1, 2):
        document = b"\x82\x87" + literal(b":path", b"/openapi/v2") + literal(b":authority", b"x") + TOKEN
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream, document)


def trailers() -> Iterator[bytes]:
    yield frame(HEADERS, END_HEADERS, 1, POST)
    while True:
        yield frame(HEADERS, END_HEADERS, 1, literal(b"x-trailer", b"a" * 1000))


def tables_of_other_sizes() -> Iterator[bytes]:
    """CVE-2022-41723 and its kind: work for who reads packed headers."""
    for stream in count(1, 2):
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream, b"\x20\x3f\xe1\x1f" * 3000 + GET)


FLOODS = [
    resets,
    continuations,
    remembered_headers,
    pings,
    settings,
    settings_of_two_thousand,
    priorities,
    headers_without_names,
    empty_frames,
    answers_that_nobody_takes,
    trailers,
    tables_of_other_sizes,
]
NAMED = {flood.__name__: flood for flood in FLOODS} | {name: made_you_reset(more) for name, more in RESETTING.items()}


@pytest.mark.parametrize("flood", NAMED.values(), ids=NAMED)
def test_a_flood_of_frames_costs_the_server_little(server: ServerProcess, flood: Callable[[], Iterator[bytes]]) -> None:
    context = ssl.create_default_context(cafile=str(server.folder / "pki" / "ca.crt"))
    context.set_alpn_protocols(["h2"])
    memory, worked = server.resident(), server.worked()
    with server.connect(context=context) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        frames = flood()
        try:
            for _ in range(20):
                connection.sendall(b"".join(islice(frames, 200)))
        except OSError:
            pass  # the server has had enough
    assert server.resident() - memory < 64 * MEGABYTE
    assert server.worked() - worked < 10
    assert_alive(server)


def test_headers_that_were_written_small_are_held_small(server: ServerProcess) -> None:
    """CVE-2026-49975, CVE-2026-47774: headers of a byte each that stand for 4 kB, in requests that never end."""
    context = ssl.create_default_context(cafile=str(server.folder / "pki" / "ca.crt"))
    context.set_alpn_protocols(["h2"])
    memory = server.resident()
    with ExitStack() as connections:
        for _ in range(4):
            connection = connections.enter_context(server.connect(context=context))
            first = POST + TOKEN + literal(b"x-big", b"a" * 4000, b"\x40")
            frames = [frame(HEADERS, END_HEADERS, stream, POST + TOKEN + b"\xbe" * 60) for stream in range(3, 490, 2)]
            connection.sendall(
                PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, first) + b"".join(frames)
            )
            connection.sendall(frame(PING, 0, 0, bytes(8)))
            while read_frame(connection) != PING:
                pass
            assert_alive(server)
        assert server.resident() - memory < 128 * MEGABYTE, "of 240 MB that they stand for"


# ------------------------------------------------------------------ requests that two readers would read otherwise
ODD = {
    "two paths": literal(b":path", b"/api"),
    "two methods": literal(b":method", b"DELETE"),
    "another host": literal(b"host", b"y"),
    "a line break in a value": literal(b"x-a", b"b\r\nauthorization: Bearer admin-token"),
    "a zero byte in a value": literal(b"x-a", b"b\0"),
    "a space in a name": literal(b"x a", b"b"),
    "a colon in a name": literal(b"x:a", b"b"),
    "a name in capitals": literal(b"X-A", b"b"),
    "a header of one connection": literal(b"connection", b"upgrade"),
    "an upgrade": literal(b"upgrade", b"h2c"),
    "chunks": literal(b"transfer-encoding", b"chunked"),
    "a length of nothing": literal(b"content-length", b"10"),
    "a pseudo-header that is none": literal(b":protocol-of-mine", b"x"),
}


@pytest.mark.parametrize("name", ODD)
def test_headers_that_a_proxy_would_read_otherwise_end_the_stream(server: ServerProcess, name: str) -> None:
    """CVE-2025-57804, CVE-2026-71554 and their kind."""
    context = ssl.create_default_context(cafile=str(server.folder / "pki" / "ca.crt"))
    context.set_alpn_protocols(["h2"])
    with server.connect(context=context) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        connection.sendall(frame(HEADERS, END_STREAM | END_HEADERS, 1, GET + TOKEN + ODD[name]))
        kind = SETTINGS
        while kind not in (HEADERS, RESET, GOAWAY):
            kind = read_frame(connection)
    assert kind in (RESET, GOAWAY)


def read_frame(connection: ssl.SSLSocket) -> int:
    """The kind of the next frame; GOAWAY where the connection has ended."""
    head = exactly(connection, 9)
    if not head:
        return GOAWAY
    exactly(connection, int.from_bytes(head[:3], "big"))
    return head[3]


def exactly(connection: ssl.SSLSocket, size: int) -> bytes:
    received = b""
    while len(received) < size and (part := connection.recv(size - len(received))):
        received += part
    return received
