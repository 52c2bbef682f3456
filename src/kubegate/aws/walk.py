"""The way of a pod to its role, step by step: which step fails, and why.

The token, its audience, the issuer's discovery document, its keys, the role's trust policy, STS. Whether a key made the
signature is for the caller to say (`Verify`): this room knows no tokens but AWS's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

import orjson

from kubegate.api.clock import Clock
from kubegate.aws.arn import BadArn, identity
from kubegate.aws.trust import AUDIENCE, NotTrusted, check
from kubegate.remote.client import Client, Endpoint, RemoteError, Response

_DISCOVERY = "/.well-known/openid-configuration"
_MAX = 256 * 1024

Verify = Callable[[str, Any], bool]
"""Whether a key of this JWKS document made the token's signature. Raises ValueError for what is no key set."""


class StepFailed(Exception):
    """A step that does not hold; the text says why and what would be right."""

    def __init__(self, step: str, problem: str) -> None:
        super().__init__(f"{step}: {problem}")
        self.step, self.problem = step, problem


@dataclass(frozen=True, slots=True)
class Way:
    """What a pod has, and what is known besides. `trust_policy` None and `sts_url` "" leave these steps out.

    `claims` are the token's, verified by nobody. `authority` is PEM for issuer and STS (None: the system's).
    """

    token: str
    claims: Mapping[str, Any]
    role: str
    audience: str = AUDIENCE
    trust_policy: Mapping[str, Any] | None = None
    sts_url: str = ""
    authority: bytes | None = None
    timeout: float = 10.0


async def steps(way: Way, verify: Verify, clock: Clock) -> AsyncIterator[tuple[str, str]]:
    """Each step that holds, and what was found. Raises StepFailed at the first that does not."""
    try:
        if identity(way.role).kind != "role":
            raise BadArn(f"{way.role} is no role")
    except BadArn as error:
        raise StepFailed("role", str(error)) from None
    yield "role", way.role
    yield "token", _token(way.claims, clock.now())
    audiences = way.claims.get("aud")
    audiences = audiences if isinstance(audiences, list) else [audiences]
    if way.audience not in audiences:
        has = ", ".join(map(str, audiences))
        raise StepFailed("audience", f"the token is for {has}; {way.audience} is right: the volume's audience")
    yield "audience", way.audience
    issuer = str(way.claims.get("iss"))
    document, keys = await _discovered(way, issuer)
    yield "issuer discovery", f"{issuer.rstrip('/')}{_DISCOVERY} names {document['jwks_uri']}"
    yield "keys", _signed(way, keys, verify)
    if way.trust_policy is not None:
        try:
            check(way.trust_policy, way.claims, way.role)
        except NotTrusted as error:
            raise StepFailed("trust policy", str(error)) from None
        yield "trust policy", f"trusts {way.claims.get('sub')}"
    if way.sts_url:
        yield "STS", await _assumed(way)


def _token(claims: Mapping[str, Any], now: float) -> str:
    subject, issuer, end = claims.get("sub"), claims.get("iss"), claims.get("exp")
    if not isinstance(subject, str) or not isinstance(issuer, str) or not isinstance(end, int | float):
        raise StepFailed("token", "it is no service account's token: a JWT with iss, sub and exp")
    if end <= now:
        raise StepFailed("token", f"it ended {now - end:.0f} s ago; the kubelet writes a new one in time")
    return f"of {subject}, good for {end - now:.0f} s more"


async def _discovered(way: Way, issuer: str) -> tuple[dict[str, Any], Any]:
    """The discovery document and the key set. Raises StepFailed."""
    if urlsplit(issuer).scheme != "https" or urlsplit(issuer).query:
        raise StepFailed(
            "issuer discovery", f"{issuer}: AWS takes issuers of https:// alone (--service-account-issuer)"
        )
    document = await _document(way, "issuer discovery", issuer.rstrip("/") + _DISCOVERY)
    if document.get("issuer") != issuer:
        raise StepFailed("issuer discovery", f"the document is of {document.get('issuer')}; the token of {issuer}")
    place = document.get("jwks_uri")
    if not isinstance(place, str) or urlsplit(place).scheme != "https":
        raise StepFailed("issuer discovery", f"jwks_uri is {place}; an https:// address is right")
    return document, await _document(way, "keys", place)


async def _document(way: Way, step: str, url: str) -> dict[str, Any]:
    answer = await _get(way, step, url)
    if answer.status != 200:
        raise StepFailed(step, f"{url} answers {answer.status}; everybody must be able to read it")
    try:
        found = orjson.loads(answer.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StepFailed(step, f"{url} is no JSON object")
    return found


def _signed(way: Way, keys: Any, verify: Verify) -> str:
    try:
        good = verify(way.token, keys)
    except ValueError as error:
        raise StepFailed("keys", str(error)) from None
    if not good:
        raise StepFailed("keys", "no key that the issuer publishes made the token's signature")
    return f"{len(keys.get('keys') or ())} published, and one of them made the signature"


async def _assumed(way: Way) -> str:
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": way.role,
        "RoleSessionName": "kubegate-whoami",
        "WebIdentityToken": way.token,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await _get(way, "STS", way.sts_url, urlencode(form).encode(), headers)
    code, message = _texts(answer.body, "Code", "Message")
    if answer.status != 200:
        raise StepFailed("STS", f"it answered {answer.status} {code}: {message}".rstrip(": "))
    (arn,) = _texts(answer.body, "Arn")
    return f"{arn or 'a session'} for this token"


def _texts(body: bytes, *names: str) -> tuple[str, ...]:
    """The first text of each element of an XML answer, whatever its namespace."""
    try:
        root = ElementTree.fromstring(body) if b"<!" not in body else ElementTree.Element("none")
    except ElementTree.ParseError:
        root = ElementTree.Element("none")
    found = {element.tag.rpartition("}")[2]: (element.text or "").strip() for element in reversed(list(root.iter()))}
    return tuple(found.get(name, "") for name in names)


async def _get(
    way: Way, step: str, url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """GET, or POST where there is something to send. Raises StepFailed, which holds nothing of the token."""
    client: Client | None = None
    try:
        client = Client(Endpoint(url, authority=way.authority, max_response=_MAX))
        method = "GET" if data is None else "POST"
        return await client.request(method, url, data=data, within=way.timeout, headers=headers or {}, replay=False)
    except (RemoteError, ValueError) as error:
        raise StepFailed(step, str(error)) from None
    finally:
        if client is not None:
            await client.close()
