"""Whoever may open a connection: slow, many, huge or broken, nobody keeps others from being answered."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webhook_client import Serve, Served, admission

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[Served], Awaitable[Connection]]
POD = {"metadata": {"name": "p"}}
BODY = json.dumps(admission(POD)).encode()
MOVES = """
from kubegate import Gate

gate = Gate()

@gate.mutate("pods")
def moves(pod):
    pod["spec"] = {"moved": pod.pop("deep")}
"""
PATHS = ["/mutate", "/mutate/label", "/validate", "/authenticate", "/authorize", "/images", "/livez", "/metrics", "/x"]


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    async def begin(served: Served) -> Connection:
        context = ssl.create_default_context(cafile=str(tmp_path / "certs" / "ca.crt"))
        return await asyncio.open_connection("127.0.0.1", _port(served), ssl=context)

    return begin


def _port(served: Served) -> int:
    return int(served.server.url.rpartition(":")[2])


def _head(length: int, path: str = "/mutate/label") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: webhook\r\nContent-Length: {length}\r\n\r\n".encode()


async def _answered(reader: asyncio.StreamReader) -> int | None:
    """The answer's status; None where the connection is closed without one."""
    try:
        line = await asyncio.wait_for(reader.readline(), 20)
    except (ConnectionError, ssl.SSLError):
        return None
    return int(line.split()[1]) if line.startswith(b"HTTP/1.1 ") else None


async def test_clients_who_dawdle_are_let_go(serve: Serve, connect: Connect) -> None:
    served = await serve(patience=1.0)

    async def dawdle(sent: bytes) -> int | None:
        try:
            reader, writer = await connect(served)
            writer.write(sent)
        except (OSError, ssl.SSLError):
            return None
        return await _answered(reader)

    plain, writer = await asyncio.open_connection("127.0.0.1", _port(served))  # and never a TLS handshake
    found = await asyncio.gather(dawdle(b""), dawdle(b"POST /mutate/label HTTP/1.1\r\nHost:"))
    assert set(found) <= {None, 408}
    async with asyncio.timeout(20):
        assert await plain.read() == b""
    writer.close()


async def test_bodies_that_do_not_come_hold_up_no_review(serve: Serve, connect: Connect) -> None:
    """As many as may be in flight, and one more: those that come whole are answered meanwhile."""
    served = await serve(most=2)
    app = served.server.app
    dawdling = [await connect(served) for _ in range(3)]
    app._patience = 0.2
    for _, writer in dawdling:
        writer.write(_head(len(BODY)) + BODY[:20])
    for _ in range(5):
        assert (await served.post("/mutate/label", BODY))[0] == 200
    found = [await _answered(reader) for reader, _ in dawdling]
    assert set(found) <= {408, 429} and 408 in found
    assert app._reading == app.metrics.in_flight == 0


async def test_connections_over_the_bound_wait_or_are_refused_and_others_go_on(serve: Serve, connect: Connect) -> None:
    served = await serve(most_connections=4)
    assert (await served.get("/livez"))[0] == 200  # the session keeps this connection
    held = [await connect(served) for _ in range(3)]
    tried = asyncio.create_task(connect(served))
    assert (await served.post("/mutate/label", BODY))[0] == 200
    for _, writer in held:
        writer.close()
    await asyncio.gather(tried, return_exceptions=True)
    async with asyncio.timeout(20):
        while True:  # until the server has seen that they are gone
            try:
                reader, writer = await connect(served)
                writer.write(_head(len(BODY)) + BODY)
                if await _answered(reader) == 200:
                    break
            except (OSError, ssl.SSLError):
                await asyncio.sleep(0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 1000 + b"]" * 1000, b"\xff\xfe", b'"\\ud800"', b"1e999", b"NaN", b""],
    ids=["open", "objects", "deep", "bytes", "surrogate", "huge", "nan", "empty"],
)
async def test_what_is_no_review_is_told_so_whatever_it_is(served: Served, path: str, body: bytes) -> None:
    code, _ = await served.post_raw(path, body)
    assert code in (400, 404, 405)


@pytest.mark.parametrize("depth", [100, 200, 250, 251, 252, 253, 254, 255, 300, 900])
async def test_objects_of_any_depth_are_answered(serve: Serve, policies: Path, depth: int) -> None:
    """A policy that puts what it was given elsewhere makes a patch that is nested deeper than the object."""
    await asyncio.to_thread(policies.write_text, MOVES)
    served = await serve()
    pod = b'{"metadata":{},"deep":' + b"[" * depth + b"]" * depth + b"}"
    code, answer = await served.post("/mutate/moves", BODY.replace(json.dumps(POD).encode(), pod))
    response = answer.get("response", {})
    assert code == 200 and response["uid"] == "u-1"
    assert response["allowed"] or "reference" in response["status"]["message"]
    assert response["allowed"] or depth > 200
    assert not response["allowed"] or depth < 300


REQUESTS = st.builds(
    lambda method, path, version, headers, body: (
        f"{method} {path} {version}\r\n".encode("latin-1", "replace")
        + b"".join(f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in headers)
        + b"\r\n"
        + body
    ),
    st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PRI", "x", ""]),
    st.sampled_from([*PATHS, "*", "//", "/%00", "http://a/mutate", "/mutate?" + "a" * 500, "/../mutate/label"])
    | st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=10),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9", ""]),
    st.lists(
        st.tuples(
            st.sampled_from(["Host", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "X y"]),
            st.sampled_from(["a", "0", "-1", "5", "99999999999999999999", "chunked", "close", "100-continue", "h2c"])
            | st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=6),
        ),
        max_size=4,
    ),
    st.binary(max_size=40) | st.just(b"5\r\nhello\r\n0\r\n\r\n") | st.just(BODY),
)


@given(sent=st.lists(REQUESTS | st.binary(min_size=1, max_size=200), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_is_no_http_ends_at_worst_its_own_connection(
    served: Served, connect: Connect, sent: list[bytes]
) -> None:
    _, writer = await connect(served)
    writer.write(b"".join(sent))
    assert await served.get("/livez") == (200, "ok")
    writer.close()
    assert await served.get("/livez") == (200, "ok")
    assert ("InternalError",) not in served.server.app.metrics.refused.values
