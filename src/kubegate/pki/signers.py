"""What Kubernetes' built-in signers sign, and how. Follows pkg/controller/certificates/{signer,authority}.

Pure functions: whether a request was approved, and who may approve, is known elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Extended
from cryptography.x509.oid import NameOID
from msgspec import Struct

from kubegate.pki import certificates
from kubegate.pki.certificates import Authority, BadCertificate

API_CLIENT: Final = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT: Final = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING: Final = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN: Final = "kubernetes.io/legacy-unknown"

DEFAULT_SECONDS = 365 * 24 * 3600
MIN_SECONDS = 600
_SHORT = timedelta(hours=8)

_NODES_GROUP = "system:nodes"
_NODE_PREFIX = "system:node:"

# The names of usages in a CertificateSigningRequest.
KEY_USAGES: Final = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
EXTENDED_USAGES: Final = {
    "any": Extended.ANY_EXTENDED_KEY_USAGE,
    "server auth": Extended.SERVER_AUTH,
    "client auth": Extended.CLIENT_AUTH,
    "code signing": Extended.CODE_SIGNING,
    "email protection": Extended.EMAIL_PROTECTION,
    "s/mime": Extended.EMAIL_PROTECTION,
    "ipsec end system": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": Extended.TIME_STAMPING,
    "ocsp signing": Extended.OCSP_SIGNING,
    "microsoft sgc": x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": x509.ObjectIdentifier("2.16.840.1.113730.4.1"),
}
USAGES: Final = frozenset(KEY_USAGES) | frozenset(EXTENDED_USAGES)


class NotSigned(Exception):
    """A signer does not sign this request; the text is what its Failed condition tells."""


class Order(Struct, frozen=True):
    """What was asked for: the request (PEM), the usages by name, and the lifetime (None: as the signer likes)."""

    request: bytes
    usages: Sequence[str]
    expiration_seconds: int | None = None


def check(signer: str, order: Order) -> None:
    """Raises NotSigned where this signer's rules do not allow it; for a signer that is not built in as well."""
    rule = _RULES.get(signer)
    if rule is None:
        raise NotSigned(f"unrecognized signerName: {signer!r}")
    try:
        request = certificates.parse_request(order.request)
    except BadCertificate:
        raise NotSigned("PEM block type must be CERTIFICATE REQUEST") from None
    rule(request, order.usages)


def sign(authority: Authority, order: Order, *, now: datetime, longest: int = DEFAULT_SECONDS) -> bytes:
    """The certificate as PEM. `longest` is the signer's own lifetime in seconds (--cluster-signing-duration).

    A request asks for less, never for more. Raises NotSigned where the request or a usage cannot be read.
    """
    wanted = longest if order.expiration_seconds is None else max(MIN_SECONDS, min(order.expiration_seconds, longest))
    lifetime = timedelta(seconds=wanted)
    # what is short-lived anyway is not shortened by the time that the start is put back
    end = now + lifetime if lifetime < _SHORT else now + lifetime - certificates.BACKDATE
    key_usage, extended = usages_of(order.usages)
    try:
        request = certificates.parse_request(order.request)
        signed = certificates.sign_request(
            authority,
            request,
            usages=extended,
            key_usage=key_usage,
            not_before=(now - certificates.BACKDATE).replace(microsecond=0),
            not_after=end.replace(microsecond=0),
        )
    except BadCertificate as error:
        raise NotSigned(str(error)) from None
    return certificates.certificate_pem(signed)


def usages_of(names: Sequence[str]) -> tuple[x509.KeyUsage | None, list[x509.ObjectIdentifier]]:
    """Key usage (None where none is named) and extended usages by their names. Raises NotSigned for unknown ones."""
    unknown = [name for name in names if name not in USAGES]
    if unknown:
        told = " ".join(f'"{name}"' for name in unknown)
        raise NotSigned(f"unrecognized usage values: [{told}]")
    flags = {KEY_USAGES[name] for name in names if name in KEY_USAGES}
    extended = list(dict.fromkeys(EXTENDED_USAGES[name] for name in sorted(names) if name in EXTENDED_USAGES))
    if not flags:
        return None, extended
    if not flags.issuperset({"key_agreement"}):
        flags -= {"encipher_only", "decipher_only"}
    return x509.KeyUsage(**{flag: flag in flags for flag in dict.fromkeys(KEY_USAGES.values())}), extended


# ---------------------------------------------------------------------- rules
_CLIENT = (frozenset({"digital signature", "client auth"}), frozenset({"key encipherment"}))
_SERVING = (frozenset({"digital signature", "server auth"}), frozenset({"key encipherment"}))


def _api_client(request: x509.CertificateSigningRequest, usages: Collection[str]) -> None:
    for usage in usages:
        if usage not in ("digital signature", "key encipherment", "client auth"):
            raise NotSigned(f"invalid usage for client certificate: {usage}")
    if "client auth" not in usages:
        raise NotSigned("missing required usage for client certificate: client auth")


def check_kubelet_client(request: x509.CertificateSigningRequest, usages: Collection[str]) -> None:
    """What a kubelet's client certificate must be like. Raises NotSigned."""
    _check_organization(request)
    kinds = {type(name) for name in certificates.alternative_names(request)}
    for kind, word in ((x509.DNSName, "DNS"), (x509.RFC822Name, "Email"), (x509.IPAddress, "IP"), (_URI, "URI")):
        if kind in kinds:
            raise NotSigned(f"{word} subjectAltNames are not allowed")
    _check_node_name(request)
    _check_usages(usages, *_CLIENT)


def check_kubelet_serving(request: x509.CertificateSigningRequest, usages: Collection[str]) -> None:
    """What a kubelet's serving certificate must be like. Raises NotSigned."""
    _check_organization(request)
    kinds = {type(name) for name in certificates.alternative_names(request)}
    if not kinds & {x509.DNSName, x509.IPAddress}:
        raise NotSigned("DNS or IP subjectAltName is required")
    for kind, word in ((x509.RFC822Name, "Email"), (_URI, "URI")):
        if kind in kinds:
            raise NotSigned(f"{word} subjectAltNames are not allowed")
    _check_usages(usages, *_SERVING)
    _check_node_name(request)


_URI = x509.UniformResourceIdentifier


def _check_organization(request: x509.CertificateSigningRequest) -> None:
    if certificates.subject_of(request).organizations != (_NODES_GROUP,):
        raise NotSigned("subject organization is not system:nodes")


def _check_node_name(request: x509.CertificateSigningRequest) -> None:
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names or not str(names[-1].value).startswith(_NODE_PREFIX):
        raise NotSigned("subject common name does not begin with system:node:")


def _check_usages(usages: Collection[str], required: frozenset[str], optional: frozenset[str]) -> None:
    found = set(usages)
    if not required <= found <= required | optional:
        raise NotSigned(f"usages did not match [{' '.join(sorted(required | optional))}]")


def _anything(request: x509.CertificateSigningRequest, usages: Collection[str]) -> None:
    """The legacy signer signs what is approved."""


_RULES: dict[str, Callable[[x509.CertificateSigningRequest, Collection[str]], None]] = {
    API_CLIENT: _api_client,
    KUBELET_CLIENT: check_kubelet_client,
    KUBELET_SERVING: check_kubelet_serving,
    LEGACY_UNKNOWN: _anything,
}
BUILT_IN: Final = tuple(_RULES)
