"""What the tests of this room stand on: a clock that is set by hand, objects in a dict, certificates and tokens."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kubegate.authentication import Authenticated, AuthenticationError, Headers, Request
from kubegate.authentication.build import AuthenticationOptions, BuiltAuthentication, Dependencies, build
from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Authority, Subject

START = 1_800_000_000.0
ISSUER = "https://kubernetes.default.svc"


class HandClock:
    """Time stands still until somebody moves it; sleepers wait for that."""

    def __init__(self) -> None:
        self.time = START
        self.slept: list[float] = []
        self._moved = asyncio.Event()

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until = self.time + seconds
        while self.time < until:
            self._moved.clear()
            await self._moved.wait()

    def move(self, seconds: float) -> None:
        self.time += seconds
        self._moved.set()


@dataclass
class Objects:
    """A storage.Reader over a dict."""

    found: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    looked_up: int = 0

    def add(self, resource: str, namespace: str, name: str, uid: str = "u", **more: Any) -> dict[str, Any]:
        obj = {"metadata": {"namespace": namespace, "name": name, "uid": uid, **more.pop("metadata", {})}, **more}
        self.found[(resource, namespace, name)] = obj
        return obj

    def remove(self, resource: str, namespace: str, name: str) -> None:
        del self.found[(resource, namespace, name)]

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        self.looked_up += 1
        return self.found.get((resource, namespace, name))

    def list(self, resource: str, namespace: str = "") -> Sequence[dict[str, Any]]:
        return [o for (r, n, _), o in self.found.items() if r == resource and namespace in ("", n)]

    def subscribe(self, resource: str, on_event: Any) -> Any:
        raise NotImplementedError


def secret(**data: str) -> dict[str, str]:
    return {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}


def when(clock: HandClock) -> datetime:
    return datetime.fromtimestamp(clock.time, UTC)


def authority(name: str = "kubernetes", **more: Any) -> Authority:
    return certificates.new_authority(name, now=datetime.fromtimestamp(START - 86400, UTC), **more)


def client(
    of: Authority,
    name: str = "jane",
    *groups: str,
    uid: str = "",
    start: float = -3600.0,
    days: float = 30,
    **more: Any,
) -> bytes:
    """A client certificate as DER."""
    moment = datetime.fromtimestamp(START + start, UTC)
    key = keys.generate()
    made = certificates.issue(of, key.public_key(), Subject(name, groups, uid), now=moment, days=days, **more)
    return certificates.der(made)


def bearer(token: str, path: str = "/api", **more: Any) -> Request:
    return Request("GET", path, Headers.of([("authorization", f"Bearer {token}")]), **more)


@dataclass
class World:
    """A built server side of authentication, with everything it stands on."""

    directory: Path
    clock: HandClock = field(default_factory=HandClock)
    objects: Objects = field(default_factory=Objects)
    built: BuiltAuthentication = field(init=False)
    marked: list[tuple[str, str, str]] = field(default_factory=list)

    async def start(self, *, good_authorities: Sequence[str] = (), **options: Any) -> World:
        async def mark(namespace: str, name: str, date: str) -> None:
            self.marked.append((namespace, name, date))

        good = frozenset(map(Path, good_authorities))
        dependencies = Dependencies(self.objects, self.clock, mark_token_used=mark, good_authorities=good)
        self.built = await build(AuthenticationOptions(**options), dependencies)
        return self

    def write(self, name: str, content: str | bytes) -> str:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    async def with_service_accounts(self, **options: Any) -> World:
        private = keys.generate()
        return await self.start(
            service_account_issuer=(ISSUER,),
            service_account_signing_key_file=self.write("sa.key", keys.private_pem(private)),
            **options,
        )

    async def ask(self, request: Request) -> Authenticated | None:
        return await self.built.authenticator.authenticate(request)

    async def who(self, request: Request) -> str:
        """The user's name, or why there is none."""
        try:
            found = await self.ask(request)
        except AuthenticationError as error:
            return f"refused: {error}"
        return found.user.name if found is not None else "nobody"


def unsigned(claims: Mapping[str, Any], header: Mapping[str, Any] | None = None, signature: bytes = b"") -> str:
    """A token whose signature is whatever is given."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    head = json.dumps(header or {"alg": "none"}).encode()
    return ".".join((part(head), part(json.dumps(claims).encode()), part(signature)))


DAY = timedelta(days=1)
