"""A whole server in this process, on a free port, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from server_client import Running, Start, client_for

from kubegate.server.options import parse
from kubegate.server.process import Server

TOKENS = 'admin-token,admin,u-admin,"system:masters"\nalice-token,alice,u-alice,"dev"\nbob-token,bob,u-bob\n'


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`await start("--flag=value", …)`: a server on a memory store; all are stopped at the end of the test."""
    running: list[Running] = []
    sessions: list[aiohttp.ClientSession] = []

    async def begin(*flags: str) -> Running:
        (tmp_path / "tokens.csv").write_text(TOKENS)
        common = ["--secure-port=0", f"--data-dir={tmp_path}", f"--token-auth-file={tmp_path / 'tokens.csv'}"]
        storage = [] if any(flag.startswith("--storage") for flag in flags) else ["--storage=memory"]
        server = Server(parse([*common, *storage, *flags]).options)
        await server.start()
        client, session = client_for(server)
        sessions.append(session)
        running.append(Running(server, client))
        return running[-1]

    yield begin
    for session in sessions:
        await session.close()
    for each in running:
        await each.server.stop()
