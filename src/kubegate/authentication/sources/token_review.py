"""Tokens that another cluster knows, by its TokenReview API: who may sign in there is known here.

Whoever the kubeconfig stands for needs `create` on tokenreviews.authentication.k8s.io there (system:auth-delegator).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from msgspec import structs

from kubegate.api.clock import Clock
from kubegate.authentication import Authenticated
from kubegate.authentication.sources import passwords
from kubegate.authentication.webhook import WebhookTokenAuthenticator, endpoint

_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"


class TokenReviewSource:
    """Asks the API server of a kubeconfig file, for `audiences` (none: those of that server itself)."""

    name = "token-review"

    def __init__(
        self, kubeconfig: Path, clock: Clock, *, audiences: tuple[str, ...], cache_seconds: float, timeout: float
    ) -> None:
        """Raises pki.kubeconfig.BadKubeconfig, ValueError."""
        found = endpoint(kubeconfig)
        self._webhook = WebhookTokenAuthenticator(
            replace(found, url=found.url.rstrip("/") + _PATH),
            clock,
            version="v1",
            cache_ttl=cache_seconds,
            # a server that does not name the audiences has not looked at them: then it is no token for them
            api_audiences=(),
            timeout=timeout,
        )
        self._audiences = audiences or None

    def start(self) -> None:
        pass

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        if passwords.login(token) is not None:
            return None  # a name and a secret, meant for another source: not for that cluster's ears
        found = await self._webhook.authenticate_token(token, self._audiences)
        return None if found is None else structs.replace(found, authenticator=self.name, audiences=None)

    async def refresh(self) -> None:
        pass

    async def close(self) -> None:
        await self._webhook.close()
