"""What each kind of credential costs: a decision by itself, warm and cold, and requests a second over TLS.

    python -m bench authentication [--quick]

The aims: a warm certificate or token costs a GET no more than 15% over an anonymous one, and 10,000 service account
tokens that come a second time cost no signature check.
"""

from __future__ import annotations

import asyncio
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from bench.harness import ROOT, Figure, Process, kubegate
from kubegate.authentication import Headers, Request, jose
from kubegate.authentication.build import AuthenticationOptions, BuiltAuthentication, Dependencies, build
from kubegate.authentication.signing import BoundObjects
from kubegate.pki import certificates, cluster, keys
from kubegate.pki.certificates import Subject

ISSUER = "https://kubernetes.default.svc"
ACCOUNT = {"metadata": {"namespace": "ns", "name": "robot", "uid": "u"}}
TOKENS = 10_000


def run(quick: bool = False) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="kubegate-bench-") as folder:
        yield from asyncio.run(_decisions(Path(folder), quick))
    yield from _requests(quick)


# ---------------------------------------------------------------------- the decision alone
class _Objects:
    """A reader that holds one service account."""

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        return ACCOUNT if resource == "serviceaccounts" else None

    def list(self, resource: str, namespace: str = "") -> Sequence[dict[str, Any]]:
        return []

    def subscribe(self, resource: str, on_event: Any) -> Callable[[], None]:
        return lambda: None


async def _decisions(folder: Path, quick: bool) -> list[Figure]:
    pki = cluster.ensure(folder / "pki")
    (folder / "tokens.csv").write_text("bench-token,bench,u-bench\n")
    options = AuthenticationOptions(
        client_ca_file=str(pki.ca_certificate),
        requestheader_client_ca_file=str(pki.front_proxy_ca_certificate),
        requestheader_username_headers=("X-Remote-User",),
        token_auth_file=str(folder / "tokens.csv"),
        service_account_issuer=(ISSUER,),
        service_account_signing_key_file=str(pki.service_account_key),
    )
    built = await build(options, Dependencies(_Objects()))
    try:
        return await _measure(built, pki, quick)
    finally:
        await built.close()


async def _measure(built: BuiltAuthentication, pki: cluster.Pki, quick: bool) -> list[Figure]:
    rounds = 2_000 if quick else 20_000
    count = TOKENS // 10 if quick else TOKENS
    proxy = certificates.der(certificates.load_certificates(pki.front_proxy_client_certificate)[0])
    admin = certificates.der(certificates.load_certificates(pki.admin_certificate)[0])
    (account,) = _tokens(built, 1)
    cases = {
        "anonymous": _request(),
        "client certificate": _request(peer=(admin,)),
        "front proxy": _request(("x-remote-user", "jane"), peer=(proxy,)),
        "static token": _bearer("bench-token"),
        "service account token": _bearer(account),
    }
    figures = []
    ask = built.authenticator.authenticate
    for name, request in cases.items():
        await ask(request)
        figures.append(Figure(f"{name}, known", await _each(ask, [request] * rounds), "µs"))
    strangers = [_request(peer=(_certificate(pki.authority(), number),)) for number in range(count // 20)]
    figures.append(Figure("client certificate, first seen", await _each(ask, strangers), "µs"))
    requests = [_bearer(token) for token in _tokens(built, count)]
    figures.append(Figure("service account token, first seen", await _each(ask, requests), "µs"))
    with mock.patch.object(jose, "verify", wraps=jose.verify) as signature:
        again = await _each(ask, requests)
        checks = signature.call_count
    figures.append(Figure(f"{count:,} service account tokens again", again, "µs", note=f"{checks} signature checks"))
    return figures


def _request(*headers: tuple[str, str], peer: tuple[bytes, ...] = ()) -> Request:
    return Request("GET", "/api", Headers.of([("host", "x"), ("accept", "*/*"), *headers]), peer)


def _bearer(token: str) -> Request:
    return _request(("authorization", f"Bearer {token}"))


def _tokens(built: BuiltAuthentication, count: int) -> list[str]:
    assert built.signer is not None
    make, now = built.signer.bound, time.time()
    return [make(ACCOUNT, BoundObjects(), audiences=(ISSUER,), now=now, seconds=3600) for _ in range(count)]


def _certificate(authority: certificates.Authority, number: int) -> bytes:
    made = certificates.issue(authority, keys.generate().public_key(), Subject(f"user-{number}"))
    return certificates.der(made)


async def _each(ask: Callable[[Request], Awaitable[Any]], requests: Sequence[Request]) -> float:
    start = time.perf_counter()
    for request in requests:
        if await ask(request) is None:
            raise RuntimeError("a credential that is good was not known")
    return (time.perf_counter() - start) / len(requests) * 1e6


# ---------------------------------------------------------------------- over TLS
def _requests(quick: bool) -> Iterator[Figure]:
    rounds, seconds = (3, 0.6) if quick else (9, 0.8)
    with kubegate() as server:
        pki = server.ca.parent
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        server.request("POST", accounts, {"metadata": {"name": "bench"}})
        made = server.request(
            "POST",
            f"{accounts}/bench/token",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
        )
        certificate = (str(pki / "admin.crt"), str(pki / "admin.key"))
        kinds: dict[str, tuple[str, tuple[str, str] | None]] = {
            "anonymous": ("", None),
            "client certificate": ("", certificate),
            "static token": ("bench-token", None),
            "service account token": (made["status"]["token"], None),
        }
        # by turns, for the machine is not the same from one second to the next; what a request costs is told by the
        # server's own processor time, for the load shares the machine
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, (token, pair) in kinds.items():
                found[name].append(_load(server, token, pair, seconds))
        for name, measured in found.items():
            spent = statistics.median(cost for _, cost in measured)
            pairs = zip(measured, found["anonymous"], strict=True)
            more = statistics.median(cost / of_anonymous - 1 for (_, cost), (_, of_anonymous) in pairs)
            note = f"{spent:.0f} µs of processor time" + (f", {more * 100:+.0f}%" if name != "anonymous" else "")
            rate = statistics.median(rate for rate, _ in measured)
            yield Figure(f"GET /version, {name}", rate, "requests/s", note=note)


def _load(server: Process, token: str, pair: tuple[str, str] | None, seconds: float) -> tuple[float, float]:
    """Requests a second, and the server's processor time for each in microseconds."""
    arguments = [server.url, str(server.ca), str(seconds), token, *(pair or ("", ""))]
    command = [sys.executable, "-m", "bench.authentication", *arguments]
    before = server.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rate, answered = (float(word) for word in done.stdout.split())
    return rate, (server.cpu_seconds() - before) / answered * 1e6


async def _client(url: str, ca: str, seconds: float, token: str, certificate: str, key: str) -> str:
    """Requests a second, and how many there were."""
    from bench.client import connection

    context = ssl.create_default_context(cafile=ca)
    if certificate:
        context.load_cert_chain(certificate, key)
    host = url.removeprefix("https://")
    head = f"GET /version HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1\r\nAccept: application/json\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    start = time.monotonic()
    waits = await asyncio.gather(
        *(connection(f"{url}/version", context, head, "", start + seconds, number) for number in range(16))
    )
    answered = sum(map(len, waits))
    return f"{answered / (time.monotonic() - start)} {answered}"


if __name__ == "__main__":
    import uvloop

    place, authority, duration, *rest = sys.argv[1:7]
    print(uvloop.run(_client(place, authority, float(duration), *rest)))
