"""Connections to a server with several workers, each of which one worker answers; and clients that keep account."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import orjson
from server_process import ServerProcess

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


class Connection:
    """One HTTP/1.1 connection. `worker` is what tells the worker that answers it from others."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader, self._writer, self._token = reader, writer, token
        self.worker = ""
        self._lines = b""

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON. Raises OSError or IncompleteReadError where the connection ended."""
        data = b"" if body is None else orjson.dumps(body)
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        self._writer.write(head.encode() + data)
        status, headers = await self._head()
        text = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return status, orjson.loads(text) if text.startswith(b"{") else text

    async def watch(self, path: str) -> None:
        """Begin a watch; `event` gives what it brings."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\n\r\n".encode())
        status, _ = await self._head()
        assert status == 200

    async def event(self) -> Any:
        """The next event; None at the end."""
        while b"\n" not in self._lines:
            size = int(await self._reader.readline(), 16)
            self._lines += (await self._reader.readexactly(size + 2))[:-2]
            if not size:
                assert not self._lines, "a watch was cut off within an event"
                return None
        line, _, self._lines = self._lines.partition(b"\n")
        return orjson.loads(line)

    async def _head(self) -> tuple[int, dict[str, str]]:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        self.worker = headers.get("audit-id", "").rpartition("-")[0]
        return int(lines[0].split(" ", 2)[1]), headers

    def close(self) -> None:
        self._writer.close()


async def connect(server: ServerProcess, token: str = "admin-token") -> Connection:
    context = ssl.create_default_context(cafile=str(server.folder / "pki" / "ca.crt"))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, limit=1 << 24)
    return Connection(reader, writer, token)


async def connect_to_each(server: ServerProcess, workers: int = 2, token: str = "admin-token") -> list[Connection]:
    """A connection to each worker: the kernel chooses, so it takes a few attempts, and more until all are there."""
    found: dict[str, Connection] = {}
    async with asyncio.timeout(60):
        while len(found) < workers:
            connection = await connect(server, token)
            await connection.ask("GET", "/version")
            if connection.worker in found:
                connection.close()
            else:
                found[connection.worker] = connection
    return list(found.values())


async def once(server: ServerProcess, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One request on a connection of its own; again while nothing answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                connection = await connect(server)
                try:
                    return await connection.ask(method, path, body)
                finally:
                    connection.close()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.01)


class Account:
    """Writers that note what they were told, and watchers that note what they saw, through whatever happens."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.told: dict[int, tuple[str, str]] = {}  # resourceVersion -> name, value
        self.failed: list[tuple[int, str]] = []  # statuses, and what they said
        self.enough = asyncio.Event()
        self._enough_at = 0
        self._number = 0

    def await_more(self, count: int) -> asyncio.Event:
        self.enough.clear()
        self._enough_at = len(self.told) + count
        return self.enough

    async def write(self) -> None:
        """Create and change objects on one connection after the other, until cancelled."""
        while True:
            try:
                connection = await connect(self.server)
                try:
                    await self._write(connection)
                finally:
                    connection.close()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.005)

    async def _write(self, connection: Connection) -> None:
        while True:
            self._number += 1
            name = f"w-{self._number}"
            for value in ("0", "1", "2"):
                body = {"metadata": {"name": name}, "data": {"value": value}}
                method, path = ("POST", CONFIGMAPS) if value == "0" else ("PATCH", f"{CONFIGMAPS}/{name}")
                status, answer = await connection.ask(method, path, body)
                if status >= 300:
                    self.failed.append((status, answer["message"]))
                    break
                self.told[int(answer["metadata"]["resourceVersion"])] = (name, value)
                if len(self.told) >= self._enough_at:
                    self.enough.set()

    async def watch(self, seen: list[tuple[int, str, str]]) -> None:
        """Note every change once, over as many connections as it takes, until cancelled."""
        while True:
            after = seen[-1][0] if seen else 1
            path = f"{CONFIGMAPS}?watch=1&resourceVersion={after}&fieldSelector=metadata.name!=kube-root-ca.crt"
            try:
                connection = await connect(self.server)
                try:
                    await connection.watch(path)
                    while (event := await connection.event()) is not None:
                        assert event["type"] in ("ADDED", "MODIFIED"), event
                        meta = event["object"]["metadata"]
                        seen.append((int(meta["resourceVersion"]), meta["name"], event["object"]["data"]["value"]))
                finally:
                    connection.close()
            except (OSError, asyncio.IncompleteReadError, ValueError):
                await asyncio.sleep(0.005)

    async def check(self, *watched: list[tuple[int, str, str]]) -> None:
        """Nothing that was acknowledged is lost, and every watch brings each change once and in order."""
        last = max(self.told)
        async with asyncio.timeout(30):
            while any(not seen or seen[-1][0] < last for seen in watched):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        status, answer = await once(self.server, "GET", CONFIGMAPS)
        assert status == 200
        stored = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in answer["items"]}
        latest = {name: revision for revision, (name, _) in sorted(self.told.items())}
        assert all(stored[name] >= revision for name, revision in latest.items())
        for seen in watched:
            revisions = [revision for revision, _, _ in seen]
            assert revisions == sorted(set(revisions)), "a watch repeated or turned round a change"
            found = {revision: (name, value) for revision, name, value in seen}
            assert {revision: found.get(revision) for revision in self.told} == self.told
