"""Static tokens: --token-auth-file, CSV with token, user name, user uid, and groups in one quoted column."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from kubegate.authentication import Authenticated, UserInfo, with_authenticated
from kubegate.authentication.secrets import Digest
from kubegate.authentication.watched import WatchedFile


class BadTokenFile(ValueError):
    """What is wrong in the file, and in which line; no token is in the text."""


def parse(content: bytes, source: str, digest: Digest) -> dict[bytes, Authenticated]:
    """The users by the keyed hash of their token. Raises BadTokenFile."""
    found: dict[bytes, Authenticated] = {}
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8")), strict=True)
        for record in reader:
            if not record:
                continue
            if len(record) < 3:
                text = f"token file {source!r} must have at least 3 columns (token, user name, user uid)"
                raise BadTokenFile(f"{text}, found {len(record)} in line {reader.line_num}")
            token, name, uid = record[0], record[1], record[2]
            if not token:
                continue
            groups = tuple(record[3].split(",")) if len(record) > 3 else ()
            user = UserInfo(name, uid, with_authenticated(name, groups))
            found[digest(token)] = Authenticated(user, "token-file")
    except (csv.Error, UnicodeDecodeError) as error:
        problem = str(error) if isinstance(error, csv.Error) else "not UTF-8"
        raise BadTokenFile(f"token file {source!r}: {problem}") from None
    return found


class TokenFileAuthenticator:
    """Knows the tokens of one file. A changed file is read again; its old tokens end with that."""

    name = "token-file"

    def __init__(self, path: Path, digest: Digest | None = None) -> None:
        """Raises BadTokenFile, OSError."""
        self._digest = digest or Digest()
        self.file = WatchedFile(path, lambda content: parse(content, str(path), self._digest))

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        return self.file.value.get(self._digest(token))
