"""Connections to webhooks: kept, ended, shared, and led through proxies."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from remote_server import Serve, Server, reply, server_context

from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Authority, Subject
from kubegate.remote import client as remote_client
from kubegate.remote.client import Client, Clients, Endpoint, RemoteError

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def ok(head: str, body: bytes) -> bytes:
    return reply(b"{}")


def endpoint(server: Server, **changes: object) -> Endpoint:
    return Endpoint(server.url, authority=server.authority.pem, **changes)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def listening(handle: Handle, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that does as `handle` does with each connection."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await handle(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


@contextlib.asynccontextmanager
async def calling(endpoint: Endpoint) -> AsyncIterator[Client]:
    client = Client(endpoint)
    yield client
    await client.close()


async def told(call: Awaitable[object]) -> str:
    with pytest.raises(RemoteError) as failure:
        await call
    return str(failure.value)


# --- when a connection is used again


class Hangs:
    """Answers nothing at first, and all once it is let go."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, head: str, body: bytes) -> bytes:
        self.asked.set()
        await self.go.wait()
        return reply(b"{}")


async def test_a_call_that_is_cancelled_takes_its_connection_with_it(serve: Serve) -> None:
    hook = Hangs()
    server = await serve(hook)
    async with calling(endpoint(server)) as client:
        call = asyncio.create_task(client.post_json({}))
        await hook.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        hook.go.set()
        await client.post_json({})
        assert server.connections == 2


async def test_a_call_that_took_too_long_takes_its_connection_with_it(serve: Serve) -> None:
    hook = Hangs()
    server = await serve(hook)
    async with calling(endpoint(server)) as client:
        hook.go.set()
        await client.post_json({})
        hook.go.clear()
        assert await told(client.post_json({}, within=0.02)) == f'Post "{server.url}": context deadline exceeded'
        hook.go.set()
        await client.post_json({})
        assert server.connections == 2


async def test_a_handshake_that_takes_too_long_leaves_nothing_behind() -> None:
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()

    async with listening(silent) as port, calling(Endpoint(f"https://127.0.0.1:{port}/", verify=False)) as client:
        for within in (0.0, 0.0001, 0.02):
            assert (await told(client.post_json({}, within=within))).endswith(": context deadline exceeded")
        await ended.wait()


@pytest.mark.parametrize("header", ["Connection: close", "X: y"])
async def test_whoever_says_close_is_not_asked_again_on_that_connection(serve: Serve, header: str) -> None:
    async def answer(head: str, body: bytes) -> bytes:
        return reply(b"{}", "200 OK", header)

    server = await serve(answer)
    async with calling(endpoint(server)) as client:
        for _ in range(3):
            await client.post_json({})
        assert server.connections == (3 if "close" in header else 1)


async def test_more_than_was_asked_for_ends_the_connection(serve: Serve) -> None:
    async def answer(head: str, body: bytes) -> bytes:
        return reply(b"{}") + reply(b'{"smuggled": true}')

    server = await serve(answer)
    async with calling(endpoint(server)) as client:
        for _ in range(2):
            assert (await client.post_json({})).body == b"{}"
        assert server.connections == 2


async def test_a_connection_that_the_server_ended_meanwhile_is_not_used() -> None:
    connections = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(reply(b"{}"))
        await writer.drain()

    async with listening(once) as port, calling(Endpoint(f"http://127.0.0.1:{port}/")) as client:
        for _ in range(3):
            await client.post_json({})
            await asyncio.gather(*(connection.lost for connection in client._connections))
        assert connections == 3


async def test_what_is_sent_again_goes_over_a_new_connection(serve: Serve) -> None:
    """Those that are kept may all have ended together, when the server was started anew."""
    together, restarted = asyncio.Barrier(3), False

    async def answer(head: str, body: bytes) -> bytes | None:
        if not restarted:
            await together.wait()
        return None if restarted and server.connections == 3 else reply(b"{}")

    server = await serve(answer)
    async with calling(endpoint(server)) as client:
        await asyncio.gather(*(client.post_json({}) for _ in range(3)))
        restarted = True
        await client.post_json({}, replay=True)
        assert server.connections == 4


async def test_connections_that_nobody_uses_are_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_client, "_KEEP_ALIVE", 0.01)
    server = await serve(ok)
    async with calling(endpoint(server)) as client:
        await asyncio.gather(*(client.post_json({}) for _ in range(4)))
        await asyncio.gather(*(connection.lost for connection in client._connections))
        assert client._idle == {}
        await client.post_json({})


async def test_calls_in_flight_end_with_the_client(serve: Serve) -> None:
    hook = Hangs()
    server = await serve(hook)
    client = Client(endpoint(server))
    call = asyncio.create_task(client.post_json({}, replay=True))
    await hook.asked.wait()
    await client.close()
    assert await told(call) == f'Post "{server.url}": the connection was closed'
    assert not client._connections
    assert server.connections == 1


async def test_a_client_that_makes_room_for_another_finishes_its_calls(serve: Serve) -> None:
    hook = Hangs()
    server = await serve(hook)
    clients = Clients(limit=1)
    first = clients.get(endpoint(server))
    call = asyncio.create_task(first.post_json({}))
    await hook.asked.wait()
    clients.get(Endpoint("http://127.0.0.1:1/"))
    assert first.retired
    hook.go.set()
    assert (await call).status == 200
    await asyncio.gather(*(connection.lost for connection in first._connections))
    await clients.close()


# --- turns


async def test_one_lane_does_not_wait_for_another(serve: Serve) -> None:
    hook = Hangs()

    async def answer(head: str, body: bytes) -> bytes:
        return await (hook if "/hangs" in head else ok)(head, body)

    server = await serve(answer)
    async with calling(endpoint(server, in_flight=1)) as client:
        url = server.url.removesuffix("/x")
        hung = [asyncio.create_task(client.post_json({}, url=f"{url}/hangs", lane="/hangs")) for _ in range(3)]
        await hook.asked.wait()
        for _ in range(3):
            await client.post_json({}, url=f"{url}/other", lane="/other")
        assert not any(call.done() for call in hung)
        hook.go.set()
        await asyncio.gather(*hung)
        assert server.most_busy == 2


async def test_who_waits_and_gives_up_holds_up_nobody(serve: Serve) -> None:
    hook = Hangs()
    server = await serve(hook)
    async with calling(endpoint(server, in_flight=1)) as client:
        first = asyncio.create_task(client.post_json({}))
        await hook.asked.wait()
        second, third = (asyncio.create_task(client.post_json({})) for _ in range(2))
        await asyncio.sleep(0)
        second.cancel()
        hook.go.set()
        await asyncio.gather(first, third)
        assert second.cancelled()
        await client.post_json({})


# --- what is sent, and what comes


async def test_a_large_body_arrives_whole(serve: Serve) -> None:
    server = await serve(ok)
    async with calling(endpoint(server)) as client:
        for size in (10, 3_000_000, 10):
            await client.post_json(b"x" * size)
        assert [len(body) for _, body in server.received] == [10, 3_000_000, 10]
        assert server.connections == 1


async def test_a_url_is_sent_as_it_is_written(serve: Serve) -> None:
    server = await serve(ok)
    async with calling(endpoint(server)) as client:
        await client.get(f"https://127.0.0.1:{server.port}/a%2Fb//c/../d%zz?x=%41&y=ü z#here")
    assert server.received[0][0].startswith("GET /a%2Fb//c/../d%zz?x=%41&y=%C3%BC%20z HTTP/1.1\r\n")


async def test_a_caller_may_replace_headers_but_add_no_lines(serve: Serve) -> None:
    """CVE-2019-9741 and its kind."""
    server = await serve(ok)
    async with calling(endpoint(server, token="sesame")) as client:
        await client.get(headers={"user-agent": "mine", "Authorization": "Bearer other"})
        head = server.received[0][0]
        assert head.count("Authorization:") == 1
        assert "user-agent: mine\r\n" in head
        assert "sesame" not in head
        text = await told(client.get(headers={"X-A": "b\r\nX-C: d"}))
        assert text.endswith('net/http: invalid header field value for "X-A"')


async def test_a_packed_answer_is_unpacked_up_to_the_limit(serve: Serve) -> None:
    async def packed(head: str, body: bytes) -> bytes:
        assert "Accept-Encoding: gzip\r\n" in head
        content = gzip.compress(b"a" * int(body)) + gzip.compress(b"b")
        return reply(content, "200 OK", "Content-Encoding: gzip")

    server = await serve(packed)
    async with calling(endpoint(server, max_response=5000)) as client:
        assert (await client.post_json(b"2000")).body == b"a" * 2000 + b"b"
        assert "the answer is larger than 5000 bytes" in await told(client.post_json(b"1000000"))


async def test_a_packed_answer_of_a_million_empty_parts_holds_up_nobody_past_its_time(serve: Serve) -> None:
    parts = gzip.compress(b"") * 300_000

    async def packed(head: str, body: bytes) -> bytes:
        return reply(parts + (b"" if body else gzip.compress(b"end")), "200 OK", "Content-Encoding: gzip")

    server = await serve(packed)
    async with calling(endpoint(server)) as client:
        assert (await client.post_json(b"", within=30)).body == b"end"
        assert "context deadline exceeded" in await told(client.post_json(b"1", within=0.2))


async def test_an_answer_that_breaks_off_reads_as_in_client_go(serve: Serve) -> None:
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"

    async def answer(head: str, body: bytes) -> bytes:
        return broken

    server = await serve(answer)
    async with calling(endpoint(server)) as client:
        reading = "unexpected error when reading response body. Please retry. Original error: "
        assert await told(client.post_json({}, within=0.05)) == f"{reading}context deadline exceeded"

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(broken)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with listening(cut) as port, calling(Endpoint(f"http://127.0.0.1:{port}/")) as client:
        assert await told(client.post_json({}, replay=True)) == f"{reading}unexpected EOF"


async def test_a_reset_reads_as_in_go_and_may_pass() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with listening(reset) as port, calling(Endpoint(f"http://127.0.0.1:{port}/")) as client:
        with pytest.raises(RemoteError) as failure:
            await client.post_json({})
        assert str(failure.value).endswith(f"->127.0.0.1:{port}: read: connection reset by peer")
        assert failure.value.transient


async def test_a_name_with_several_addresses_is_reached_at_one_of_them() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(reply(b"{}"))
        await writer.drain()

    async with listening(answer) as port, calling(Endpoint(f"http://localhost:{port}/")) as client:
        addresses = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

        async def both(*_: object, **__: object) -> object:
            return addresses

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client._dialer, "_resolve", both)
            assert (await client.post_json({})).status == 200


# --- certificates


async def test_a_server_that_wants_a_certificate_gets_it_or_says_so(tmp_path: Path) -> None:
    authority = certificates.new_authority("test-ca")
    context = server_context(tmp_path, authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem.decode())
    key = keys.generate()
    certificate = certificates.issue(authority, key.public_key(), Subject("caller"), usages=certificates.CLIENT)
    certificates.save_pair(certificate, key, tmp_path / "caller")
    pair = {"certificate": (tmp_path / "caller.crt").read_bytes(), "key": (tmp_path / "caller.key").read_bytes()}
    # not asyncio's: its server ends such a handshake without a word
    listener = socket.create_server(("127.0.0.1", 0))

    def serve_one() -> None:
        with context.wrap_socket(listener.accept()[0], server_side=True, do_handshake_on_connect=False) as tls:
            try:
                tls.do_handshake()
            except ssl.SSLError:
                while socket.socket.recv(tls, 10_000):  # what nobody reads would make a reset of the end
                    pass
                return
            tls.recv(10_000)
            tls.sendall(reply(b"{}"))

    with listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        serving = asyncio.create_task(asyncio.to_thread(serve_one))
        async with calling(Endpoint(url, authority=authority.pem, **pair)) as client:  # type: ignore[arg-type]
            assert (await client.post_json({})).status == 200
        await serving
        serving = asyncio.create_task(asyncio.to_thread(serve_one))
        async with calling(Endpoint(url, authority=authority.pem)) as client:
            assert await told(client.post_json({})) == f'Post "{url}": remote error: tls: certificate required'
        await serving


async def test_whom_nobody_verifies_is_called_all_the_same(serve: Serve) -> None:
    server = await serve(ok)
    async with calling(Endpoint(server.url, verify=False)) as client:
        assert (await client.post_json({})).status == 200


# --- proxies


class Proxy:
    """Takes CONNECT, and whole URLs, from those who say the right password."""

    def __init__(self, password: str = "") -> None:
        self.heads: list[str] = []
        self._password = password

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if self._password and f"Proxy-Authorization: Basic {self._password}\r\n" not in head:
            writer.write(reply(b"", "407 Proxy Authentication Required"))
            await writer.drain()
            return
        if not head.startswith("CONNECT "):
            await reader.readexactly(2)
            writer.write(reply(b"by proxy"))
            await writer.drain()
            return
        host, _, port = head.split()[1].rpartition(":")
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
            target.transport.abort()

        await asyncio.gather(pass_on(reader, to_writer), pass_on(to_reader, writer))


async def test_a_proxy_leads_to_the_server_which_is_verified_all_the_same(serve: Serve) -> None:
    server, proxy = await serve(ok), Proxy()
    async with listening(proxy) as port:
        way = f"http://127.0.0.1:{port}"
        async with calling(endpoint(server, proxy_url=way)) as client:
            for _ in range(2):
                await client.post_json({})
        other = certificates.new_authority("test-ca")
        async with calling(Endpoint(server.url, authority=other.pem, proxy_url=way)) as client:
            assert "certificate signed by unknown authority" in await told(client.post_json({}))
    assert len(server.received) == 2
    assert [head.split("\r\n")[0] for head in proxy.heads] == [f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"] * 2


async def test_a_proxy_may_want_a_password_and_may_refuse(serve: Serve) -> None:
    server, proxy = await serve(ok), Proxy(base64.b64encode(b"me:p@ss").decode())
    async with listening(proxy) as port:
        async with calling(endpoint(server, proxy_url=f"http://me:p%40ss@127.0.0.1:{port}")) as client:
            assert (await client.post_json({})).status == 200
        async with calling(endpoint(server, proxy_url=f"http://127.0.0.1:{port}")) as client:
            assert await told(client.post_json({})) == f'Post "{server.url}": Proxy Authentication Required'
    assert "Proxy-Authorization" not in server.received[0][0]


async def test_a_proxy_may_itself_be_reached_over_tls(serve: Serve, tmp_path: Path) -> None:
    server = await serve(ok)
    authority: Authority = server.authority
    async with (
        listening(Proxy(), server_context(tmp_path, authority)) as port,
        calling(endpoint(server, proxy_url=f"https://127.0.0.1:{port}")) as client,
    ):
        assert (await client.post_json({})).status == 200


async def test_what_is_not_encrypted_is_asked_of_the_proxy_whole() -> None:
    proxy = Proxy()
    async with listening(proxy) as port:
        found = Endpoint("http://hook.example:8080/check", proxy_url=f"http://127.0.0.1:{port}")
        async with calling(found) as client:
            assert (await client.post_json({})).body == b"by proxy"
    assert proxy.heads[0].startswith("POST http://hook.example:8080/check HTTP/1.1\r\nHost: hook.example:8080\r\n")


async def test_a_proxy_that_is_not_there_reads_as_in_go(serve: Serve) -> None:
    server = await serve(ok)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with calling(endpoint(server, proxy_url=f"http://127.0.0.1:{port}")) as client:
        text = f"proxyconnect tcp: dial tcp 127.0.0.1:{port}: connect: connection refused"
        assert await told(client.post_json({})) == f'Post "{server.url}": {text}'


def test_a_proxy_of_another_kind_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="'socks5' is neither"):
        Client(Endpoint("https://127.0.0.1:1/", proxy_url="socks5://127.0.0.1:1"))


async def test_who_is_asked_over_tls_after_all_and_has_no_authority_is_told() -> None:
    async with calling(Endpoint("http://127.0.0.1:1/", authority=b"no PEM")) as client:
        text = 'Get "https://127.0.0.1:1/": http://127.0.0.1:1/: the certificate authority is no PEM certificate'
        assert await told(client.get("https://127.0.0.1:1/")) == text
