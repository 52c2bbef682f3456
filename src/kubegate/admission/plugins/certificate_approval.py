"""CertificateApproval: who approves or denies a request may do so for its signer.

Follows k8s.io/kubernetes/plugin/pkg/admission/certificates/approval.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation, certificates
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden


class CertificateApproval:
    name = "CertificateApproval"
    handles = frozenset({Operation.UPDATE})
    resources = frozenset({f"{certificates.CSRS}/approval"})
    changes = False

    def __init__(self, dependencies: Dependencies) -> None:
        self._authorize = dependencies.authorize

    async def validate(self, attributes: Attributes) -> None:
        # The stored signer counts: the request might try to name another one.
        signer = ((attributes.old_object or {}).get("spec") or {}).get("signerName", "")
        if not await certificates.may(self._authorize, attributes, "approve", signer):
            raise forbidden(attributes, f'user not permitted to approve requests with signerName "{signer}"')


def build(dependencies: Dependencies) -> CertificateApproval:
    return CertificateApproval(dependencies)
