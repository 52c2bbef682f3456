"""Ready-made token sources as an `authenticate` policy: users named in a file instead of written in code."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from kubegate.api.clock import SystemClock
from kubegate.authentication import AuthenticationError
from kubegate.webhooks.gate import Deny, User

log = logging.getLogger("kubegate.webhooks")


def token_sources(path: str | Path) -> Callable[[str], Awaitable[User | None]]:
    """What a TokenSources file says, for `gate.authenticate(token_sources(PATH))`.

    Raises BadSources (a ValueError) that names the file and the place in it. What a source says of a token that it
    refuses goes to the log; who asks is told no more than that nobody knows it, or that there are too many sign-ins.
    """
    from kubegate.authentication.sources.config import load

    chain = load(Path(path)).build(SystemClock())
    started = False

    async def by_token_sources(token: str) -> User | None:
        nonlocal started
        if not started:
            started = True
            chain.start()
        try:
            found = await chain.authenticate_token(token)
        except AuthenticationError as error:
            log.info("a token was refused: %s", error)
            if error.try_again:
                raise Deny("too many sign-ins, please try again later", code=429) from None
            return None
        if found is None:
            return None
        user = found.user
        extra = {key: list(values) for key, values in user.extra.items()}
        return User(user.name, uid=user.uid, groups=list(user.groups), extra=extra)

    return by_token_sources
