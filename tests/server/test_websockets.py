"""Websockets are counted and told of as other requests are, let in or refused."""

from __future__ import annotations

import aiohttp
import pytest
from server_client import Client, Start

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


def connect(client: Client, path: str, token: str) -> aiohttp.client._WSRequestContextManager:
    headers = {"Authorization": f"Bearer {token}"}
    return client.session.ws_connect(client.url + path, ssl=client.context, headers=headers)


async def counted(client: Client, verb: str, code: int) -> int:
    """How many requests of the verb were answered so."""
    lines = (await client.ask("GET", "/metrics")).body.decode().splitlines()
    found = [x for x in lines if x.startswith(f'apiserver_request_total{{verb="{verb}"') and f'code="{code}"' in x]
    return sum(int(line.rpartition(" ")[2]) for line in found)


async def test_a_refused_upgrade_has_the_headers_of_any_refusal(start: Start) -> None:
    client = (await start()).client
    plain = await client.ask("GET", f"{CONFIGMAPS}?watch=1", token="alice-token")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connect(client, f"{CONFIGMAPS}?watch=1", "alice-token"):
            pass
    assert refused.value.status == plain.status == 403
    assert refused.value.headers is not None
    ours = {name.lower(): value for name, value in refused.value.headers.items()}
    assert ours["cache-control"] == "no-cache, private"
    assert ours["audit-id"]
    assert set(plain.headers) <= set(ours)


async def test_a_refused_upgrade_is_counted(start: Start) -> None:
    client = (await start()).client
    with pytest.raises(aiohttp.WSServerHandshakeError):
        async with connect(client, f"{CONFIGMAPS}?watch=1", "alice-token"):
            pass
    assert await counted(client, "GET", 403) == 1


async def test_a_watch_over_a_websocket_is_counted_when_it_has_ended(start: Start) -> None:
    client = (await start()).client
    async with connect(client, f"{CONFIGMAPS}?watch=1&timeoutSeconds=1", "admin-token") as socket:
        async for _ in socket:
            pass
    assert await counted(client, "WATCH", 101) == 1
