"""IAM identities: tokens a second that were seen before, and new ones, with an STS that takes 20 ms; 1,000 at once.

    python -m bench iam [--quick]

The aim: 1,000 users who sign in at once cost one call of STS each at most, however often each asks.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson

from bench.harness import ROOT, Figure
from kubegate.api.clock import SystemClock
from kubegate.authentication.aws_iam import AwsIamAuthenticator, AwsIamSettings
from kubegate.authentication.aws_maps import ConfigMapMaps
from kubegate.aws import presigned
from kubegate.aws.sts import StsSettings
from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Subject

ACCOUNT = "111122223333"
DELAY = 0.02
AT_ONCE = 1_000


def run(quick: bool = False) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="kubegate-bench-") as folder, _sts(Path(folder)) as port:
        yield from asyncio.run(_measure(Path(folder), port, quick))


async def _measure(folder: Path, port: int, quick: bool) -> list[Figure]:
    count = 1_000 if quick else 5_000
    rounds = 10_000 if quick else 100_000
    figures = []
    now = time.time()

    tokens = _tokens(port, now, "A", count)
    hosts = frozenset({f"127.0.0.1:{port}"})
    start = time.perf_counter()
    for token in tokens:
        presigned.parse(token, hosts, now)
    figures.append(Figure("token checked, STS not asked", (time.perf_counter() - start) / count * 1e6, "µs"))

    authenticator = _authenticator(folder, port)
    try:
        await authenticator.authenticate_token(tokens[0])
        start = time.perf_counter()
        for _ in range(rounds):
            await authenticator.authenticate_token(tokens[0])
        figures.append(Figure("token seen before", rounds / (time.perf_counter() - start), "tokens/s"))
        start = time.perf_counter()
        await asyncio.gather(*(authenticator.authenticate_token(token) for token in tokens[1:]))
        seconds = time.perf_counter() - start
        note = f"STS takes {DELAY * 1000:.0f} ms, 50 calls in flight"
        figures.append(Figure("token first seen", (count - 1) / seconds, "tokens/s", note=note))
    finally:
        await authenticator.close()

    authenticator = _authenticator(folder, port)
    try:
        before = await _calls(folder, port)
        crowd = [token for token in _tokens(port, now, "B", AT_ONCE) for _ in range(3)]
        start = time.perf_counter()
        await asyncio.gather(*(authenticator.authenticate_token(token) for token in crowd))
        seconds, calls = time.perf_counter() - start, await _calls(folder, port) - before
        note = f"three requests each, {calls:,} calls of STS"
        figures.append(Figure(f"{AT_ONCE:,} users sign in at once", seconds * 1000, "ms", note=note))
    finally:
        await authenticator.close()
    return figures


def _authenticator(folder: Path, port: int) -> AwsIamAuthenticator:
    maps = ConfigMapMaps()
    maps.put({"data": {"mapAccounts": f'- "{ACCOUNT}"'}})
    sts = StsSettings((folder / "ca.crt").read_bytes(), timeout=60.0, calls_per_second=100_000, burst=100_000)
    return AwsIamAuthenticator(AwsIamSettings("demo", hosts=(f"127.0.0.1:{port}",), sts=sts), [maps], SystemClock())


def _tokens(port: int, now: float, batch: str, count: int) -> list[str]:
    date = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    made = []
    for number in range(count):
        query = (
            "Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256"
            f"&X-Amz-Credential=AKIA{batch}{number:015}%2F{date[:8]}%2Fus-east-1%2Fsts%2Faws4_request&X-Amz-Date={date}"
            f"&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&X-Amz-Signature={number:064x}"
        )
        url = f"https://127.0.0.1:{port}/?{query}".encode()
        made.append("k8s-aws-v1." + base64.urlsafe_b64encode(url).rstrip(b"=").decode())
    return made


# ---------------------------------------------------------------------- an STS of another process
@contextlib.contextmanager
def _sts(folder: Path) -> Iterator[int]:
    authority, key = certificates.new_authority("bench"), keys.generate()
    made = certificates.issue(
        authority, key.public_key(), Subject("sts"), usages=certificates.SERVER, hosts=["127.0.0.1"]
    )
    certificates.save_pair(made, key, folder / "sts")
    (folder / "ca.crt").write_bytes(authority.pem)
    command = [sys.executable, "-m", "bench.iam", str(folder / "sts")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


async def _calls(folder: Path, port: int) -> int:
    """How often it was asked."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"GET /calls HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    found = int(await reader.readuntil(b"\n"))
    writer.close()
    return found


async def _serve(pair: str) -> None:
    calls = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET /calls"):
                    body = b"%d\n" % calls
                else:
                    calls += 1
                    body = _answer(head)
                    await asyncio.sleep(DELAY)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{pair}.crt", f"{pair}.key")
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _answer(head: bytes) -> bytes:
    key = head.partition(b"X-Amz-Credential=")[2][:20].decode()
    result = {"Arn": f"arn:aws:iam::{ACCOUNT}:user/{key}", "Account": ACCOUNT, "UserId": f"AIDA{key}"}
    return orjson.dumps({"GetCallerIdentityResponse": {"GetCallerIdentityResult": result}})


def main(arguments: Sequence[str]) -> None:
    import uvloop

    uvloop.run(_serve(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
