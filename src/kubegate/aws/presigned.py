"""Tokens `k8s-aws-v1.…`: a presigned call of STS, taken apart before anybody is called.

As strict as aws-iam-authenticator, and in places stricter: nothing of the URL that was given is sent on. What was
understood is written anew, so that no two parsers can read it in two ways.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from kubegate.aws import CLUSTER_ID_HEADER, TOKEN_PREFIX, TOKEN_SECONDS

MAX_TOKEN = 4096
_MAX_EXPIRES = 900
_SKEW = 300.0
"""Seconds that a date may lie ahead: as far as STS lets clocks differ."""

_PARAMETERS = frozenset(
    {
        "action", "version", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires",
        "x-amz-security-token", "x-amz-signature", "x-amz-signedheaders",
    }
)  # fmt: skip
_HOST = re.compile(r"[a-z0-9.-]{1,253}(:[0-9]{1,5})?", re.ASCII)
_WHOLE = re.compile(rf"https://(?P<host>{_HOST.pattern})/?\?(?P<query>[!-~]+)", re.ASCII)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE | re.ASCII)
_QUERY = re.compile(r"([A-Za-z0-9._~/:,@*=&-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z", re.ASCII)
_EXPIRES = re.compile(r"[0-9]{1,5}", re.ASCII)
_ACCESS_KEY = re.compile(r"[A-Z0-9]{16,128}", re.ASCII)

Note = Callable[[str, str], None]
"""Hears of each check that was passed: its name, and what was found (nothing of it can be replayed)."""


class BadToken(Exception):
    """A token of this form, and not good: which check it failed, and why. The text repeats nothing secret."""

    def __init__(self, check: str, problem: str) -> None:
        super().__init__(f"{check}: {problem}")
        self.check, self.problem = check, problem


@dataclass(frozen=True, slots=True)
class Presigned:
    """A call of STS that may be made. `host` has its port where there is one; times in seconds since 1970."""

    host: str
    access_key_id: str
    signed_at: float
    url: str = field(repr=False)

    @property
    def expires(self) -> float:
        return self.signed_at + TOKEN_SECONDS


def is_presigned(token: str) -> bool:
    """Whether it is a token of this kind at all, good or bad."""
    return token.startswith(TOKEN_PREFIX)


def is_host(text: str) -> bool:
    """HOST or HOST:PORT as a token may have it."""
    return _HOST.fullmatch(text) is not None


def parse(token: str, hosts: frozenset[str], now: float, note: Note = lambda check, found: None) -> Presigned:
    """Check all that can be checked here. Raises BadToken; nothing was called then, and nobody needs to be."""
    if len(token) > MAX_TOKEN:
        raise BadToken("size", f"{len(token)} characters, and {MAX_TOKEN} are the most")
    note("size", f"{len(token)} of at most {MAX_TOKEN} characters")
    if not is_presigned(token):
        raise BadToken("prefix", f"the token does not begin with {TOKEN_PREFIX}")
    url = _decoded(token.removeprefix(TOKEN_PREFIX))
    note("encoding", "base64url of a URL in ASCII")
    host, query = _split(url)
    note("URL", "https, and the path /")
    if host not in hosts:
        raise BadToken("host", f"{host} is no endpoint of STS that is known here")
    note("host", f"{host} is an endpoint of STS")
    parameters = dict(_parameters(query))
    values = {name.lower(): value for name, value in parameters.items()}
    note("parameters", f"{', '.join(sorted(parameters))}: each allowed, each once")
    _check(values, note)
    signed_at = _date(values, now)
    note("date", f"signed at {values['x-amz-date']}, good for {signed_at + TOKEN_SECONDS - now:.0f} s more")
    pairs = (f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in parameters.items())
    return Presigned(host, _access_key(values), signed_at, f"https://{host}/?{'&'.join(pairs)}")


def _decoded(text: str) -> str:
    if not _BASE64.fullmatch(text):
        raise BadToken("encoding", "what follows the prefix is no base64url without padding")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        raise BadToken("encoding", "what follows the prefix is no base64url of ASCII") from None


def _split(url: str) -> tuple[str, str]:
    """Host and query of `https://HOST[:PORT]/?QUERY`; no user, no fragment, no other path."""
    match = _WHOLE.fullmatch(url)
    if match is not None and "#" not in match["query"]:
        return match["host"], match["query"]
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[1] != "https":
        raise BadToken("URL", f"the scheme is {scheme[1][:16] if scheme else 'missing'}; https is right")
    raise BadToken("URL", "wanted is https://HOST/?PARAMETERS with a host in lower case, no user, path or fragment")


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    """Names as they were written, values decoded; a name that differs only in its case is the same name."""
    if not _QUERY.fullmatch(query):
        raise BadToken("parameters", "there are characters that must be percent-encoded")
    seen: set[str] = set()
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        lower = name.lower()
        if lower not in _PARAMETERS:
            raise BadToken("parameters", f"{name[:40]!r} is not allowed")
        if lower in seen:
            raise BadToken("parameters", f"{lower} is there twice")
        seen.add(lower)
        try:
            decoded = unquote(value, errors="strict") if "%" in value else value
        except UnicodeDecodeError:
            decoded = ""
        if not equals or not decoded or not decoded.isascii() or not decoded.isprintable():
            raise BadToken("parameters", f"{lower} has no value of printable ASCII")
        yield name, decoded


def _check(values: dict[str, str], note: Note) -> None:
    if values.get("action") != "GetCallerIdentity":
        raise BadToken("action", "the action must be GetCallerIdentity")
    note("action", "GetCallerIdentity")
    headers = values.get("x-amz-signedheaders", "").lower().split(";")
    for wanted in (CLUSTER_ID_HEADER, "host"):
        if wanted not in headers:
            raise BadToken("signed headers", f"{wanted} was not signed")
    note("signed headers", ", ".join(headers))
    expires = values.get("x-amz-expires", "")
    if not _EXPIRES.fullmatch(expires) or int(expires) > _MAX_EXPIRES:
        raise BadToken("expires", f"X-Amz-Expires must be a number of seconds from 0 to {_MAX_EXPIRES}")
    note("expires", f"X-Amz-Expires is {expires}")


def _date(values: dict[str, str], now: float) -> float:
    text = values.get("x-amz-date", "")
    try:
        match = _DATE.fullmatch(text)
        if match is None:
            raise ValueError
        year, month, day, hour, minute, second = map(int, match.groups())
        signed_at = datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        raise BadToken("date", "X-Amz-Date must be a time of the form 20060102T150405Z") from None
    if now > signed_at + TOKEN_SECONDS:
        raise BadToken("date", f"signed at {text}, and {TOKEN_SECONDS / 60:.0f} minutes are over")
    if signed_at > now + _SKEW:
        raise BadToken("date", f"signed at {text}, which is yet to come")
    return signed_at


def _access_key(values: dict[str, str]) -> str:
    found = values.get("x-amz-credential", "").split("/")[0]
    if not _ACCESS_KEY.fullmatch(found):
        raise BadToken("credential", "X-Amz-Credential must begin with an access key's ID")
    return found
