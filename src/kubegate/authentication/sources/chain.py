"""Several token sources as one, each with its own way of naming users and groups.

Names that begin with system: are Kubernetes' own. A source gives none of them unless it is trusted with that: such a
user is refused, such a group left out, so that no directory and no other cluster can make a cluster-admin of anybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from kubegate.api.clock import Clock
from kubegate.authentication import AUTHENTICATED_GROUP, Authenticated, AuthenticationError, UserInfo
from kubegate.authentication.secrets import Digest
from kubegate.authentication.sources import Source
from kubegate.authentication.union import TokenUnion

log = logging.getLogger("kubegate.authentication")

SYSTEM_PREFIX = "system:"
REFRESH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Naming:
    """What becomes of a source's users and groups.

    A group in `map` becomes those that it names, as they stand; the others get the prefix, or go where `only_mapped`.
    `add` are everybody's. `extra` is dropped where `keep_extra` is false.
    """

    user_prefix: str = ""
    group_prefix: str = ""
    map: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only_mapped: bool = False
    add: tuple[str, ...] = ()
    keep_extra: bool = True
    allow_system: bool = False

    def user(self, found: UserInfo) -> UserInfo:
        """Raises AuthenticationError for a user whom the source may not give."""
        name = self.user_prefix + found.name
        if not found.name or (name.startswith(SYSTEM_PREFIX) and not self.allow_system):
            raise AuthenticationError(f'the user "{name}" is not for this source to give')
        groups: dict[str, None] = {}
        for group in found.groups:
            if group == AUTHENTICATED_GROUP:
                continue  # who takes the token adds it
            named = self.map.get(group)
            if named is not None:
                groups |= dict.fromkeys(named)
            elif not self.only_mapped:
                groups[self.group_prefix + group] = None
        groups |= dict.fromkeys(self.add)
        given = tuple(group for group in groups if group and (self.allow_system or not group.startswith(SYSTEM_PREFIX)))
        return UserInfo(name, found.uid, given, found.extra if self.keep_extra else {})


class Mapped:
    """One source and its naming; `name` is the configuration's."""

    def __init__(self, name: str, source: Source, naming: Naming) -> None:
        self.name, self.source, self._naming = name, source, naming

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        try:
            found = await self.source.authenticate_token(token, None)
            if found is None:
                return None
            return replace(found, user=self._naming.user(found.user), authenticator=self.name, audiences=None)
        except AuthenticationError as error:
            raise AuthenticationError(f"{self.name}: {error}", try_again=error.try_again) from None


class SourceChain:
    """The first source that knows the token answers; one that fails or refuses does not keep the next from it.

    A `Source` itself. `start` on the event loop; then files are looked at every few seconds until `close`.
    """

    name = "token-sources"

    def __init__(self, sources: Sequence[Mapped], clock: Clock) -> None:
        self._sources, self._clock = tuple(sources), clock
        self._union = TokenUnion(self._sources, Digest(), clock)
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        for each in self._sources:
            each.source.start()
        self._watch = asyncio.create_task(self._refresh_always(), name="token-sources")

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        """Who it is. Raises AuthenticationError where a source refused it or failed, and none knew it."""
        return await self._union.authenticate_token(token, None)

    async def refresh(self) -> None:
        for each in self._sources:
            await each.source.refresh()

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.gather(*(each.source.close() for each in self._sources))

    async def _refresh_always(self) -> None:
        while True:
            await self._clock.sleep(REFRESH_SECONDS)
            try:
                await self.refresh()
            except Exception:
                log.exception("the files of the token sources could not be looked at")
