"""What Kubernetes' built-in signers sign."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from kubegate.pki import certificates, keys, signers
from kubegate.pki.certificates import Subject
from kubegate.pki.signers import NotSigned, Order

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
CA = certificates.new_authority("ca", now=NOW)
KEY = keys.generate()
NODE = Subject("system:node:n1", ("system:nodes",))
CLIENT = ["client auth", "digital signature"]
SERVING = ["server auth", "digital signature", "key encipherment"]
CLIENT_USAGES = r"usages did not match \[client auth digital signature key encipherment\]$"
SERVING_USAGES = r"usages did not match \[digital signature key encipherment server auth\]$"


def order(subject: Subject, usages: list[str], *hosts: str, seconds: int | None = None) -> Order:
    request = certificates.new_request(KEY, subject, hosts=hosts)
    return Order(certificates.request_pem(request), usages, seconds)


def signed(asked: Order, **more: Any) -> x509.Certificate:
    return certificates.parse_certificates(signers.sign(CA, asked, now=NOW, **more))[0]


@pytest.mark.parametrize(
    ("signer", "asked", "why"),
    [
        (signers.API_CLIENT, order(Subject("a"), ["client auth", "key encipherment"]), ""),
        (signers.API_CLIENT, order(Subject("a"), ["server auth"]), "invalid usage for client certificate: server auth"),
        (signers.API_CLIENT, order(Subject("a"), []), "missing required usage for client certificate: client auth"),
        (signers.KUBELET_CLIENT, order(NODE, CLIENT), ""),
        (signers.KUBELET_CLIENT, order(Subject("a"), CLIENT), "subject organization is not system:nodes"),
        (signers.KUBELET_CLIENT, order(Subject("a", ("system:nodes",)), CLIENT), "subject common name does not begin"),
        (signers.KUBELET_CLIENT, order(NODE, CLIENT, "n1"), "DNS subjectAltNames are not allowed"),
        (signers.KUBELET_CLIENT, order(NODE, CLIENT, "10.0.0.1"), "IP subjectAltNames are not allowed"),
        (signers.KUBELET_CLIENT, order(NODE, SERVING), CLIENT_USAGES),
        (signers.KUBELET_SERVING, order(NODE, SERVING, "n1", "10.0.0.1"), ""),
        (signers.KUBELET_SERVING, order(NODE, SERVING), "DNS or IP subjectAltName is required"),
        (signers.KUBELET_SERVING, order(NODE, CLIENT, "n1"), SERVING_USAGES),
        (signers.LEGACY_UNKNOWN, order(Subject("a"), ["any"]), ""),
        ("example.org/x", order(Subject("a"), []), "unrecognized signerName"),
        (signers.API_CLIENT, Order(b"no pem", ["client auth"]), "PEM block type must be CERTIFICATE REQUEST"),
    ],
)
def test_a_signer_has_rules(signer: str, asked: Order, why: str) -> None:
    if not why:
        signers.check(signer, asked)
        return
    with pytest.raises(NotSigned, match=why):
        signers.check(signer, asked)


def test_a_certificate_has_the_subject_and_the_usages_asked_for() -> None:
    made = signed(order(Subject("jane", ("dev",)), ["client auth", "digital signature"]))
    assert certificates.subject_of(made) == Subject("jane", ("dev",))
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, False, False)
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    made.verify_directly_issued_by(CA.certificate)


def test_without_a_key_usage_none_is_named() -> None:
    made = signed(order(Subject("jane"), ["client auth"]))
    with pytest.raises(x509.ExtensionNotFound):
        made.extensions.get_extension_for_class(x509.KeyUsage)


@pytest.mark.parametrize(
    ("seconds", "longest", "lasts"),
    [
        (None, 365 * 86400, timedelta(days=365)),
        (3600, 365 * 86400, timedelta(seconds=3600 + 300)),
        (86400, 365 * 86400, timedelta(days=1)),
        (10 * 365 * 86400, 365 * 86400, timedelta(days=365)),
        (60, 365 * 86400, timedelta(seconds=600 + 300)),
    ],
)
def test_a_lifetime_may_be_shorter_than_the_signers_and_not_longer(
    seconds: int | None, longest: int, lasts: timedelta
) -> None:
    made = signed(order(Subject("a"), ["client auth"], seconds=seconds), longest=longest)
    assert made.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert made.not_valid_after_utc - made.not_valid_before_utc == lasts


def test_a_certificate_ends_with_its_authority() -> None:
    ca = certificates.new_authority("ca", days=1, now=NOW)
    made = certificates.parse_certificates(signers.sign(ca, order(Subject("a"), ["client auth"]), now=NOW))[0]
    assert made.not_valid_after_utc == ca.certificate.not_valid_after_utc


def test_a_usage_that_nobody_knows_is_not_signed() -> None:
    with pytest.raises(NotSigned, match=r'unrecognized usage values: \["world domination"\]$'):
        signed(order(Subject("a"), ["client auth", "world domination"]))


def test_a_certificate_says_what_go_reads_of_a_request_in_go_s_order() -> None:
    key = keys.generate()
    subject = [
        (NameOID.COMMON_NAME, "someone"),
        (NameOID.ORGANIZATION_NAME, "dev"),
        (NameOID.ORGANIZATION_NAME, "qa"),
        (NameOID.EMAIL_ADDRESS, "jane@example.org"),
        (NameOID.LOCALITY_NAME, "here"),
        (NameOID.COMMON_NAME, "jane"),
    ]
    names = x509.SubjectAlternativeName(
        [x509.IPAddress(ip_address("10.0.0.1")), x509.DNSName("b"), x509.RegisteredID(NameOID.TITLE), x509.DNSName("a")]
    )
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in subject]))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    made = signed(Order(certificates.request_pem(request), ["client auth", "digital signature"]))
    assert made.subject.rfc4514_string() == "CN=jane,O=qa+O=dev,L=here"
    assert certificates.subject_of(made).organizations == ("qa", "dev")
    assert certificates.hosts_of(made) == ["b", "a", "10.0.0.1"]
    assert [type(extension.value) for extension in made.extensions] == [
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.BasicConstraints,
        x509.AuthorityKeyIdentifier,
        x509.SubjectAlternativeName,
    ]
