"""Requests without credentials: system:anonymous, everywhere or on chosen paths alone."""

from __future__ import annotations

from collections.abc import Collection

from kubegate.authentication import ANONYMOUS, UNAUTHENTICATED_GROUP, Authenticated, Request, UserInfo

USER = UserInfo(ANONYMOUS, groups=(UNAUTHENTICATED_GROUP,))
_EVERYWHERE = Authenticated(USER, "anonymous")


class AnonymousAuthenticator:
    """Takes every request, or those whose path is one of `paths`, to the letter."""

    name = "anonymous"

    def __init__(self, paths: Collection[str] | None = None) -> None:
        self._paths = None if paths is None else frozenset(paths)

    async def authenticate(self, request: Request) -> Authenticated | None:
        return self.identify(request)

    def identify(self, request: Request) -> Authenticated | None:
        if self._paths is not None and request.path not in self._paths:
            return None
        if request.audiences is None:
            return _EVERYWHERE
        return Authenticated(USER, self.name, request.audiences)
