"""Who is it. One narrow protocol, a module for each method, and their union.

`authenticate(request)` gives an `Authenticated`, or None (no credential of mine here), or raises
`AuthenticationError` (a credential of mine, and bad). Follows k8s.io/apiserver/pkg/authentication.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from msgspec import Struct, field

from kubegate.api import Object


class UserInfo(Struct, frozen=True):
    """Who is asking, as authorization and admission see it."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def user_info(user: UserInfo) -> Object:
    """authentication.k8s.io/v1 UserInfo, empty fields left out."""
    found: Object = {"username": user.name} if user.name else {}
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = list(user.groups)
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra.items()}
    return found


class Authenticated(Struct, frozen=True):
    """The answer of an authenticator: the user, the audiences that the credential is good for, and who says so.

    `warnings` go to the client as Warning headers, `annotations` to the audit event; none of them holds a secret.
    """

    user: UserInfo
    authenticator: str
    audiences: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


class AuthenticationError(Exception):
    """A credential that this authenticator knows, and that is not good. The text goes to the log, never the client.

    `try_again`: it may be good, but could not be looked at now for there were too many; the client is told to wait.
    """

    def __init__(self, text: str, *, try_again: bool = False) -> None:
        super().__init__(text)
        self.try_again = try_again


class Headers:
    """A request's header fields: names in lower case, in the order they came, repeated as sent.

    They are kept as the bytes that came, and decoded when somebody looks: most are never looked at. UTF-8, as Go reads
    them; bytes that are none become U+FFFD each, as they do where Go writes them down.
    """

    __slots__ = ("_fields", "_first")

    def __init__(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._fields = fields
        self._first = dict(reversed(fields))

    @classmethod
    def of(cls, fields: Iterable[tuple[str, str]]) -> Headers:
        return cls([(name.encode(), value.encode("utf-8", "surrogatepass")) for name, value in fields])

    def first(self, name: str) -> str:
        """The first value of a header (name in lower case), or ""."""
        found = self._first.get(name.encode())
        if not found:
            return ""
        try:  # as `_text`, which would be a call for each of the headers that every request is asked for
            return found.decode()
        except UnicodeDecodeError:
            return _text(found)

    def has(self, name: bytes) -> bool:
        return name in self._first

    def begins(self, name: bytes, prefixes: tuple[bytes, ...]) -> bool:
        """Whether the first value of a header begins with one of `prefixes`."""
        return self._first.get(name, b"").startswith(prefixes)

    def all(self, name: str) -> list[str]:
        wanted = name.encode()
        return [_text(value) for key, value in self._fields if key == wanted]

    def any_begins(self, prefix: bytes) -> bool:
        """Whether there is a header whose name begins so."""
        return _any_begins(tuple(self._first), prefix)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for name, value in self._fields:
            yield _text(name), _text(value)


@lru_cache(1024)
def _any_begins(names: tuple[bytes, ...], prefix: bytes) -> bool:
    """A client sends the same headers again and again."""
    return any(name.startswith(prefix) for name in names)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return with_whole_characters(value.decode(errors="surrogateescape"))


def with_whole_characters(text: str) -> str:
    """A text in which bytes that are no UTF-8 were escaped as surrogates, with U+FFFD for each of them."""
    return _ESCAPED.sub("\ufffd", text)


_ESCAPED = re.compile("[\udc80-\udcff]")


class Request(Struct):
    """What an authenticator may look at; not to be changed (nor frozen: one is made for every request).

    `peer_certificates` is the client's chain as DER, leaf first, as TLS handed it over (not to be trusted before it
    has been verified against the authenticator's own CA pool). `audiences` are those the caller wants (None: the
    API server's own). `warnings` is what an authenticator has to tell the client whoever they turn out to be.
    """

    method: str
    path: str
    headers: Headers
    peer_certificates: tuple[bytes, ...] = ()
    remote_address: str = ""
    audiences: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()

    def header(self, name: str) -> str:
        """The first value of a header (name in lower case), or ""."""
        return self.headers.first(name)

    def header_values(self, name: str) -> list[str]:
        return self.headers.all(name)


class Authenticator(Protocol):
    """One may have `identify(request)` as well, which says without a coroutine what can be said at once.

    Where that is all that it has to say it never waits; where `waits` is True, `authenticate` may say more.
    """

    async def authenticate(self, request: Request) -> Authenticated | None: ...


class TokenAuthenticator(Protocol):
    """The half that knows tokens alone; `audiences` None means the API server's own.

    It may have `recall(key, now)` as well (see `Recall`), which a union asks first.
    """

    async def authenticate_token(
        self, token: str, audiences: tuple[str, ...] | None = None
    ) -> Authenticated | None: ...


Recall = Callable[[bytes, float], Authenticated | None]
"""What can be said at once of a token that was good before, for the API server's own audiences.

It is given the token's digest, which all authenticators of a union share, and the time. None: `authenticate_token` must
look at it. May raise AuthenticationError, which counts as None: who is asked properly says why.
"""


def recall_of(authenticator: TokenAuthenticator) -> Recall:
    found: Recall = getattr(authenticator, "recall", _nothing)
    return found


def _nothing(key: bytes, now: float) -> None:
    return None


ANONYMOUS = "system:anonymous"
UNAUTHENTICATED_GROUP = "system:unauthenticated"
AUTHENTICATED_GROUP = "system:authenticated"
MASTERS_GROUP = "system:masters"
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
"""The key of `extra` that names the credential used, without being it: X509SHA256=HASH or JTI=ID."""


def with_authenticated(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Groups with system:authenticated after them, where neither name nor groups say that it does not belong there."""
    if name == ANONYMOUS or AUTHENTICATED_GROUP in groups or UNAUTHENTICATED_GROUP in groups:
        return groups
    return (*groups, AUTHENTICATED_GROUP)


def intersect(offered: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of the audiences wanted that are offered, in the order (and as often) as they are wanted.

    Where that is all of them it is `wanted` itself, so that the usual case can be told at a glance.
    """
    if isinstance(wanted, tuple) and all(audience in offered for audience in wanted):
        return wanted
    return tuple(audience for audience in wanted if audience in offered)
