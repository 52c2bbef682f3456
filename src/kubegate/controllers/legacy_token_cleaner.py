"""Token Secrets that were made for accounts by themselves and that nobody uses are marked invalid, and later deleted.

`--legacy-service-account-token-clean-up-period` is how long a token must have been unused to be marked, and how long it
stays marked. A Secret that somebody made by hand, or that a pod mounts, stays. Nothing is done before uses have been
noted for as long as that (the ConfigMap that `registry.bootstrap` makes says since when). Follows
pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go of Kubernetes v1.36.
"""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta

from kubegate.api import Object
from kubegate.authentication.service_accounts import INVALID_SINCE_LABEL, LAST_USED_LABEL
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import created_at, ending, tolerant
from kubegate.controllers.token_secrets import ACCOUNT_NAME, ACCOUNT_UID, TYPE

log = logging.getLogger("kubegate.controllers")

TRACKING = ("kube-system", "kube-apiserver-legacy-service-account-token-tracking")
_SWEEP = "sweep"
_DAY = 24 * 3600.0


class LegacyTokenCleaner(Loop):
    """There is one key: all Secrets are looked at when it starts, and each day."""

    name = "legacy-serviceaccount-token-cleaner-controller"
    account = "legacy-service-account-token-cleaner"
    _period: float

    def start(self, world: World) -> None:
        super().start(world)
        self._period = world.options.legacy_service_account_token_clean_up_period
        self.queue.add(_SWEEP)

    async def sync(self, key: str) -> None:
        now = self._clock.now()
        since = self._tracked_since()
        if since is not None and since <= now - self._period:
            mounted = self._mounted()
            for secret in self._reader.list("secrets"):
                if self._unused(secret, now) and _key(secret) not in mounted:
                    await self._clean(secret, now)
        self.queue.add_at(key, self._clock.monotonic() + _DAY)

    def _tracked_since(self) -> float | None:
        """The first moment from which on every use has been noted: the day after tracking began."""
        found = self._reader.get("configmaps", *TRACKING)
        began = _day((found or {}).get("data", {}).get("since"))
        if began is None:
            return None
        return datetime.combine(began + timedelta(days=1), datetime.min.time(), UTC).timestamp()

    def _mounted(self) -> set[tuple[str, str]]:
        return {
            (pod["metadata"]["namespace"], volume["secret"].get("secretName", ""))
            for pod in self._reader.list("pods")
            for volume in pod["spec"].get("volumes") or ()
            if "secret" in volume
        }

    def _unused(self, secret: Object, now: float) -> bool:
        """Whether it is an account's own token, old enough, and not used for as long as the period."""
        metadata = secret["metadata"]
        if secret.get("type") != TYPE or ending(secret) or created_at(secret) > now - self._period:
            return False
        used = (metadata.get("labels") or {}).get(LAST_USED_LABEL)
        if used is not None:
            last = _day(used)
            if last is None:
                log.warning("secret %s/%s: its label %s is no date", *_key(secret), LAST_USED_LABEL)
                return False
            if last >= _date(now - self._period):
                return False
        annotations = metadata.get("annotations") or {}
        account = self._reader.get("serviceaccounts", metadata["namespace"], annotations.get(ACCOUNT_NAME, ""))
        if account is None or account["metadata"]["uid"] != annotations.get(ACCOUNT_UID):
            return False
        return any(reference.get("name") == metadata["name"] for reference in account.get("secrets") or ())

    async def _clean(self, secret: Object, now: float) -> None:
        metadata = secret["metadata"]
        namespace, name = _key(secret)
        labels = metadata.get("labels") or {}
        invalid = _day(labels.get(INVALID_SINCE_LABEL))
        if invalid is None:
            marked = {**metadata, "labels": {**labels, INVALID_SINCE_LABEL: str(_date(now))}}
            changed = self._client.update("secrets", namespace, name, {**secret, "metadata": marked})
            if await tolerant(changed, "NotFound", "Conflict") is not None:
                log.warning("secret %s/%s: its token was not used for long, and is marked invalid", namespace, name)
        elif invalid < _date(now - self._period):
            options = {
                "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
            }
            await tolerant(self._client.delete("secrets", namespace, name, options), "NotFound", "Conflict")
            log.warning("secret %s/%s: its token was marked invalid for long, and is deleted", namespace, name)


def _key(secret: Object) -> tuple[str, str]:
    return secret["metadata"]["namespace"], secret["metadata"]["name"]


def _date(seconds: float) -> date:
    return datetime.fromtimestamp(seconds, UTC).date()


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None


def build() -> LegacyTokenCleaner:
    return LegacyTokenCleaner()
