"""A small HTTP/1.1 load client, for machines without wrk: prints the requests a second that were
answered 2xx, and the seconds within which 99 of 100 were."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from urllib.parse import urlsplit

import uvloop


async def connection(url: str, context: ssl.SSLContext, head: str, body: str, until: float, name: int) -> list[float]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    times: list[float] = []
    while (begun := time.monotonic()) < until:
        data = body.replace("%N%", f"{name}-{len(times)}-{time.time_ns()}").encode()
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 2"):
            raise SystemExit(f"an answer was no success: {answer[:100]!r}")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.monotonic() - begun)
    writer.close()
    return times


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
    found = await asyncio.gather(
        *(connection(url, context, head, body, until, number) for number in range(int(connections)))
    )
    seconds_taken, times = time.monotonic() - start, sorted(each for times in found for each in times)
    print(len(times) / seconds_taken, times[len(times) * 99 // 100] if times else 0.0)


if __name__ == "__main__":
    uvloop.run(main())
