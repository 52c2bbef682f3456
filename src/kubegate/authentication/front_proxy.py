"""A proxy in front says who is asking, in headers, and proves with a certificate that it may. --requestheader-*.

Follows k8s.io/apiserver/pkg/authentication/request/headerrequest. Header names are compared to the letter (without
regard to case): `X_Remote_User` is another header than `X-Remote-User`, and is not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from kubegate.api.clock import Clock
from kubegate.authentication import (
    Authenticated,
    AuthenticationError,
    Request,
    UserInfo,
    with_authenticated,
    with_whole_characters,
)
from kubegate.authentication.x509 import VerificationError, Verifier

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class FrontProxyAuthenticator:
    """Takes the headers from those whose certificate is of the proxies' own CA and bears one of the allowed names."""

    name = "front-proxy"

    def __init__(
        self,
        verifier: Verifier,
        clock: Clock,
        *,
        allowed_names: Sequence[str],
        username_headers: Sequence[str],
        uid_headers: Sequence[str] = (),
        group_headers: Sequence[str] = (),
        extra_prefixes: Sequence[str] = (),
    ) -> None:
        """No allowed names: any certificate of the CA."""
        self._verifier, self._clock = verifier, clock
        self._allowed = frozenset(allowed_names)
        self._username_headers = tuple(name.lower() for name in username_headers)
        self._uid_headers = tuple(name.lower() for name in uid_headers)
        self._group_headers = tuple(name.lower() for name in group_headers)
        self._extra_prefixes = tuple(prefix.lower() for prefix in extra_prefixes)

    async def authenticate(self, request: Request) -> Authenticated | None:
        return self.identify(request)

    def identify(self, request: Request) -> Authenticated | None:
        chain = request.peer_certificates
        if not chain:
            return None
        try:
            verified = self._verifier.verify(chain, self._clock.now())
        except VerificationError as error:
            raise AuthenticationError(str(error)) from None
        if self._allowed:
            from kubegate.pki import certificates

            common_name = certificates.subject_of(verified.leaf).common_name
            if common_name not in self._allowed:
                raise AuthenticationError(f"x509: subject with cn={common_name} is not in the allowed list")
        name = _first(request, self._username_headers)
        if not name:
            return None
        groups = [value for header in self._group_headers for value in request.header_values(header) if value]
        user = UserInfo(
            name,
            _first(request, self._uid_headers),
            with_authenticated(name, tuple(groups)),
            self._extra(request),
        )
        return Authenticated(user, self.name)

    def _extra(self, request: Request) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for prefix in self._extra_prefixes:
            for header, value in request.headers:
                if header.startswith(prefix):
                    key = unescape_key(header[len(prefix) :])
                    found[key] = (*found.get(key, ()), value)
        return found


def unescape_key(key: str) -> str:
    """The key of `extra` in a header's name: in lower case, percent-decoded where that is possible."""
    key = key.lower()
    if _BAD_ESCAPE.search(key):
        return key
    return with_whole_characters(unquote(key, errors="surrogateescape"))


def _first(request: Request, names: Sequence[str]) -> str:
    """The first header's first value that is not empty; further values of one header are not looked at."""
    for name in names:
        value = request.header(name)
        if value:
            return value
    return ""
