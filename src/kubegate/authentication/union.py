"""Several ways of authenticating as one: each is asked in turn, and the first that knows the credential answers.

Follows k8s.io/apiserver/pkg/authentication/request/union and its kin for tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from kubegate.api.clock import Clock
from kubegate.api.field import aggregate
from kubegate.authentication import (
    AUTHENTICATED_GROUP,
    Authenticated,
    AuthenticationError,
    Authenticator,
    Recall,
    Request,
    TokenAuthenticator,
    intersect,
    recall_of,
    with_authenticated,
)
from kubegate.authentication.secrets import BoundedCache, Digest

_KNEW_SECONDS = 3600.0


class AuthenticationErrors(AuthenticationError):
    """What several authenticators said, each text once: `e`, or `[e, f]`."""

    def __init__(self, errors: Iterable[AuthenticationError]) -> None:
        texts: dict[str, None] = {}
        try_again = False
        for error in errors:
            texts |= dict.fromkeys(error.texts if isinstance(error, AuthenticationErrors) else (str(error),))
            try_again = try_again or error.try_again
        self.texts: tuple[str, ...] = tuple(texts)
        super().__init__(aggregate(self.texts), try_again=try_again)


class TokenUnion:
    """The first token authenticator that knows the token; one that refuses it does not keep the next from it.

    Who knew a token is asked first when it comes again, so that the others need not take it apart each time.
    """

    def __init__(self, authenticators: Sequence[TokenAuthenticator], digest: Digest, clock: Clock) -> None:
        self._ways = tuple((each, recall_of(each)) for each in authenticators)
        self._digest, self._clock = digest, clock
        self._knew: BoundedCache[tuple[TokenAuthenticator, Recall]] = BoundedCache(50_000)

    def known(self, token: str) -> Authenticated | None:
        """What who knew the token says at once; None where it must be looked at. Raises AuthenticationError."""
        key, now = self._digest(token), self._clock.now()
        way = self._knew.get(key, now)
        return None if way is None else way[1](key, now)

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        key, now = self._digest(token), self._clock.now()
        way = self._knew.get(key, now)
        if way is not None:
            try:
                found = await way[0].authenticate_token(token, audiences)
            except AuthenticationError:
                found = None
            if found is not None:
                return found
            self._knew.drop(key)
        errors: list[AuthenticationError] = []
        for way in self._ways:
            try:
                found = await way[0].authenticate_token(token, audiences)
            except AuthenticationError as error:
                errors.append(error)
            else:
                if found is not None:
                    self._knew.put(key, way, now + _KNEW_SECONDS)
                    return found
        if errors:
            raise AuthenticationErrors(errors)
        return None


class AudienceAgnostic:
    """For authenticators that know nothing of audiences: their tokens are good for the API server's own alone."""

    def __init__(self, tokens: TokenAuthenticator, api_audiences: tuple[str, ...]) -> None:
        self._tokens, self._api_audiences = tokens, api_audiences
        self.recall = recall_of(tokens)

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        if audiences is None:
            return await self._tokens.authenticate_token(token, None)
        granted = intersect(self._api_audiences, audiences)
        if not granted:
            return None
        found = await self._tokens.authenticate_token(token, None)
        return None if found is None else replace(found, audiences=granted)


class Union:
    """All of a server's authenticators, and `anonymous` for requests in which none of them saw a credential.

    A bad credential is never taken for none. Whoever is known is in system:authenticated, also where a webhook gave
    no name; a credential that is good for other audiences than those wanted is refused.
    """

    def __init__(
        self, authenticators: Sequence[Authenticator], anonymous: Authenticator | None, api_audiences: tuple[str, ...]
    ) -> None:
        self._ways: list[tuple[Authenticator, Callable[[Request], Authenticated | None] | None, bool]] = []
        for each in authenticators:
            identify = getattr(each, "identify", None)
            self._ways.append((each, identify, identify is None or getattr(each, "waits", False)))
        self._anonymous, self._api_audiences = anonymous, api_audiences

    async def authenticate(self, request: Request) -> Authenticated | None:
        errors: list[AuthenticationError] | None = None
        for authenticator, identify, waits in self._ways:
            try:
                found = None if identify is None else identify(request)
                if found is None and waits:
                    found = await authenticator.authenticate(request)
            except AuthenticationError as error:
                if errors is None:
                    errors = []
                errors.append(error)
            else:
                if found is not None:
                    return self._checked(found, request)
        if errors is not None:
            raise AuthenticationErrors(errors)
        if self._anonymous is None:
            return None
        return await self._anonymous.authenticate(request)

    def _checked(self, found: Authenticated, request: Request) -> Authenticated:
        audiences = found.audiences
        if audiences:
            wanted = self._api_audiences if request.audiences is None else request.audiences
            if audiences is not wanted and wanted and not intersect(audiences, wanted):
                text = f"unable to match the audience: {list(audiences)}, accepted: {list(wanted)}"
                raise AuthenticationError(text)
        user = found.user
        if AUTHENTICATED_GROUP in user.groups:
            return found
        groups = with_authenticated(user.name, user.groups)
        return found if groups is user.groups else replace(found, user=replace(user, groups=groups))
