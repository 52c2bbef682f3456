"""JWTs of OpenID Connect issuers, written as in an AuthenticationConfiguration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from kubegate.api.clock import Clock
from kubegate.authentication import Authenticated
from kubegate.authentication.config import BadConfiguration, JwtAuthenticator, load
from kubegate.authentication.oidc import JwtAuthenticators


def parse(entries: Any, source: str, place: str) -> tuple[JwtAuthenticator, ...]:
    """The entries of `jwt`, by the API's own rules. Raises BadConfiguration, which names the place of each error."""
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": entries}
    try:
        return load(orjson.dumps(document), source).jwt
    except BadConfiguration as error:
        raise BadConfiguration(re.sub(r"(?<=[ \[\"])jwt(?=[\[.:])", place, str(error))) from None


class JwtSource:
    """The issuers of one entry."""

    name = "jwt"

    def __init__(self, configured: Sequence[JwtAuthenticator], clock: Clock) -> None:
        self._configured = tuple(configured)
        self._issuers = JwtAuthenticators(clock)

    def start(self) -> None:
        self._issuers.use(self._configured)

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        return await self._issuers.authenticate_token(token)

    async def refresh(self) -> None:
        pass

    async def close(self) -> None:
        await self._issuers.close()
