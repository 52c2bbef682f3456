"""The bare ASGI application: what the ASGI server can do at most, with nothing behind it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvloop

from kubegate.transport import Listener, Transport


def application(size: int) -> Any:
    body = b"x" * size
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(size).encode())]

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def main(port: int, pki: Path, size: int) -> None:
    listener = Listener(
        "127.0.0.1", port, pki / "apiserver.crt", pki / "apiserver.key", pki / "ca.crt", max_body=1 << 22, grace=1.0
    )
    transport = Transport(application(size), listener)
    await transport.start()
    import signal

    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await told.wait()
    await transport.stop()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
