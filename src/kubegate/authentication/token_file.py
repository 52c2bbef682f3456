"""Static tokens: --token-auth-file, CSV with token, user name, user uid, and groups in one quoted column."""

from __future__ import annotations

import logging
from pathlib import Path

from kubegate.authentication import Authenticated, user_file
from kubegate.authentication.secrets import Digest
from kubegate.authentication.watched import WatchedFile

log = logging.getLogger("kubegate.authentication")


def parse(content: bytes, source: str, digest: Digest) -> dict[bytes, Authenticated]:
    """The users by the keyed hash of their token. Raises BadUserFile."""
    users: dict[bytes, Authenticated] = {}
    found = user_file.read(content, f"token file {source!r}", "token, user name, user uid")
    for number, (token, user) in enumerate(found, 1):
        if not token:
            log.warning("empty token has been found in token file '%s', record number '%d'", source, number)
            continue
        key = digest(token)
        if key in users:
            log.warning("duplicate token has been found in token file '%s', record number '%d'", source, number)
        users[key] = Authenticated(user, "token-file")
    return users


class TokenFileAuthenticator:
    """Knows the tokens of one file. A changed file is read again; its old tokens end with that."""

    name = "token-file"

    def __init__(self, path: Path, digest: Digest | None = None) -> None:
        """Raises BadUserFile, OSError."""
        self._digest = digest or Digest()
        self.file = WatchedFile(path, lambda content: parse(content, str(path), self._digest))

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        return self.file.value.get(self._digest(token))

    def recall(self, key: bytes, now: float) -> Authenticated | None:
        return self.file.value.get(key)
