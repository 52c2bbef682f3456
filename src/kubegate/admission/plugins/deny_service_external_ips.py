"""DenyServiceExternalIPs: nobody draws traffic for an address that is not theirs (CVE-2020-8554).

Follows k8s.io/kubernetes/plugin/pkg/admission/network/denyserviceexternalips.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden
from kubegate.api import Object


class DenyServiceExternalIPs:
    name = "DenyServiceExternalIPs"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"services"})
    changes = False

    async def validate(self, attributes: Attributes) -> None:
        if not _addresses(attributes.object) <= _addresses(attributes.old_object):
            raise forbidden(attributes, "Use of external IPs is denied by admission control")


def _addresses(service: Object | None) -> set[str]:
    return set(((service or {}).get("spec") or {}).get("externalIPs") or ())


def build(dependencies: Dependencies) -> DenyServiceExternalIPs:
    return DenyServiceExternalIPs()
