"""Token sources to name in a file: static users, another cluster, a directory, issuers; and a chain of them.

Each is a `TokenAuthenticator` in a module of its own. `config` reads the file, `chain` puts the sources together and
maps their users and groups. They answer without audiences, as a token webhook does that knows nothing of them: who
asks takes their users for its own audiences alone.
"""

from __future__ import annotations

from typing import Protocol

from kubegate.authentication import TokenAuthenticator


class Source(TokenAuthenticator, Protocol):
    """A token authenticator with a life: begun on the event loop, refreshed every few seconds, ended."""

    def start(self) -> None:
        """Begin what goes on beside the calls; on the event loop."""
        ...

    async def refresh(self) -> None:
        """Look at the files that it was made from."""
        ...

    async def close(self) -> None: ...
