"""HTTP basic: --basic-auth-file, which kube-apiserver had until 1.19. CSV with password, user name, user uid, groups.

Passwords in a file in clear are a bad idea; this is for labs that need it, behind its own flag.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from pathlib import Path

from kubegate.authentication import Authenticated, AuthenticationError, Request, user_file
from kubegate.authentication.secrets import Digest
from kubegate.authentication.watched import WatchedFile

WARNING = "--basic-auth-file keeps passwords in clear; kube-apiserver has had no such flag since 1.19"


def parse(content: bytes, source: str, digest: Digest) -> dict[str, tuple[bytes, Authenticated]]:
    """Keyed hash of the password, and the user, by user name. Raises BadUserFile."""
    found = user_file.read(content, f"password file {source!r}", "password, user name, user id")
    return {user.name: (digest(password), Authenticated(user, "basic")) for password, user in found}


class BasicAuthenticator:
    """User names and passwords of one file, from the Authorization header. A changed file is read again."""

    name = "basic"

    def __init__(self, path: Path) -> None:
        """Raises BadUserFile, OSError."""
        self._digest = Digest()
        self.file = WatchedFile(path, lambda content: parse(content, str(path), self._digest))

    async def authenticate(self, request: Request) -> Authenticated | None:
        return self.identify(request)

    def identify(self, request: Request) -> Authenticated | None:
        pair = _credentials(request.header("authorization"))
        if pair is None:
            return None
        name, password = pair
        known = self.file.value.get(name)
        # compared also where nobody is known by that name, so that time tells nothing
        expected, found = known or (b"", None)
        if not hmac.compare_digest(self._digest(password), expected) or found is None:
            raise AuthenticationError("invalid username/password combination")
        return found


def _credentials(header: str) -> tuple[str, str] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return (name, password) if colon else None
