"""Users of a YAML file with hashes of their secrets: `users: [{name, uid, groups, hash}]`. The token is NAME:SECRET."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from kubegate.api.clock import Clock
from kubegate.authentication import Authenticated, UserInfo
from kubegate.authentication.sources import passwords, places
from kubegate.authentication.sources.logins import Logins
from kubegate.authentication.sources.passwords import Login
from kubegate.authentication.watched import WatchedFile

_AT_ONCE = 2
"""Hashes tried at one time: each takes tens of MiB, and a core."""


@dataclass(frozen=True, slots=True)
class Entry:
    user: UserInfo
    hash: str = field(repr=False)


def parse(content: bytes, source: str) -> dict[str, Entry]:
    """The users by name. Raises places.BadSources."""
    top = places.Place(source, "", places.parse(content, source) or {})
    found: dict[str, Entry] = {}
    for place in top.mappings("users"):
        name, hash_ = place.text("name"), place.text("hash")
        if ":" in name:
            raise place.wrong("name", "must not have a colon in it: the token is NAME:SECRET")
        if name in found:
            raise place.wrong("name", f"{name} is there already")
        try:
            passwords.check_hash(hash_)
        except passwords.PasswordError as error:
            raise place.wrong("hash", str(error)) from None
        found[name] = Entry(UserInfo(name, place.text("uid", ""), place.texts("groups")), hash_)
        place.done()
    top.done()
    return found


class StaticUsers:
    """The users of one file; a changed file is read again, and what was found before ends with that."""

    name = "static-users"

    def __init__(self, path: Path, clock: Clock) -> None:
        """Raises places.BadSources, OSError."""
        self._logins = Logins(self._check, clock, at_once=_AT_ONCE)
        self._file = WatchedFile(path, lambda content: parse(content, str(path)), self._logins.forget)

    def start(self) -> None:
        pass

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        return await self._logins.authenticate_token(token)

    async def refresh(self) -> None:
        if await asyncio.to_thread(self._file.check):
            self._file.apply()

    async def close(self) -> None:
        await self._logins.close()

    def _check(self, login: Login) -> Authenticated | None:
        users = self._file.value
        entry = users.get(login.name)
        if entry is None:
            # who is no user takes as long as who is, so that the time does not tell them apart
            other = next(iter(users.values()), None)
            if other is not None:
                passwords.matches(login.secret, other.hash)
            return None
        return Authenticated(entry.user, self.name) if passwords.matches(login.secret, entry.hash) else None
