"""What every ID token must hold, whatever is made of it: claims of their types, times, audiences, distributed claims.

Follows go-oidc (its `idToken` and `Verify`), with encoding/json's words for values of other types.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from kubegate.api.codec import json_type
from kubegate.api.field import quoted, quoted_list
from kubegate.authentication import AuthenticationError

NOT_BEFORE_LEEWAY = 60.0
"""Seconds that an issuer's clock may be ahead, as in go-oidc v2. The end of a token is taken to the second."""

_BEFORE_ALL = float(-(2**63))
"""What Go makes of seconds past all bounds: a time long ago, whose year it counts wrongly."""

_NAMES, _SOURCES = "_claim_names", "_claim_sources"


class BadClaim(AuthenticationError):
    """A claim is of another type than it must be; the text is encoding/json's."""


class Source(Struct, frozen=True):
    """Where a distributed claim is to be fetched; no `url` for one that came along."""

    url: str
    access_token: str


# ---------------------------------------------------------------------- types of claims
def text(value: Any, into: str = "Go value") -> str:
    """A string, "" for null. Raises BadClaim."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadClaim(f"json: cannot unmarshal {json_type(value)} into {into} of type string")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """A list of strings, or one alone; none for null. Raises BadClaim."""
    if value is None:
        return ()
    if isinstance(value, list) and all(each is None or isinstance(each, str) for each in value):
        return tuple(each or "" for each in value)
    return (text(value),)


def time(value: Any) -> float:
    """Seconds since 1970. Raises BadClaim."""
    if isinstance(value, str):
        try:
            return float(int(float(value)))
        except (ValueError, OverflowError):
            raise BadClaim(
                f"json: invalid number literal, trying to unmarshal {quoted(quoted(value))} into Number"
            ) from None
    if value is None:
        raise BadClaim('strconv.ParseFloat: parsing "": invalid syntax')
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadClaim(f"json: cannot unmarshal {json_type(value)} into Go value of type json.Number")
    return float(int(value)) if abs(value) < 2**63 else _BEFORE_ALL


def _audience(value: Any) -> tuple[str, ...]:
    if value is None or isinstance(value, str):
        return (value or "",)
    if not isinstance(value, list):
        raise BadClaim(f"json: cannot unmarshal {json_type(value)} into Go struct field idToken.aud of type []string")
    return tuple(text(each, "Go struct field idToken.aud") for each in value)


def _time(name: str) -> Callable[[Any], float]:
    """A claim that is a time. What its own reader says of its type is told with the claim's name."""

    def read(value: Any) -> float:
        try:
            return time(value)
        except BadClaim as error:
            raise BadClaim(str(error).replace("Go value", f"Go struct field idToken.{name}")) from None

    return read


def _field(name: str) -> Callable[[Any], str]:
    return lambda value: text(value, f"Go struct field idToken.{name}")


def _map(value: Any, name: str, read: Callable[[Any], Any], of: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        into = f"Go struct field idToken.{name} of type map[string]{of}"
        raise BadClaim(f"json: cannot unmarshal {json_type(value)} into {into}")
    return {key: read(each) for key, each in value.items()}


def _source(value: Any) -> Source:
    if value is None:
        return Source("", "")
    if not isinstance(value, dict):
        into = f"Go struct field idToken.{_SOURCES} of type oidc.claimSource"
        raise BadClaim(f"json: cannot unmarshal {json_type(value)} into {into}")
    return Source(
        text(value.get("endpoint"), "Go struct field claimSource.endpoint"),
        text(value.get("access_token"), "Go struct field claimSource.access_token"),
    )


_READ: dict[str, Callable[[Any], Any]] = {
    "iss": _field("iss"),
    "sub": _field("sub"),
    "aud": _audience,
    "exp": _time("exp"),
    "iat": _time("iat"),
    "nbf": lambda value: None if value is None else _time("nbf")(value),
    "nonce": _field("nonce"),
    "at_hash": _field("at_hash"),
    _NAMES: lambda value: _map(value, _NAMES, _field(_NAMES), "string"),
    _SOURCES: lambda value: _map(value, _SOURCES, _source, "oidc.claimSource"),
}


# ---------------------------------------------------------------------- the token
class IdToken(Struct, frozen=True):
    """`expiry` None: the token names none. `distributed` are claims that are kept elsewhere."""

    audience: tuple[str, ...]
    expiry: float | None
    not_before: float | None
    distributed: Mapping[str, Source]


def read(claims: Mapping[str, Any]) -> IdToken:
    """Raises AuthenticationError where a claim is of another type, or a claim's source is missing."""
    found: dict[str, Any] = {}
    for name, value in claims.items():
        if name in _READ:
            try:
                found[name] = _READ[name](value)
            except BadClaim as error:
                raise AuthenticationError(f"oidc: failed to unmarshal claims: {error}") from None
    distributed = {}
    for claim, source in found.get(_NAMES, {}).items():
        if not source:
            raise AuthenticationError("oidc: failed to obtain source from claim name")
        if source not in found.get(_SOURCES, {}):
            raise AuthenticationError("oidc: source does not exist")
        distributed[claim] = found[_SOURCES][source]
    return IdToken(found.get("aud", ()), found.get("exp"), found.get("nbf"), distributed)


def check_times(token: IdToken, now: float) -> None:
    """Raises AuthenticationError."""
    if token.expiry is None or token.expiry < now:
        raise AuthenticationError(f"oidc: token is expired (Token Expiry: {_shown(token.expiry)})")
    if token.not_before is not None and now + NOT_BEFORE_LEEWAY < token.not_before:
        before = f"the nbf (not before) time: {_shown(token.not_before)}"
        raise AuthenticationError(f"oidc: current time {_shown(now)} before {before}")


def check_algorithm(algorithm: str, supported: Collection[str]) -> None:
    """Raises AuthenticationError."""
    if algorithm not in supported:
        told = f"expected {quoted_list(sorted(supported))} got {quoted(algorithm)}"
        raise AuthenticationError(f"oidc: id token signed with unsupported algorithm, {told}")


def check_audience(token: IdToken, wanted: Sequence[str]) -> None:
    """One of the token's audiences must be one of those wanted. Raises AuthenticationError."""
    if not any(name in wanted for name in token.audience):
        expected = f"in {quoted_list(sorted(wanted))}" if len(wanted) > 1 else quoted(wanted[0])
        got = f"expected audience {expected} got {quoted_list(token.audience)}"
        raise AuthenticationError(f"oidc: {got}")


def _shown(seconds: float | None) -> str:
    """A time as Go prints it."""
    if seconds is None:
        return "0001-01-01 00:00:00 +0000 UTC"
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"
    except (ValueError, OverflowError, OSError):
        if seconds == _BEFORE_ALL:
            return "292277026596-12-04 15:30:08 +0000 UTC"
        return f"{seconds:.0f} s after 1970"
