"""Notes on Secrets the day of their token's last use, so that tokens nobody uses can be found and taken away."""

from __future__ import annotations

import logging

from kubegate.api import clone
from kubegate.api.status import StatusError
from kubegate.authentication.service_accounts import LAST_USED_LABEL, MarkUsed
from kubegate.registry.internal import Internal

log = logging.getLogger("kubegate.registry")


def marker(internal: Internal) -> MarkUsed:
    """What `authentication.build.Dependencies.mark_token_used` wants. A note that cannot be made refuses nobody."""

    async def mark(namespace: str, name: str, date: str) -> None:
        try:
            secret = await internal.get("secrets", namespace, name)
            if secret is None:
                return
            changed = clone(secret)
            changed["metadata"].setdefault("labels", {})[LAST_USED_LABEL] = date
            await internal.update("secrets", namespace, name, changed)
        except StatusError as error:
            log.warning("the use of the token in secret %s/%s could not be noted: %s", namespace, name, error)

    return mark
