"""CertificateSigning: who writes a certificate, or that there will be none, may sign for the signer.

Follows k8s.io/kubernetes/plugin/pkg/admission/certificates/signing.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation, certificates
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden


class CertificateSigning:
    name = "CertificateSigning"
    handles = frozenset({Operation.UPDATE})
    resources = frozenset({f"{certificates.CSRS}/status"})
    changes = False

    def __init__(self, dependencies: Dependencies) -> None:
        self._authorize = dependencies.authorize

    async def validate(self, attributes: Attributes) -> None:
        new, old = (attributes.object or {}).get("status") or {}, (attributes.old_object or {}).get("status") or {}
        if all((new.get(field) or None) == (old.get(field) or None) for field in ("certificate", "conditions")):
            return
        signer = ((attributes.old_object or {}).get("spec") or {}).get("signerName", "")
        if not await certificates.may(self._authorize, attributes, "sign", signer):
            raise forbidden(attributes, f'user not permitted to sign requests with signerName "{signer}"')


def build(dependencies: Dependencies) -> CertificateSigning:
    return CertificateSigning(dependencies)
