"""What plugins ask about certificates: who may act for a signer, and who a request is for."""

from __future__ import annotations

import base64
import binascii

from kubegate import authorization
from kubegate.admission import Attributes
from kubegate.admission.dependencies import Authorize

CSRS = "certificatesigningrequests.certificates.k8s.io"
KUBE_APISERVER_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBE_APISERVER_CLIENT_KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"


class BadRequest(ValueError):
    """A `spec.request` that holds no certificate request. The text says why."""


async def may(authorize: Authorize, attributes: Attributes, verb: str, signer: str) -> bool:
    """Whether the user may `approve`, `sign` or `attest` for a signer: by its name, or by its domain (`domain/*`)."""
    for name in (signer, f"{signer.partition('/')[0]}/*"):
        question = authorization.Attributes(
            user=attributes.user,
            verb=verb,
            api_group="certificates.k8s.io",
            api_version="*",
            resource="signers",
            name=name,
        )
        if (await authorize(question)).allowed:
            return True
    return False


def subject(request: str) -> tuple[str, list[str]]:
    """Common name and organizations of `spec.request` (base64 of PEM). Raises BadRequest."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        pem = base64.b64decode(request, validate=True)
        if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
            raise BadRequest("PEM block type must be CERTIFICATE REQUEST")
        name = x509.load_pem_x509_csr(pem).subject
    except (binascii.Error, ValueError) as error:
        if isinstance(error, BadRequest):
            raise
        raise BadRequest("PEM block type must be CERTIFICATE REQUEST") from error
    common = [str(entry.value) for entry in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    organizations = [str(entry.value) for entry in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return common[-1] if common else "", organizations
