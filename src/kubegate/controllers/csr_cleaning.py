"""Requests for certificates that are of no more use go: an hour after they were decided, a day after they were made.

They are looked at when the server starts and every hour, not at once when something about them changes: who writes down
an old time can still read what was written. Follows pkg/controller/certificates/cleaner of Kubernetes v1.36.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from kubegate.api import Object
from kubegate.api.clock import parse_rfc3339
from kubegate.controllers import World, certificates
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import condition, created_at, tolerant
from kubegate.pki.certificates import BadCertificate, parse_certificates

_SWEEP: Final = "all"
_HOUR: Final = 3600.0
_PENDING: Final = 24 * _HOUR


class Cleaning(Loop):
    """Its only key stands for all requests."""

    name = "certificatesigningrequest-cleaner-controller"
    account = "certificate-controller"

    def start(self, world: World) -> None:
        super().start(world)
        self.queue.add(_SWEEP)

    async def sync(self, key: str) -> None:
        now = self._clock.now()
        for request in self._reader.list(certificates.RESOURCE):
            if _over(request, now):
                options = {"preconditions": {"uid": request["metadata"]["uid"]}}
                name = request["metadata"]["name"]
                await tolerant(self._client.delete(certificates.RESOURCE, "", name, options), "NotFound", "Conflict")
        self.queue.add_at(key, self._clock.monotonic() + _HOUR)


def _over(request: Object, now: float) -> bool:
    """A request that was approved and has no certificate stays: somebody may sign it yet."""
    if not (request.get("status") or {}).get("conditions"):
        return created_at(request) < now - _PENDING
    issued = certificates.issued(request)
    if issued and condition(request, "Approved") is not None and _expired(request["status"]["certificate"], now):
        return True
    ended = ("Denied", "Failed", "Approved") if issued else ("Denied", "Failed")
    return any(_told_before(request, sort, now - _HOUR) for sort in ended)


def _told_before(request: Object, sort: str, moment: float) -> bool:
    told: str | None = (condition(request, sort) or {}).get("lastUpdateTime")
    return told is not None and parse_rfc3339(told) < moment


def _expired(certificate: str, now: float) -> bool:
    try:
        return parse_certificates(base64.b64decode(certificate))[0].not_valid_after_utc.timestamp() < now
    except (BadCertificate, binascii.Error, IndexError):
        return False


def build() -> Cleaning:
    return Cleaning()
