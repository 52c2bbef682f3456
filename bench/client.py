"""A small HTTP/1.1 load client, for machines without wrk: prints the requests a second that were answered 2xx."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from urllib.parse import urlsplit

import uvloop


async def connection(url: str, context: ssl.SSLContext, head: str, body: str, until: float, name: int) -> int:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    count = 0
    while time.monotonic() < until:
        data = body.replace("%N%", f"{name}-{count}-{time.time_ns()}").encode()
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 2"):
            raise SystemExit(f"an answer was no success: {answer[:100]!r}")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        count += 1
    writer.close()
    return count


async def main() -> None:
    url, ca, seconds, connections, token, method, body, content_type = sys.argv[1:9]
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\nUser-Agent: bench/1\r\n"
        f"Accept: application/json\r\nContent-Type: {content_type}\r\n"
    )
    context = ssl.create_default_context(cafile=ca)
    start = time.monotonic()
    until = start + float(seconds)
    counts = await asyncio.gather(
        *(connection(url, context, head, body, until, number) for number in range(int(connections)))
    )
    print(sum(counts) / (time.monotonic() - start))


if __name__ == "__main__":
    uvloop.run(main())
