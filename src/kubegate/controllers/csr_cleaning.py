"""Requests for certificates that are of no more use go: an hour after they were decided, a day after they were made.

Follows pkg/controller/certificates/cleaner of Kubernetes v1.36.
"""

from __future__ import annotations

import base64
import binascii

from kubegate.api import Object
from kubegate.api.clock import parse_rfc3339
from kubegate.controllers import World, certificates
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import condition, created_at, tolerant
from kubegate.pki.certificates import BadCertificate, parse_certificates
from kubegate.storage import ObjectEvent

_HOUR = 3600.0
_KEPT = {"Approved": _HOUR, "Denied": _HOUR, "Failed": _HOUR}
_PENDING = 24 * _HOUR


class Cleaning(Loop):
    """Keys are names of requests."""

    name = "certificatesigningrequest-cleaner-controller"
    account = "certificate-controller"

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe(certificates.RESOURCE, self._changed)

    def _changed(self, event: ObjectEvent, request: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED:
            self.queue.add(request["metadata"]["name"])

    async def sync(self, key: str) -> None:
        request = self._reader.get(certificates.RESOURCE, "", key)
        if request is None:
            return
        end, now = _end(request), self._clock.now()
        if end > now:
            self.queue.add_at(key, self._clock.monotonic() + end - now)
            return
        options = {"preconditions": {"uid": request["metadata"]["uid"]}}
        await tolerant(self._client.delete(certificates.RESOURCE, "", key, options), "NotFound", "Conflict")


def _end(request: Object) -> float:
    """When a request has been there for long enough, in seconds since 1970."""
    created = created_at(request)
    conditions = [(sort, condition(request, sort)) for sort in _KEPT]
    ends = [
        parse_rfc3339(found.get("lastUpdateTime") or request["metadata"]["creationTimestamp"]) + _KEPT[sort]
        for sort, found in conditions
        if found is not None
    ]
    if certificates.issued(request):
        ends += _expiry(request["status"]["certificate"])
    return min(ends, default=created + _PENDING)


def _expiry(certificate: str) -> list[float]:
    try:
        return [parse_certificates(base64.b64decode(certificate))[0].not_valid_after_utc.timestamp()]
    except (BadCertificate, binascii.Error, IndexError):
        return []


def build() -> Cleaning:
    return Cleaning()
