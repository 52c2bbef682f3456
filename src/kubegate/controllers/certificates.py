"""What the certificate controllers share: the state of a CertificateSigningRequest."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.controllers.objects import is_true

RESOURCE = "certificatesigningrequests.certificates.k8s.io"


def with_condition(request: Object, sort: str, reason: str, message: str, now: str) -> Object:
    """The request with one more condition, which is true from `now` (RFC 3339) on."""
    status = request.get("status") or {}
    new = {
        "type": sort,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastUpdateTime": now,
        "lastTransitionTime": now,
    }
    return {**request, "status": {**status, "conditions": [*(status.get("conditions") or ()), new]}}


def decided(request: Object) -> bool:
    return is_true(request, "Approved") or is_true(request, "Denied")


def issued(request: Object) -> bool:
    return bool((request.get("status") or {}).get("certificate"))
