"""Kill -9 of the whole server: what HTTP clients were answered is there, and their watches go on without a gap."""

from __future__ import annotations

import asyncio
import random
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import orjson
import pytest
from storage_etcd import free_ports

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
WRITERS = 16


class Clients:
    """Writers and a watcher: what they were told, by resourceVersion."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, tuple[str, str]] = {}  # resourceVersion -> name, value
        self.watched: list[tuple[int, str, str]] = []
        self._number = 0

    async def write(self, session: aiohttp.ClientSession) -> None:
        """Create an object, then change it a few times, again and again."""
        while True:
            self._number += 1
            name = f"c-{self._number}"
            answer = await self._send(session, "POST", CONFIGMAPS, name, "0")
            for value in range(1, 4):
                if answer is not None:
                    answer = await self._send(session, "PATCH", f"{CONFIGMAPS}/{name}", name, str(value))

    async def _send(self, session: aiohttp.ClientSession, method: str, path: str, name: str, value: str) -> int | None:
        body = orjson.dumps({"metadata": {"name": name}, "data": {"value": value}})
        kind = "application/json" if method == "POST" else "application/merge-patch+json"
        async with session.request(method, path, data=body, headers={"Content-Type": kind}) as answer:
            if answer.status >= 300:
                return None
            revision = int(orjson.loads(await answer.read())["metadata"]["resourceVersion"])
        self.acknowledged[revision] = (name, value)
        return revision

    async def watch(self, session: aiohttp.ClientSession) -> None:
        after = self.watched[-1][0] if self.watched else 1
        path = f"{CONFIGMAPS}?watch=1&resourceVersion={after}&fieldSelector=metadata.name!=kube-root-ca.crt"
        async with session.get(path) as answer:
            assert answer.status == 200
            async for line in answer.content:
                event = orjson.loads(line)
                assert event["type"] in ("ADDED", "MODIFIED"), event
                metadata = event["object"]["metadata"]
                value = event["object"]["data"]["value"]
                self.watched.append((int(metadata["resourceVersion"]), metadata["name"], value))


@asynccontextmanager
async def server(folder: Path, port: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, aiohttp.ClientSession]]:
    (folder / "tokens.csv").write_text('secret,admin,u-1,"system:masters"\n')
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kubegate", "serve", f"--secure-port={port}", f"--data-dir={folder}"),
        f"--token-auth-file={folder / 'tokens.csv'}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=(folder / "log").open("ab"),
    )
    try:
        trusted = ssl.create_default_context()
        async with aiohttp.ClientSession(
            f"https://127.0.0.1:{port}",
            headers={"Authorization": "Bearer secret"},
            connector=aiohttp.TCPConnector(ssl=trusted),
        ) as session:
            await ready(process, session, trusted, folder)
            yield process, session
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ready(
    process: asyncio.subprocess.Process, session: aiohttp.ClientSession, trusted: ssl.SSLContext, folder: Path
) -> None:
    for _ in range(600):
        assert process.returncode is None, (folder / "log").read_text()
        with suppress(aiohttp.ClientError, OSError):
            trusted.load_verify_locations(folder / "pki" / "ca.crt")
            async with session.get("/readyz") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.05)
    raise TimeoutError((folder / "log").read_text())


@pytest.mark.crash
@pytest.mark.timeout(1800)
async def test_clients_of_a_server_that_is_killed_lose_nothing(tmp_path: Path, crash_rounds: int) -> None:
    rounds = max(crash_rounds // 10, 1)
    (port,) = free_ports(1)
    clients = Clients()
    for _ in range(rounds):
        async with server(tmp_path, port) as (process, session):
            tasks = [asyncio.create_task(clients.write(session)) for _ in range(WRITERS)]
            tasks.append(asyncio.create_task(clients.watch(session)))
            await asyncio.sleep(0.5 + random.random())
            process.send_signal(signal.SIGKILL)
            await process.wait()
            await asyncio.gather(*tasks, return_exceptions=True)
    async with server(tmp_path, port) as (process, session):
        watching = asyncio.create_task(clients.watch(session))
        last = max(clients.acknowledged)
        async with asyncio.timeout(30):
            while not clients.watched or clients.watched[-1][0] < last:
                assert not watching.done(), watching.exception()
                await asyncio.sleep(0.01)
        async with session.get(CONFIGMAPS) as answer:
            items = orjson.loads(await answer.read())["items"]
        watching.cancel()
    assert len(clients.acknowledged) > 10 * rounds
    revisions = [revision for revision, _, _ in clients.watched]
    assert revisions == sorted(set(revisions)), "the watch repeated or turned round a change"
    seen = {revision: (name, value) for revision, name, value in clients.watched}
    assert {revision: seen.get(revision) for revision in clients.acknowledged} == clients.acknowledged
    stored = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in items}
    latest = {name: revision for revision, (name, _) in sorted(clients.acknowledged.items())}
    assert all(stored[name] >= revision for name, revision in latest.items())
    print(f"{rounds} rounds, {len(clients.acknowledged)} acknowledged, {len(clients.watched)} watched")
