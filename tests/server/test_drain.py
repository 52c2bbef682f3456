"""SIGTERM: watches end cleanly, what was acknowledged is in the store, and the process ends in good order."""

from __future__ import annotations

import asyncio
import signal
import ssl
import time
from pathlib import Path

import orjson
from server_process import ServerProcess, serving

WATCHERS, WRITERS = 50, 8
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


def request(method: str, path: str, body: bytes = b"") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\nContent-Length: {len(body)}\r\n"
    )
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


async def connect(server: ServerProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=str(server.folder / "pki" / "ca.crt"))
    return await asyncio.open_connection("127.0.0.1", server.port, ssl=context)


async def head_of(reader: asyncio.StreamReader) -> tuple[int, int]:
    """Status and content length of the answer that comes next."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    return int(head.split(b" ", 2)[1]), lengths[0] if lengths else 0


async def write_until_refused(
    server: ServerProcess, writer_number: int, acknowledged: set[str], enough: asyncio.Event
) -> None:
    """Create object after object on one connection; remember those whose 201 came, and say when they are 50."""
    reader, writer = await connect(server)
    number = 0
    try:
        while True:
            name = f"w{writer_number}-{number}"
            writer.write(request("POST", CONFIGMAPS, orjson.dumps({"metadata": {"name": name}})))
            status, length = await head_of(reader)
            await reader.readexactly(length)
            if status != 201:
                return
            acknowledged.add(name)
            if len(acknowledged) == 50:
                enough.set()
            number += 1
    except (OSError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


async def watch_to_the_end(server: ServerProcess, begun: asyncio.Semaphore) -> bytes:
    """A watch's whole answer, chunks and all."""
    reader, writer = await connect(server)
    writer.write(request("GET", f"{CONFIGMAPS}?watch=1"))
    status, _ = await head_of(reader)
    assert status == 200
    begun.release()
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_a_server_told_to_end_ends_its_watches_and_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    acknowledged: set[str] = set()
    enough = asyncio.Event()
    with serving(folder, ()) as server:
        begun = asyncio.Semaphore(0)
        watches = [asyncio.create_task(watch_to_the_end(server, begun)) for _ in range(WATCHERS)]
        for _ in range(WATCHERS):
            await begun.acquire()
        writers = [asyncio.create_task(write_until_refused(server, n, acknowledged, enough)) for n in range(WRITERS)]
        await enough.wait()
        told = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*watches)
        await asyncio.gather(*writers)
        assert await asyncio.to_thread(server.process.wait, 10) == 0
        assert time.monotonic() - told < 10
        assert "Traceback" not in server.log
    for answer in answers:
        assert answer.endswith(b"\r\n0\r\n\r\n"), "a watch was cut off within a chunk"

    with serving(folder, ()) as again:
        reader, writer = await connect(again)
        writer.write(request("GET", CONFIGMAPS))
        status, length = await head_of(reader)
        stored = {item["metadata"]["name"] for item in orjson.loads(await reader.readexactly(length))["items"]}
        writer.close()
    assert status == 200
    assert acknowledged <= stored


async def test_an_idle_server_ends_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as server:
        told = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - told < 5
