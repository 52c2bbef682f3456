"""Issuers that answer wrongly, slowly, or for somebody else: no token comes of it."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import orjson
import pytest

from kubegate.tokens.credential import TokenError
from kubegate.tokens.oidc import OidcClient, Settings, Terminal, obtain
from kubegate.tokens.store import Kept

sys.path.append(str(Path(__file__).parent.parent / "remote"))

from remote_server import Serve, Server, reply, serve  # noqa: F401

NOW = 1_800_000_000.0
CLIENT = "kubegate-cli"


class QuickClock:
    """Sleeping takes no time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return NOW + sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@dataclass
class Issuer:
    """`claims` and `metadata` change what it says; `answers` are given by the token endpoint before any token."""

    server: Server = field(init=False)
    clock: QuickClock = field(default_factory=QuickClock)
    claims: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    page: dict[str, str] = field(default_factory=dict)
    back: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    client: OidcClient = field(init=False)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.port}"

    async def answer(self, head: str, body: bytes) -> bytes | None:
        path = head.split(" ", 2)[1]
        if path == "/.well-known/openid-configuration":
            places = {f"{name}_endpoint": f"{self.url}/{name}" for name in ("authorization", "token")}
            places["device_authorization_endpoint"] = f"{self.url}/device"
            return reply(orjson.dumps({"issuer": self.url} | places | self.metadata))
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.asked.append(form)
        self.heads.append(head.lower())
        if path == "/device":
            given = {"device_code": "d", "user_code": "ABCD\x1b[2J", "verification_uri": "https://x", "interval": 3}
            return reply(orjson.dumps(given))
        if self.answers:
            return reply(orjson.dumps(self.answers.pop(0)), "400 Bad Request")
        return reply(orjson.dumps({"id_token": self.token(), "refresh_token": "r2"}))

    def token(self) -> str:
        claims = {"iss": self.url, "aud": CLIENT, "exp": NOW + 600, "nonce": self.page.get("nonce")} | self.claims
        found = {name: value for name, value in claims.items() if value is not None}
        return f"e30.{base64.urlsafe_b64encode(orjson.dumps(found)).decode().rstrip('=')}.c2ln"

    async def show(self, page: str) -> bool:
        """The browser: it comes straight back with a code."""
        self.page = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
        query = {"code": "c", "state": self.page["state"]} | self.back
        place = f"{self.page['redirect_uri']}?{urlencode(query)}"
        async with aiohttp.ClientSession() as session, session.get(place) as answer:
            await answer.read()
        return True

    async def sign_in(self, method: str = "browser", kept: Kept = Kept()) -> Kept:  # noqa: B008
        return await obtain(self.client, kept, Terminal(self.show, self.said.append), method=method)


Make = Callable[..., Any]


@pytest.fixture
async def make(serve: Serve) -> AsyncIterator[Make]:  # noqa: F811
    made: list[OidcClient] = []

    async def create(**settings: Any) -> Issuer:
        issuer = Issuer()
        issuer.server = await serve(issuer.answer)
        given = Settings(issuer.url, CLIENT, authority=issuer.server.authority.pem, sign_in_seconds=60, **settings)
        issuer.client = OidcClient(given, issuer.clock)
        made.append(issuer.client)
        return issuer

    yield create
    for client in made:
        await client.close()


async def test_the_code_goes_back_with_the_verifier_of_its_challenge(make: Make) -> None:
    issuer = await make(scopes=("groups",), parameters=(("domain_hint", "example"),))
    issuer.metadata = {"scopes_supported": ["openid", "offline_access"]}
    kept = await issuer.sign_in()
    assert (kept.credential.expires, kept.refresh) == (NOW + 600, "r2")
    [exchange] = issuer.asked
    digest = hashlib.sha256(exchange["code_verifier"].encode()).digest()
    assert issuer.page["code_challenge"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert issuer.page["code_challenge_method"] == "S256"
    assert issuer.page["scope"] == "openid groups offline_access"
    assert (issuer.page["prompt"], issuer.page["domain_hint"]) == ("consent", "example")
    assert exchange["redirect_uri"] == issuer.page["redirect_uri"]


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"nonce": "other"}, "not of this sign-in"),
        ({"nonce": None}, "not of this sign-in"),
        ({"iss": "https://evil.example"}, "of another issuer"),
        ({"aud": "another"}, "for another client"),
        ({"aud": ["a", "b"]}, "for another client"),
        ({"aud": None}, "for another client"),
        ({"exp": NOW - 61}, "has ended already"),
        ({"exp": None}, "has ended already"),
    ],
)
async def test_an_id_token_that_is_not_for_this_sign_in_is_refused(
    make: Make, claims: dict[str, Any], problem: str
) -> None:
    issuer = await make()
    issuer.claims = claims
    with pytest.raises(TokenError, match=problem):
        await issuer.sign_in()


@pytest.mark.parametrize(
    ("back", "problem"),
    [
        ({"iss": "https://evil.example"}, "from another issuer"),
        ({"error": "access_denied", "error_description": "no\x1b[2J"}, r"refused: access_denied: no\?\[2J"),
        ({"code": ""}, "no code came back"),
    ],
)
async def test_a_browser_that_comes_back_without_a_code_of_the_issuer(
    make: Make, back: dict[str, str], problem: str
) -> None:
    issuer = await make()
    issuer.back = back
    with pytest.raises(TokenError, match=problem):
        await issuer.sign_in()
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"issuer": "https://evil.example"}, "is of the issuer"),
        ({"token_endpoint": "http://127.0.0.1/token"}, "no token_endpoint with https"),
        ({"authorization_endpoint": "file:///etc/passwd"}, "no authorization_endpoint with https"),
    ],
)
async def test_metadata_that_leads_elsewhere(make: Make, metadata: dict[str, Any], problem: str) -> None:
    issuer = await make()
    issuer.metadata = metadata
    with pytest.raises(TokenError, match=problem):
        await issuer.sign_in()


async def test_a_device_is_asked_about_as_often_as_the_issuer_bears(make: Make) -> None:
    issuer = await make()
    issuer.answers = [{"error": "authorization_pending"}, {"error": "slow_down"}, {"error": "authorization_pending"}]
    assert (await issuer.sign_in("device")).refresh == "r2"
    assert issuer.clock.slept == [3.0, 3.0, 8.0, 8.0]
    assert issuer.said == ["Sign in at https://x with the code ABCD?[2J"]


async def test_a_device_whose_code_ends_or_is_refused(make: Make) -> None:
    issuer = await make()
    issuer.answers = [{"error": "authorization_pending"}] * 100
    with pytest.raises(TokenError, match="nobody has signed in"):
        await issuer.sign_in("device")
    assert sum(issuer.clock.slept) <= 60
    issuer.answers = [{"error": "access_denied"}]
    with pytest.raises(TokenError, match="refused: access_denied"):
        await issuer.sign_in("device")


async def test_an_outage_while_refreshing_asks_nobody_to_sign_in_and_keeps_the_token(make: Make) -> None:
    issuer = await make()
    issuer.answers = [{"error": "temporarily_unavailable"}]
    with pytest.raises(TokenError, match="temporarily_unavailable"):
        await issuer.sign_in(kept=Kept(None, "r1"))
    assert issuer.page == {}
    # without a new one the old refresh token stays good
    assert (await issuer.sign_in(kept=Kept(None, "r1"))).refresh == "r2"
    assert [form["refresh_token"] for form in issuer.asked] == ["r1", "r1"]


async def test_a_secret_goes_as_the_issuer_wants_it(make: Make) -> None:
    issuer = await make(client_secret="s/3 cret")
    await issuer.sign_in("device")
    basic = base64.b64encode(b"kubegate-cli:s%2F3%20cret").decode().lower()
    assert all(f"authorization: basic {basic}" in head for head in issuer.heads)
    other = await make(client_secret="s3cret")
    other.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    await other.sign_in("device")
    assert all(form["client_secret"] == "s3cret" for form in other.asked)
