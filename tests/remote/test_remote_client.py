"""What a call to a webhook or issuer gives, and how its failures read."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from remote_server import Serve, Server, reply

from kubegate.pki import certificates, kubeconfig
from kubegate.remote.client import Client, Clients, Endpoint, RemoteError


async def ok(head: str, body: bytes) -> bytes:
    return reply(b'{"ok":true}')


async def hang(head: str, body: bytes) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


def endpoint(server: Server, **changes: object) -> Endpoint:
    return Endpoint(server.url, authority=server.authority.pem, **changes)  # type: ignore[arg-type]


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_an_answer_has_its_status_headers_and_body(serve: Serve) -> None:
    server = await serve(ok)
    client = Client(endpoint(server))
    answer = await client.post_json({"a": 1})
    assert (answer.status, answer.body) == (200, b'{"ok":true}')
    assert server.received[0][1] == b'{"a":1}'
    await client.close()


async def test_calls_one_after_the_other_use_one_connection(serve: Serve) -> None:
    server = await serve(ok)
    client = Client(endpoint(server))
    for _ in range(5):
        await client.post_json({})
    assert server.connections == 1
    await client.close()


async def test_no_more_calls_than_allowed_are_in_flight(serve: Serve) -> None:
    async def slow(head: str, body: bytes) -> bytes:
        await asyncio.sleep(0.005)
        return reply(b"{}")

    server = await serve(slow)
    client = Client(endpoint(server, in_flight=3))
    await asyncio.gather(*(client.post_json({}) for _ in range(20)))
    assert server.most_busy == 3
    await client.close()


async def test_waiting_for_a_turn_counts_against_the_time_given(serve: Serve) -> None:
    server = await serve(hang)
    client = Client(endpoint(server, in_flight=1))
    calls = [client.post_json({}, within=0.05) for _ in range(3)]
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(f, RemoteError) and f.timeout for f in failures)
    await client.close()


async def test_more_callers_than_may_wait_are_refused_at_once(serve: Serve) -> None:
    server = await serve(hang)
    client = Client(endpoint(server, in_flight=1))
    calls = [client.post_json({}, within=0.2) for _ in range(40)]
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert sum("too many calls are waiting" in str(f) for f in failures) > 10
    await client.close()


async def test_a_timeout_reads_as_in_go(serve: Serve) -> None:
    server = await serve(hang)
    client = Client(endpoint(server))
    with pytest.raises(RemoteError) as failure:
        await client.post_json({}, url=f"{server.url}?timeout=1s", within=0.05)
    assert str(failure.value) == f'Post "{server.url}?timeout=1s": context deadline exceeded'
    assert failure.value.timeout
    await client.close()


async def test_a_refused_connection_reads_as_in_go() -> None:
    port = unused_port()
    client = Client(Endpoint(f"http://127.0.0.1:{port}/"))
    with pytest.raises(RemoteError) as failure:
        await client.get()
    text = f'Get "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused'
    assert str(failure.value) == text
    await client.close()


async def test_an_unknown_host_reads_as_in_go() -> None:
    client = Client(Endpoint("https://nobody.invalid/"))
    with pytest.raises(RemoteError) as failure:
        await client.get()
    assert str(failure.value) == 'Get "https://nobody.invalid/": dial tcp: lookup nobody.invalid: no such host'
    await client.close()


async def test_an_unknown_authority_reads_as_in_go(serve: Serve) -> None:
    server = await serve(ok)
    other = certificates.new_authority("test-ca")
    client = Client(Endpoint(server.url, authority=other.pem))
    with pytest.raises(RemoteError) as failure:
        await client.get()
    assert str(failure.value) == (
        f'Get "{server.url}": tls: failed to verify certificate: x509: certificate signed by unknown authority'
    )
    await client.close()


@pytest.mark.parametrize(
    ("hosts", "name", "text"),
    [
        (("a.example", "b.example"), "c.example", "certificate is valid for a.example, b.example, not c.example"),
        (("10.0.0.1",), "", "certificate is valid for 10.0.0.1, not 127.0.0.1"),
        (("a.example",), "", "cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs"),
        ((), "c.example", "certificate relies on legacy Common Name field, use SANs instead"),
    ],
)
async def test_a_certificate_for_another_host_reads_as_in_go(
    serve: Serve, hosts: tuple[str, ...], name: str, text: str
) -> None:
    """CVE-2025-9708, of another client: whoever had a certificate of the authority was believed to be any server."""
    server = await serve(ok, hosts=hosts)
    client = Client(endpoint(server, server_name=name))
    with pytest.raises(RemoteError) as failure:
        await client.get()
    assert str(failure.value) == f'Get "{server.url}": tls: failed to verify certificate: x509: {text}'
    assert server.received == []
    await client.close()


async def test_an_expired_certificate_reads_as_in_go(serve: Serve) -> None:
    server = await serve(ok, days=1, now=datetime.now(UTC) - timedelta(days=3))
    client = Client(endpoint(server))
    with pytest.raises(RemoteError) as failure:
        await client.get()
    assert "x509: certificate has expired or is not yet valid: current time " in str(failure.value)
    await client.close()


async def test_a_new_connection_dropped_without_an_answer_is_eof_and_not_tried_again(serve: Serve) -> None:
    async def drop(head: str, body: bytes) -> None:
        return None

    server = await serve(drop)
    client = Client(endpoint(server))
    with pytest.raises(RemoteError, match="EOF"):
        await client.post_json({})
    with pytest.raises(RemoteError, match="EOF"):
        await client.post_json({}, replay=True)
    assert len(server.received) == 2
    await client.close()


async def test_a_kept_connection_dropped_without_an_answer_is_tried_again_only_where_allowed(serve: Serve) -> None:
    drops = [False, True, False, True]

    async def answer(head: str, body: bytes) -> bytes | None:
        return None if drops.pop(0) else reply(b"{}")

    server = await serve(answer)
    client = Client(endpoint(server))
    await client.post_json({})
    await client.post_json({}, replay=True)
    with pytest.raises(RemoteError, match="EOF"):
        await client.post_json({})
    assert len(server.received) == 4
    await client.close()


async def test_plain_http_on_a_tls_port_reads_as_in_go() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(reply(b"", "400 Bad Request"))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    client = Client(Endpoint(url))
    with pytest.raises(RemoteError) as failure:
        await client.get()
    assert str(failure.value) == f'Get "{url}": http: server gave HTTP response to HTTPS client'
    await client.close()
    server.close()


async def test_redirects_are_not_followed(serve: Serve) -> None:
    """CVE-2020-8561, CVE-2022-3172."""

    async def moved(head: str, body: bytes) -> bytes:
        return reply(b"", "302 Found", "Location: /other")

    server = await serve(moved)
    client = Client(endpoint(server))
    assert (await client.get()).status == 302
    assert len(server.received) == 1
    await client.close()


async def test_a_server_that_says_when_to_come_back_is_asked_again_then(serve: Serve) -> None:
    left = ["429 Too Many Requests", "503 Service Unavailable", "500 Internal Server Error"]

    async def busy(head: str, body: bytes) -> bytes:
        return reply(b"", left.pop(), "Retry-After: 0") if left else reply(body)

    server = await serve(busy)
    client = Client(endpoint(server))
    answer = await client.post_json({"a": 1})
    assert (answer.status, answer.body, len(server.received)) == (200, b'{"a":1}', 4)
    await client.close()


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        (reply(b"", "503 Service Unavailable", "Retry-After: 0"), 11),
        (reply(b"", "503 Service Unavailable", "Retry-After: Sun, 22 Nov 2026 10:51:53 GMT"), 1),
        (reply(b"", "429 Too Many Requests", "Retry-After: -1"), 11),
        (reply(b"", "503 Service Unavailable"), 1),
        (reply(b"", "400 Bad Request", "Retry-After: 0"), 1),
    ],
)
async def test_it_is_asked_again_ten_times_and_only_where_it_names_seconds(
    serve: Serve, answer: bytes, calls: int
) -> None:
    async def busy(head: str, body: bytes) -> bytes:
        return answer

    server = await serve(busy)
    client = Client(endpoint(server))
    assert (await client.post_json({})).status in (400, 429, 503)
    assert len(server.received) == calls
    await client.close()


async def test_nobody_comes_back_after_the_time_given(serve: Serve) -> None:
    async def busy(head: str, body: bytes) -> bytes:
        return reply(b"", "429 Too Many Requests", "Retry-After: 60")

    server = await serve(busy)
    client = Client(endpoint(server))
    with pytest.raises(RemoteError) as failure:
        await client.post_json({}, within=0.3)
    assert str(failure.value) == f'Post "{server.url}": context deadline exceeded'
    assert len(server.received) == 1
    await client.close()


async def test_what_is_posted_is_sent_on_within_one_server_alone(serve: Serve) -> None:
    other = await serve(ok)

    async def moved(head: str, body: bytes) -> bytes:
        path = head.split()[1]
        if path == "/x":
            return reply(b"", "307 Temporary Redirect", "Location: /x/?a=b")
        if path == "/away":
            return reply(b"", "308 Permanent Redirect", f"Location: {other.url}")
        if path == "/round":
            return reply(b"", "308 Permanent Redirect", "Location: /round")
        return reply(body)

    server = await serve(moved)
    client, host = Client(endpoint(server)), server.url.removesuffix("/x")
    assert (await client.post_json({"a": 1})).body == b'{"a":1}'
    assert server.received[-1][0].startswith("POST /x/?a=b ")
    assert (await client.post_json({}, url=f"{host}/away")).status == 308
    assert other.received == []
    with pytest.raises(RemoteError, match='Post "/round": stopped after 10 redirects'):
        await client.post_json({}, url=f"{host}/round")
    await client.close()


async def test_an_answer_over_the_limit_is_refused(serve: Serve) -> None:
    async def big(head: str, body: bytes) -> bytes:
        return reply(b"x" * 5000)

    server = await serve(big)
    client = Client(endpoint(server, max_response=1000))
    with pytest.raises(RemoteError, match="larger than 1000 bytes"):
        await client.get()
    await client.close()


async def test_the_address_to_dial_may_be_another_than_the_urls(serve: Serve) -> None:
    server = await serve(ok, hosts=("hook.ns.svc",))
    found = Endpoint(
        "https://hook.ns.svc:443/check", authority=server.authority.pem, resolve=("127.0.0.1", server.port)
    )
    client = Client(found)
    assert (await client.post_json({})).status == 200
    assert "Host: hook.ns.svc" in server.received[0][0]
    await client.close()


async def test_a_kubeconfig_describes_an_endpoint(serve: Serve, tmp_path: Path) -> None:
    server = await serve(ok)
    user = kubeconfig.User(token="sesame")
    path = tmp_path / "hook.yaml"
    kubeconfig.write(kubeconfig.new(server.url, authority=server.authority.pem, user=user), path)
    client = Client(Endpoint.from_kubeconfig(path, in_flight=2))
    await client.get()
    assert "Authorization: Bearer sesame" in server.received[0][0]
    assert "sesame" not in repr(client.endpoint)
    await client.close()


async def test_equal_endpoints_share_a_client_and_the_oldest_goes_first(serve: Serve) -> None:
    clients = Clients(limit=2)
    first = clients.get(Endpoint("http://127.0.0.1:1/a"))
    assert clients.get(Endpoint("http://127.0.0.1:1/a")) is first
    clients.get(Endpoint("http://127.0.0.1:1/b"))
    clients.get(Endpoint("http://127.0.0.1:1/c"))
    assert clients.get(Endpoint("http://127.0.0.1:1/a")) is not first
    await clients.close()
