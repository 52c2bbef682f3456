"""JWTs of OpenID Connect issuers: keys by discovery, and users made of claims as the configuration says.

An issuer may be down when the server starts, may change its keys, and may hang: its tokens are refused until it has
answered, keys are fetched again when a token names an unknown one (not too often), and all calls are bounded.
Follows k8s.io/apiserver/plugin/pkg/authenticator/token/oidc, with go-oidc's view of times.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Mapping, Sequence
from http.client import responses
from typing import TYPE_CHECKING, Any

import orjson

from kubegate.api.clock import Clock
from kubegate.api.codec import json_type
from kubegate.api.field import quoted
from kubegate.authentication import (
    CREDENTIAL_ID,
    Authenticated,
    AuthenticationError,
    UserInfo,
    idtoken,
    jose,
    with_authenticated,
)
from kubegate.authentication.config import ClaimRule, Issuer, JwtAuthenticator, Mapped, UserRule
from kubegate.authentication.secrets import BoundedCache, Digest
from kubegate.authentication.union import AuthenticationErrors
from kubegate.remote.client import Client, Endpoint, RemoteError, Response

if TYPE_CHECKING:
    from kubegate.cel import Program

log = logging.getLogger("kubegate.authentication")

CALL_TIMEOUT = 10.0
RETRY_SECONDS = 10.0
MAX_DOCUMENT = 1024 * 1024
_LARGEST = 10**308
_REMEMBERED = 20_000
_REMEMBERED_SECONDS = 300.0
_REFRESH_BURST, _REFRESH_SECONDS = 5, 5.0


class JwtAuthenticators:
    """All configured issuers. `use` replaces the configuration; issuers that stay the same keep their keys."""

    name = "jwt"

    def __init__(self, clock: Clock, digest: Digest | None = None) -> None:
        self._clock = clock
        self._providers: dict[Issuer, Provider] = {}
        self._by_url: dict[str, list[_Authenticator]] = {}
        self._digest = digest or Digest()
        self._known: BoundedCache[Authenticated] = BoundedCache(_REMEMBERED)
        self._closing: set[asyncio.Task[None]] = set()

    def use(self, configured: Sequence[JwtAuthenticator]) -> None:
        """Put a configuration in force; called on the event loop."""
        wanted = {authenticator.issuer for authenticator in configured}
        for issuer in [issuer for issuer in self._providers if issuer not in wanted]:
            task = asyncio.ensure_future(self._providers.pop(issuer).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._by_url = {}
        for authenticator in configured:
            provider = self._providers.get(authenticator.issuer)
            if provider is None:
                provider = self._providers[authenticator.issuer] = Provider(authenticator.issuer, self._clock)
                provider.start()
            found = _Authenticator(authenticator, provider, self._clock)
            self._by_url.setdefault(authenticator.issuer.url, []).append(found)
        self._known.clear()

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        if not token.startswith("ey"):
            return None
        key, now = self._digest(token), self._clock.now()
        known = self._known.get(key, now)
        if known is not None:
            return known
        try:
            parsed = jose.parse(token)
        except jose.BadToken:
            self._malformed(token)
            return None
        issuer = parsed.claims.get("iss")
        found = self._by_url.get(issuer, []) if isinstance(issuer, str) else []
        errors: list[AuthenticationError] = []
        for authenticator in found:
            try:
                user = await authenticator.authenticate(parsed)
            except AuthenticationError as error:
                errors.append(error)
                continue
            expiry = parsed.claims["exp"]
            # the configuration may have been replaced while an issuer was asked
            if authenticator in self._by_url.get(str(issuer), []):
                self._known.put(key, user, min(float(expiry), now + _REMEMBERED_SECONDS))
            return user
        if errors:
            raise AuthenticationErrors(errors)
        return None

    def _malformed(self, token: str) -> None:
        """Raises AuthenticationError where what cannot be read as a whole says that it is of an issuer we know."""
        parts = token.split(".")
        issuer = jose.claimed_issuer(parts[1]) if len(parts) == 3 and len(token) <= jose.MAX_TOKEN else None
        found = self._by_url.get(issuer, []) if issuer else []
        wrong = next((text for text in map(jose.base64_error, parts) if text), "")
        if found and wrong:
            error = AuthenticationError(f"oidc: verify token: oidc: malformed jwt: {wrong}")
            raise AuthenticationErrors([error] * len(found))

    async def close(self) -> None:
        await asyncio.gather(*(provider.close() for provider in self._providers.values()), *self._closing)
        self._providers.clear()


class Provider:
    """One issuer's keys, by discovery. `start` begins to ask for them; it is `ready` when they are there."""

    def __init__(self, issuer: Issuer, clock: Clock) -> None:
        """Raises ValueError where the issuer's authority cannot be used."""
        self.issuer, self._clock = issuer, clock
        self._discovery = issuer.discovery_url or issuer.url.rstrip("/") + "/.well-known/openid-configuration"
        endpoint = Endpoint(self._discovery, authority=issuer.authority, in_flight=4, max_response=MAX_DOCUMENT)
        self._client = Client(endpoint)
        self.ready = False
        self._keys_url = ""
        self._keys: list[jose.VerificationKey] = []
        self._start: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._tokens, self._filled = float(_REFRESH_BURST), clock.monotonic()

    def start(self) -> None:
        self._start = asyncio.create_task(self._discover_until_found(), name=f"issuer-{self.issuer.url}")

    async def verify(self, token: jose.Token, algorithms: frozenset[str]) -> bool:
        """Whether one of the issuer's keys made the signature; the keys are fetched again where none of them did."""
        if self._matches(token, algorithms):
            return True
        if token.algorithm not in algorithms:
            return False
        await self._refresh()
        return self._matches(token, algorithms)

    def _matches(self, token: jose.Token, algorithms: frozenset[str]) -> bool:
        named = token.key_id
        candidates = [key for key in self._keys if not named or key.key_id == named]
        return jose.verify(token, candidates, algorithms)

    async def _refresh(self) -> None:
        """Fetch the keys, once for all that wait for them, and no more often than the issuer can bear."""
        if self._refreshing is None:
            now = self._clock.monotonic()
            self._tokens = min(_REFRESH_BURST, self._tokens + (now - self._filled) / _REFRESH_SECONDS)
            self._filled = now
            if self._tokens < 1:
                return
            self._tokens -= 1
            self._refreshing = asyncio.create_task(self._fetch_keys())
            self._refreshing.add_done_callback(self._refreshed)
        with contextlib.suppress(RemoteError, ValueError):
            await asyncio.shield(self._refreshing)

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not task.cancelled() and task.exception() is not None:
            log.error("keys of issuer %s could not be fetched: %s", self.issuer.url, task.exception())

    async def _discover_until_found(self) -> None:
        while True:
            try:
                await self._discover()
                await self._fetch_keys()
            except (RemoteError, ValueError) as error:
                log.error("issuer %s is not ready: %s", self.issuer.url, error)
                await self._clock.sleep(RETRY_SECONDS)
            else:
                self.ready = True
                log.info("issuer %s has answered; its tokens are taken", self.issuer.url)
                return

    async def _discover(self) -> None:
        document = _json(await self._client.get(within=CALL_TIMEOUT))
        named = document.get("issuer")
        if named != self.issuer.url:
            text = "oidc: issuer did not match the issuer returned by provider"
            raise ValueError(f'{text}, expected "{self.issuer.url}" got "{named}"')
        keys_url = document.get("jwks_uri")
        if not isinstance(keys_url, str) or not keys_url.startswith("https://"):
            raise ValueError("oidc: the provider's configuration has no jwks_uri with https")
        self._keys_url = keys_url

    async def _fetch_keys(self) -> None:
        try:
            self._keys = jose.key_set(_json(await self._client.get(self._keys_url, within=CALL_TIMEOUT)))
        except jose.BadToken as error:
            raise ValueError(f"oidc: {error}") from None

    async def claims_from(self, url: str, access_token: str) -> str:
        """The token in which a distributed claim is kept. Raises RemoteError, ValueError."""
        headers = {"Authorization": f"Bearer {access_token}"} if access_token else {}
        response = await self._client.get(url, within=CALL_TIMEOUT, headers=headers)
        if not 200 <= response.status <= 226:
            text = f"error while getting distributed claim JWT: {response.status} {responses.get(response.status, '')}"
            raise ValueError(text)
        return response.body.decode("ascii", "replace")

    async def close(self) -> None:
        tasks = [task for task in (self._start, self._refreshing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()


def _json(response: Response) -> dict[str, Any]:
    """Raises ValueError for another status than 200, or a body that is no JSON object."""
    if response.status != 200:
        raise ValueError(f"oidc: the provider answered with status {response.status}")
    try:
        found = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        raise ValueError("oidc: the provider's answer is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("oidc: the provider's answer is no JSON object")
    return found


class _Authenticator:
    """One entry of the configuration: checks a token's claims and makes a user of them."""

    def __init__(self, configured: JwtAuthenticator, provider: Provider, clock: Clock) -> None:
        self._configured, self._provider, self._clock = configured, provider, clock

    async def authenticate(self, token: jose.Token) -> Authenticated:
        """Raises AuthenticationError."""
        configured, claims = self._configured, token.claims
        if not self._provider.ready:
            raise AuthenticationError("oidc: authenticator not initialized")
        try:
            checked = await self._verified(token)
        except AuthenticationError as error:
            raise AuthenticationError(f"oidc: verify token: {error}") from None
        claims = await self._with_distributed(claims, checked)
        # Go reads the numbers of claims as floating ones.
        measured = _measured(claims)
        user = UserInfo(
            _username(configured.username, measured),
            _uid(configured.uid, measured),
            _groups(configured.groups, measured),
            self._extra(measured),
        )
        for rule in configured.claim_rules:
            _check_claim_rule(rule, measured)
        for user_rule in configured.user_rules:
            _check_user_rule(user_rule, user)
        with_standing = UserInfo(user.name, user.uid, with_authenticated(user.name, user.groups), user.extra)
        return Authenticated(with_standing, "jwt")

    async def _verified(self, token: jose.Token) -> idtoken.IdToken:
        """What a token of this issuer says of itself, its signature checked. Raises AuthenticationError.

        One audience is asked for before all else; which of several it is, last.
        """
        audiences, algorithms = self._configured.issuer.audiences, self._configured.algorithms
        checked = idtoken.read(token.claims)
        if len(audiences) == 1:
            idtoken.check_audience(checked, audiences)
        idtoken.check_times(checked, self._clock.now())
        idtoken.check_algorithm(token.algorithm, algorithms)
        if not await self._provider.verify(token, algorithms):
            raise AuthenticationError("failed to verify signature: failed to verify id token signature")
        idtoken.check_audience(checked, audiences)
        return checked

    async def _with_distributed(self, claims: Mapping[str, Any], token: idtoken.IdToken) -> Mapping[str, Any]:
        """The claims, with the groups fetched where the token says that they are kept elsewhere.

        What is fetched is a token, too, and must be of the same issuer. Raises AuthenticationError.
        """
        claim = self._configured.groups.claim
        source = token.distributed.get(claim) if claim and claim not in claims else None
        if source is None or not source.url:
            return claims
        try:
            value = await self._fetch(claim, source)
        except (AuthenticationError, RemoteError, ValueError, jose.BadToken) as error:
            raise AuthenticationError(f"oidc: could not expand distributed claims: {error}") from None
        return {**claims, claim: value}

    async def _fetch(self, claim: str, source: idtoken.Source) -> Any:
        """The value of a claim in the token that its source gives."""
        try:
            text = await self._provider.claims_from(source.url, source.access_token)
        except (RemoteError, ValueError) as error:
            raise AuthenticationError(f"while getting distributed claim {quoted(claim)}: {error}") from None
        try:
            token = jose.parse(text)
        except jose.BadToken:
            told = f"getting untrusted issuer from endpoint {source.url} failed for claim {quoted(claim)}"
            raise AuthenticationError(f"{told}: malformed token") from None
        issuer = str(token.claims.get("iss", ""))
        if issuer != self._configured.issuer.url:
            told = f"verifier not initialized for issuer: {quoted(issuer)}"
            raise AuthenticationError(f"verifying untrusted issuer {issuer} failed: {told}")
        try:
            await self._verified(token)
        except AuthenticationError as error:
            raise AuthenticationError(f"verify distributed claim token: {error}") from None
        if claim not in token.claims:
            told = f"jwt returned by distributed claim endpoint {quoted(source.url)} did not contain claim: {claim}"
            raise AuthenticationError(told)
        return token.claims[claim]

    def _extra(self, claims: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        token_id = claims.get("jti")
        if isinstance(token_id, str) and token_id:
            found[CREDENTIAL_ID] = (f"JTI={token_id}",)
        for key, program in self._configured.extra:
            try:
                values = _texts(_value_of(program, "claims", claims))
            except _NoTexts as error:
                text = f"oidc: error evaluating extra claim expression: {program.expression}: {error}"
                raise AuthenticationError(text) from None
            if values:
                found[key] = values
        return found


# ---------------------------------------------------------------------- claims
def _username(mapped: Mapped, claims: Mapping[str, Any]) -> str:
    if mapped.expression is not None:
        name = _evaluate(mapped.expression, "claims", claims, "username claim")
        if not isinstance(name, str):
            raise AuthenticationError(
                "oidc: error evaluating username claim expression: username claim expression must return a string"
            )
        if not name:
            raise AuthenticationError("oidc: empty username via CEL expression is not allowed")
        return name
    try:
        name = idtoken.text(_claim(claims, mapped.claim))
    except AuthenticationError as error:
        raise AuthenticationError(f"oidc: parse username claims {quoted(mapped.claim)}: {error}") from None
    if mapped.claim == "email" and "email_verified" in claims:
        verified = claims["email_verified"]
        if verified is not None and not isinstance(verified, bool):
            told = f"json: cannot unmarshal {json_type(verified)} into Go value of type bool"
            raise AuthenticationError(f"oidc: parse 'email_verified' claim: {told}")
        if not verified:
            raise AuthenticationError("oidc: email not verified")
    return mapped.prefix + name


def _uid(mapped: Mapped, claims: Mapping[str, Any]) -> str:
    if mapped.expression is not None:
        uid = _evaluate(mapped.expression, "claims", claims, "uid claim")
        if not isinstance(uid, str):
            raise AuthenticationError(
                "oidc: error evaluating uid claim expression: uid claim expression must return a string"
            )
        return uid
    if not mapped.claim:
        return ""
    try:
        return idtoken.text(_claim(claims, mapped.claim))
    except AuthenticationError as error:
        raise AuthenticationError(f"oidc: parse uid claim {quoted(mapped.claim)}: {error}") from None


def _groups(mapped: Mapped, claims: Mapping[str, Any]) -> tuple[str, ...]:
    """A text or a list of texts; a claim that is not there gives none."""
    if mapped.expression is not None:
        try:
            return _texts(_evaluate(mapped.expression, "claims", claims, "group claim"))
        except _NoTexts as error:
            raise AuthenticationError(f"oidc: error evaluating group claim expression: {error}") from None
    if not mapped.claim or mapped.claim not in claims:
        return ()
    try:
        groups = idtoken.texts(claims[mapped.claim])
    except idtoken.BadClaim as error:
        raise AuthenticationError(f"oidc: parse groups claim {quoted(mapped.claim)}: {error}") from None
    return tuple(mapped.prefix + group for group in groups)


def _check_claim_rule(rule: ClaimRule, claims: Mapping[str, Any]) -> None:
    if rule.expression is not None:
        if _evaluate(rule.expression, "claims", claims, "claim validation") is not True:
            why = _failed(rule.expression, rule.message)
            raise AuthenticationError(f"oidc: error evaluating claim validation expression: {why}")
        return
    if rule.claim not in claims:
        raise AuthenticationError(f"oidc: required claim {rule.claim} not present in ID token")
    try:
        value = idtoken.text(claims[rule.claim])
    except idtoken.BadClaim as error:
        raise AuthenticationError(f"oidc: parse claim {rule.claim}: {error}") from None
    if value != rule.required_value:
        got = f"Got = {value}, want = {rule.required_value}"
        raise AuthenticationError(f"oidc: required claim {rule.claim} value does not match. {got}")


def _check_user_rule(rule: UserRule, user: UserInfo) -> None:
    values = {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(texts) for key, texts in user.extra.items()},
    }
    if _evaluate(rule.expression, "user", values, "user info validation") is not True:
        why = _failed(rule.expression, rule.message)
        raise AuthenticationError(f"oidc: error evaluating user info validation rule: {why}")


def _failed(program: Program, message: str) -> str:
    return f"validation expression '{program.expression}' failed: {message}"


def _evaluate(program: Program, variable: str, value: Any, what: str) -> Any:
    try:
        return _value_of(program, variable, value)
    except AuthenticationError as error:
        raise AuthenticationError(f"oidc: error evaluating {what} expression: {error}") from None


def _value_of(program: Program, variable: str, value: Any) -> Any:
    from kubegate.cel import EvaluationError

    try:
        return program.evaluate({variable: value})
    except EvaluationError as error:
        raise AuthenticationError(f"expression '{program.expression}' resulted in error: {error}") from None


def _measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _measured(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_measured(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < _LARGEST else math.inf
    return value


class _NoTexts(Exception):
    """An expression gave something else than a text or a list of them."""

    def __init__(self) -> None:
        super().__init__("expression must return a string or a list of strings")


def _texts(value: Any) -> tuple[str, ...]:
    """A text or a list of texts, empty ones and null left out. Raises _NoTexts."""
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not all(isinstance(text, str) for text in values):
        raise _NoTexts
    return tuple(text for text in values if text)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Raises AuthenticationError where there is no such claim."""
    if name not in claims:
        raise AuthenticationError("claim not present")
    return claims[name]
