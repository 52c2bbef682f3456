"""What a watch keeps while it waits."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from server_client import Start

PATH = "/api/v1/namespaces/default/configmaps"


async def test_a_watch_that_waits_holds_nothing_of_what_it_told(start: Start) -> None:
    running = await start("--controllers=none")
    for name in ("a", "b"):
        await running.client.ask("POST", PATH, {"metadata": {"name": name}, "data": {"k": "v" * 1000}})
    told: list[bytes] = []
    began = asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        if body := message.get("body"):
            told.append(body)
            began.set()

    async def receive() -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()

    scope = {
        "type": "http",
        "method": "GET",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"watch=1",
        "headers": [(b"authorization", b"Bearer admin-token")],
        "extensions": {},
    }
    watching = asyncio.ensure_future(running.server.app(scope, receive, send))
    await began.wait()  # now it waits for a change
    assert told[0].count(b'"ADDED"') == 2
    held = sys.getrefcount(told[0])
    assert held == 2, "the list's, and the call's own"
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
