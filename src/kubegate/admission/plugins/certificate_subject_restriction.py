"""CertificateSubjectRestriction: nobody asks for a client certificate that is above all authorization.

Follows k8s.io/kubernetes/plugin/pkg/admission/certificates/subjectrestriction.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation, certificates
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden
from kubegate.authentication import MASTERS_GROUP


class CertificateSubjectRestriction:
    name = "CertificateSubjectRestriction"
    handles = frozenset({Operation.CREATE})
    resources = frozenset({certificates.CSRS})
    changes = False

    async def validate(self, attributes: Attributes) -> None:
        spec = (attributes.object or {}).get("spec") or {}
        signer = spec.get("signerName", "")
        if signer != certificates.KUBE_APISERVER_CLIENT:
            return
        try:
            _, organizations = certificates.subject(spec.get("request", ""))
        except certificates.BadRequest as error:
            raise forbidden(attributes, f"failed to parse CSR: {error}") from error
        if MASTERS_GROUP in organizations:
            raise forbidden(attributes, f"use of {signer} signer with {MASTERS_GROUP} group is not allowed")


def build(dependencies: Dependencies) -> CertificateSubjectRestriction:
    return CertificateSubjectRestriction()
