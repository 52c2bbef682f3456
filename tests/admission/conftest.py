from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from admission_world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def certificate_request() -> Callable[..., str]:
    """Makes `spec.request` of a CertificateSigningRequest, by common name and organizations."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())

    def make(common_name: str, *organizations: str) -> str:
        names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
        subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()

    return make
