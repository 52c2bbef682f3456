"""ID tokens of an OpenID Connect issuer, for people: by the browser, by a device code, or by a refresh token.

The browser's way is the authorization code flow with PKCE (RFC 7636) and a page on the loopback address (RFC 8252);
the device's is RFC 8628. Both are for clients that can keep no secret, and take one where the issuer wants it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from kubegate.api.clock import Clock
from kubegate.remote.client import Client, Endpoint, RemoteError, Response
from kubegate.tokens import loopback
from kubegate.tokens.credential import TokenError, checked, jwt_claims
from kubegate.tokens.store import Kept

CALL_SECONDS = 30.0
SIGN_IN_SECONDS = 300.0
_MAX_ANSWER = 1024 * 1024
_CLOCK_LEEWAY = 60.0
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_DEVICE_PAUSE = 5.0
_BROWSER_SECONDS = 5.0
_OPEN = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"

METHODS = ("auto", "browser", "device")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to sign in, and as which client. `scopes` are asked for beside openid.

    `authority` is PEM (None: the system's authorities). `redirect_port` 0 takes a free port: issuers let the port of a
    loopback address vary. `parameters` go along with the request to sign in (as `audience`, or `domain_hint`).
    """

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ()
    authority: bytes | None = None
    redirect_port: int = 0
    parameters: tuple[tuple[str, str], ...] = ()
    sign_in_seconds: float = SIGN_IN_SECONDS

    @property
    def key(self) -> tuple[str, ...]:
        """What tells its tokens from those of others."""
        return (
            self.issuer,
            self.client_id,
            *sorted(self.scopes),
            *(f"{name}={value}" for name, value in self.parameters),
        )


@dataclass(frozen=True, slots=True)
class Terminal:
    """How to reach the user: `show` a page in a browser (false: there is none), `say` something on stderr."""

    show: Callable[[str], Awaitable[bool]]
    say: Callable[[str], None]


class OidcClient:
    """One issuer. Close it when done."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Raises TokenError."""
        if urlsplit(settings.issuer).scheme != "https":
            raise TokenError(f"{settings.issuer}: an issuer's URL begins with https://")
        self._settings, self._clock = settings, clock
        try:
            self._client = Client(Endpoint(settings.issuer, authority=settings.authority, max_response=_MAX_ANSWER))
        except ValueError as error:
            raise TokenError(str(error)) from None
        self._metadata: Mapping[str, Any] = {}

    async def close(self) -> None:
        await self._client.close()

    async def refresh(self, token: str) -> Kept | None:
        """New tokens by a refresh token; None where the issuer takes it no more. Raises TokenError."""
        await self._discover()
        answer, problem = await self._post("token_endpoint", {"grant_type": "refresh_token", "refresh_token": token})
        if problem in ("invalid_grant", "unauthorized_client", "unsupported_grant_type"):
            return None
        if problem:
            raise self._refusal(problem, answer)
        if "id_token" not in answer:
            # an issuer need not send one along (OpenID Connect Core, section 12.2)
            return None
        return self._kept(answer, nonce="", before=token)

    async def sign_in(self, terminal: Terminal, method: str = "auto") -> Kept:
        """Let the user sign in: in a browser of this machine, or by a code on any other. Raises TokenError."""
        await self._discover()
        if method == "device" or (method == "auto" and not self._offers("code")):
            return await self._by_device(terminal)
        return await self._by_browser(terminal, required=method == "browser")

    # ------------------------------------------------------------------ the browser
    async def _by_browser(self, terminal: Terminal, *, required: bool) -> Kept:
        settings = self._settings
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        async with loopback.listening(state, settings.redirect_port) as redirect:
            query = {
                **dict(settings.parameters),
                **self._scope(),
                "response_type": "code",
                "client_id": settings.client_id,
                "redirect_uri": redirect.uri,
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
            if "offline_access" in query["scope"].split():
                query.setdefault("prompt", "consent")  # else it is ignored (OpenID Connect Core, section 11)
            place = self._url("authorization_endpoint")
            page = f"{place}{'&' if '?' in place else '?'}{urlencode(query)}"
            shown = await terminal.show(page)
            if not shown and not required and self._metadata.get("device_authorization_endpoint"):
                return await self._by_device(terminal)
            where = "on the page that has opened in your browser; if none has, " if shown else ""
            terminal.say(f"Sign in {where}at\n{page}")
            answer = await redirect.answer(settings.sign_in_seconds)
        if answer.issuer and answer.issuer != settings.issuer:
            raise TokenError(f"the answer came from another issuer than {settings.issuer}")
        if answer.error:
            raise TokenError(f"{settings.issuer} refused: {_plain(answer.error)}")
        form = {
            "grant_type": "authorization_code",
            "code": answer.code,
            "redirect_uri": redirect.uri,
            "code_verifier": verifier,
        }
        found, problem = await self._post("token_endpoint", form)
        if problem:
            raise self._refusal(problem, found)
        return self._kept(found, nonce=nonce)

    # ------------------------------------------------------------------ the device
    async def _by_device(self, terminal: Terminal) -> Kept:
        settings = self._settings
        form = {**dict(settings.parameters), **self._scope()}
        started, problem = await self._post("device_authorization_endpoint", form)
        if problem:
            raise self._refusal(problem, started)
        code, shown = started.get("device_code"), started.get("user_code")
        page = started.get("verification_uri")
        if not (isinstance(code, str) and isinstance(shown, str) and isinstance(page, str)):
            raise TokenError(f"{settings.issuer}: the device authorization's answer lacks a code or a page")
        terminal.say(f"Sign in at {_plain(page)} with the code {_plain(shown)}")
        pause = max(1.0, _seconds(started.get("interval"), _DEVICE_PAUSE))
        end = self._clock.monotonic() + min(_seconds(started.get("expires_in"), 600.0), settings.sign_in_seconds)
        while self._clock.monotonic() + pause < end:
            await self._clock.sleep(pause)
            found, problem = await self._post("token_endpoint", {"grant_type": _DEVICE_GRANT, "device_code": code})
            if not problem:
                return self._kept(found, nonce="")
            if problem == "slow_down":
                pause += _DEVICE_PAUSE
            elif problem != "authorization_pending":
                raise self._refusal(problem, found)
        raise TokenError("nobody has signed in before the code ended")

    # ------------------------------------------------------------------ what both share
    def _scope(self) -> dict[str, str]:
        wanted = dict.fromkeys(("openid", *self._settings.scopes))
        supported = self._metadata.get("scopes_supported")
        if isinstance(supported, list) and "offline_access" in supported:
            wanted["offline_access"] = None
        return {"scope": " ".join(wanted)}

    def _offers(self, response_type: str) -> bool:
        offered = self._metadata.get("response_types_supported")
        return bool(self._metadata.get("authorization_endpoint")) and (
            not isinstance(offered, list) or response_type in offered
        )

    def _kept(self, answer: Mapping[str, Any], *, nonce: str, before: str = "") -> Kept:
        """The tokens of an answer, the ID token checked as OpenID Connect Core 3.1.3.7 says. Raises TokenError.

        Its signature is left to the API server: it came straight from the issuer over TLS.
        """
        settings = self._settings
        found = checked(answer.get("id_token"), None, f"{settings.issuer}: id_token")
        claims = jwt_claims(found.token)
        if claims is None:
            raise TokenError(f"{settings.issuer}: the id_token is no JWT")
        audiences = claims.get("aud")
        if claims.get("iss") != settings.issuer:
            raise TokenError(f"{settings.issuer}: the id_token is of another issuer")
        if settings.client_id not in (audiences if isinstance(audiences, list) else [audiences]):
            raise TokenError(f"{settings.issuer}: the id_token is for another client than {settings.client_id}")
        if nonce and not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise TokenError(f"{settings.issuer}: the id_token is not of this sign-in")
        if found.expires is None or found.expires < self._clock.now() - _CLOCK_LEEWAY:
            raise TokenError(f"{settings.issuer}: the id_token has ended already; is this machine's clock right?")
        refresh = answer.get("refresh_token")
        return Kept(found, refresh if isinstance(refresh, str) and refresh else before)

    async def _discover(self) -> None:
        if self._metadata:
            return
        issuer = self._settings.issuer
        url = issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            answer = await self._client.get(url, within=CALL_SECONDS)
        except RemoteError as error:
            raise TokenError(str(error)) from None
        if answer.status != 200:
            raise TokenError(f"{url} answers with status {answer.status}")
        document = _object(answer, url)
        if document.get("issuer") != issuer:
            raise TokenError(f'{url} is of the issuer "{document.get("issuer")}", not "{issuer}"')
        self._metadata = document

    def _url(self, name: str) -> str:
        found = self._metadata.get(name)
        if not isinstance(found, str) or urlsplit(found).scheme != "https":
            raise TokenError(f"{self._settings.issuer} has no {name} with https")
        return found

    async def _post(self, name: str, form: Mapping[str, str]) -> tuple[Mapping[str, Any], str]:
        """POST a form to an endpoint; gives the answer, and its error ("" for none). Raises TokenError."""
        settings, url = self._settings, self._url(name)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        body = {**form, "client_id": settings.client_id}
        if settings.client_secret and self._basic():
            pair = f"{quote(settings.client_id, safe='')}:{quote(settings.client_secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        elif settings.client_secret:
            body["client_secret"] = settings.client_secret
        try:
            answer = await self._client.request(
                "POST", url, data=urlencode(body).encode(), within=CALL_SECONDS, headers=headers, replay=False
            )
        except RemoteError as error:
            raise TokenError(str(error)) from None
        found = _object(answer, url)
        problem = found.get("error")
        if problem is not None or answer.status >= 300:
            return found, str(problem or f"status {answer.status}")
        return found, ""

    def _basic(self) -> bool:
        """OpenID Connect Discovery: where the issuer does not say, client_secret_basic."""
        offered = self._metadata.get("token_endpoint_auth_methods_supported")
        return not isinstance(offered, list) or "client_secret_basic" in offered

    def _refusal(self, problem: str, answer: Mapping[str, Any]) -> TokenError:
        said = answer.get("error_description")
        text = f"{problem}: {said}" if isinstance(said, str) and said else problem
        return TokenError(f"{self._settings.issuer} refused: {_plain(text)}")


async def obtain(
    client: OidcClient, kept: Kept, terminal: Terminal, *, method: str = "auto", interactive: bool = True
) -> Kept:
    """New tokens: by the refresh token that is kept, else by signing in, where there may be somebody to do so.

    Raises TokenError.
    """
    if kept.refresh:
        found = await client.refresh(kept.refresh)
        if found is not None:
            return found
    if not interactive:
        raise TokenError("nobody can sign in here; run `kubegate token oidc` once in a terminal")
    return await client.sign_in(terminal, method)


async def show_in_browser(page: str, command: str = "") -> bool:
    """Open a page, by `command` (the page is its last argument) or the system's browser; false where there is none."""
    words = shlex.split(command) if command else [sys.executable, "-c", _OPEN]
    if not command and not has_browser():
        return False
    nowhere = asyncio.subprocess.DEVNULL
    try:
        # stdout is kubectl's: what a browser says must not get there
        process = await asyncio.create_subprocess_exec(*words, page, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    except OSError:
        return False
    try:
        return await asyncio.wait_for(process.wait(), _BROWSER_SECONDS) == 0
    except TimeoutError:
        return True  # it is the browser itself, and stays


def has_browser() -> bool:
    """Whether there is a screen to show one on."""
    named = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in named)


def _object(answer: Response, url: str) -> Mapping[str, Any]:
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise TokenError(f"{url} answers with status {answer.status} and no JSON object")
    return found


def _seconds(value: Any, otherwise: float) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if usable else otherwise


def _plain(text: str) -> str:
    """What others said, fit for a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)[:500]
