"""CertificateSigningRequests: who asked is written down by the server; approval and certificate come by subresources.

Follows k8s.io/kubernetes/pkg/apis/certificates/validation and pkg/registry/certificates/certificates.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from kubegate.api import Object, field, names
from kubegate.api.clock import rfc3339
from kubegate.api.field import FieldError
from kubegate.authentication import user_info
from kubegate.pki import certificates, pem, signers
from kubegate.registry import Check, Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import repeated
from kubegate.registry.objectmeta import checked

MIN_SECONDS: Final = 600
_DECISIONS = ("Approved", "Denied")
_TRUE_ALONE = frozenset({"Approved", "Denied", "Failed"})
_STATUSES = ("False", "True", "Unknown")
_FOUND_BY_WHO_ASKED = ("username", "uid", "groups", "extra")
# A signer's name: a domain, and behind the slash room for a label and a subdomain.
_MAX_DOMAIN = 253
_MAX_SIGNER = _MAX_DOMAIN + 1 + 253 + 63 + 1


# ---------------------------------------------------------------------- what a write may set
def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    """On create the server says who asked; later the spec does not change any more."""
    if old is not None:
        obj["spec"] = old["spec"]
        return
    spec = obj.setdefault("spec", {})
    for name in _FOUND_BY_WHO_ASKED:
        spec.pop(name, None)
    spec.update(user_info(scope.context.user))
    obj["status"] = {}


def _prepare_approval(obj: Object, old: Object | None, scope: Scope) -> None:
    """Conditions alone change."""
    assert old is not None
    conditions = (obj.get("status") or {}).get("conditions")
    obj["spec"] = old["spec"]
    obj["status"] = {**(old.get("status") or {}), "conditions": conditions or []}
    _stamp(obj, old, scope)


def _prepare_status(obj: Object, old: Object | None, scope: Scope) -> None:
    """The decision is not the signer's: its conditions stay as they are, or `validate` finds that they did not."""
    assert old is not None
    obj["spec"] = old["spec"]
    obj["status"] = dict(obj.get("status") or {})
    kept = {kind: _of_type(old, kind) for kind in _DECISIONS}
    if all(len(_of_type(obj, kind)) == len(kept[kind]) for kind in _DECISIONS):
        obj["status"]["conditions"] = [kept[c["type"]].pop(0) if c.get("type") in kept else c for c in _conditions(obj)]
    _stamp(obj, old, scope)


def _stamp(obj: Object, old: Object, scope: Scope) -> None:
    """Times of conditions are those of the same condition before, else now."""
    now = rfc3339(scope.clock.now())
    stamped = []
    for condition in _conditions(obj):
        found = dict(condition)
        for name, same in (
            ("lastUpdateTime", ("type", "status", "reason", "message")),
            ("lastTransitionTime", ("type", "status")),
        ):
            if not found.get(name):
                found[name] = _earlier(old, found, name, same) or now
        stamped.append(found)
    if stamped:
        obj["status"]["conditions"] = stamped
    else:
        obj["status"].pop("conditions", None)


def _earlier(old: Object, condition: Mapping[str, Any], name: str, same: tuple[str, ...]) -> str:
    for before in _conditions(old):
        if all((before.get(key) or "") == (condition.get(key) or "") for key in same) and before.get(name):
            return str(before[name])
    return ""


# ---------------------------------------------------------------------- what is wrong
def validate(obj: Object) -> list[FieldError]:
    """The object by itself; metadata is checked generically."""
    spec = obj.get("spec") or {}
    return [
        *_validate_request(spec),
        *_validate_usages(spec),
        *validate_signer_name(spec.get("signerName") or ""),
        *_validate_expiration(spec),
        *_validate_conditions(obj),
        *_validate_certificate((obj.get("status") or {}).get("certificate") or ""),
    ]


def _validator(*, approval: bool = False, certificate: bool = False) -> Check:
    def check(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
        errors = validate(obj)
        if old is not None:
            errors += _validate_update(obj, old, approval=approval, certificate=certificate)
        return errors

    return check


def _validate_request(spec: Mapping[str, Any]) -> list[FieldError]:
    encoded = spec.get("request")
    problem = _request_problem(_decoded(encoded))
    return [field.invalid("spec.request", encoded or None, problem)] if problem else []


def _request_problem(text: bytes) -> str:
    block = next(pem.blocks(text), None)
    if block is None or block.kind != "CERTIFICATE REQUEST":
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        request = x509.load_der_x509_csr(block.data)
    except ValueError:
        return pem.misread(block.data, _REQUEST) or "asn1: structure error: malformed certificate request"
    try:
        key = request.public_key()
    except Exception:  # of a kind that the library does not know, or no key at all
        return _unread_key(block.data) or _UNIMPLEMENTED
    if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(key.curve, _CURVES):
        return _UNSUPPORTED
    if request.signature_algorithm_oid not in _SIGNATURES:
        return _UNIMPLEMENTED
    try:
        return "" if request.is_signature_valid else _forged(key)
    except Exception:  # an algorithm that the library does not know
        return _UNIMPLEMENTED


# How Go reads the beginning of a certificate request.
_REQUEST = (
    (pem.SEQUENCE, "certificateRequest"),
    (pem.SEQUENCE, "tbsCertificateRequest"),
    (pem.INTEGER, "int"),
)


_UNIMPLEMENTED = "x509: cannot verify signature: algorithm unimplemented"
_UNSUPPORTED = "x509: unsupported elliptic curve"
_SIGNATURES = frozenset(
    {
        SignatureAlgorithmOID.RSA_WITH_SHA1,
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
        SignatureAlgorithmOID.RSASSA_PSS,
        SignatureAlgorithmOID.ECDSA_WITH_SHA1,
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
        SignatureAlgorithmOID.ECDSA_WITH_SHA512,
        SignatureAlgorithmOID.ED25519,
    }
)
_CURVES = (ec.SECP224R1, ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
# Object identifiers in DER: of keys on curves, and of the curves that Go knows.
_ON_A_CURVE = bytes.fromhex("06072a8648ce3d0201")
_CURVE_NAMES = {
    bytes.fromhex("06052b81040021"): "P224",
    bytes.fromhex("06082a8648ce3d030107"): "P256",
    bytes.fromhex("06052b81040022"): "P384",
    bytes.fromhex("06052b81040023"): "P521",
}


def _unread_key(request: bytes) -> str:
    """What Go says of a key on a curve that cannot be read; "" for other keys."""
    _, there, curve = request.partition(_ON_A_CURVE)
    if not there:
        return ""
    name = next((name for oid, name in _CURVE_NAMES.items() if curve.startswith(oid)), "")
    return f"{name} point not on curve" if name else _UNSUPPORTED


def _forged(key: object) -> str:
    """What Go says of a wrong signature, by the kind of the key."""
    match key:
        case rsa.RSAPublicKey():
            return "crypto/rsa: verification error"
        case ec.EllipticCurvePublicKey():
            return "x509: ECDSA verification failure"
        case _:
            return "x509: Ed25519 verification failure"


def _validate_usages(spec: Mapping[str, Any]) -> list[FieldError]:
    usages = spec.get("usages") or []
    if not usages:
        return [field.required("spec.usages")]
    errors = [
        field.not_supported(field.index("spec.usages", position), usage, sorted(signers.USAGES))
        for position, usage in enumerate(usages)
        if usage not in signers.USAGES
    ]
    errors += [
        field.duplicate(field.index("spec.usages", position), usages[position]) for position in sorted(repeated(usages))
    ]
    return errors


def validate_signer_name(signer: str, path: str = "spec.signerName") -> list[FieldError]:
    """A domain of two parts at least, a slash, and a name."""
    if signer == signers.LEGACY_UNKNOWN:
        return [field.invalid(path, signer, "the legacy signerName is not allowed via this API version")]
    if not signer:
        return [field.required(path)]
    segments = signer.split("/")
    if len(segments) != 2:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [field.invalid(path, signer, text)]
    domain, name = segments
    errors = [field.too_long(path, _MAX_DOMAIN)] if len(domain) > _MAX_DOMAIN else []
    errors += _validate_labels(path, domain, names.is_dns1123_label)
    if "." not in domain:
        errors.append(field.invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    errors += _validate_labels(path, name, names.is_dns1123_subdomain)
    if len(signer) > _MAX_SIGNER:
        errors.append(field.too_long(path, _MAX_SIGNER))
    return errors


def _validate_labels(path: str, segment: str, check: Callable[[str], list[str]]) -> list[FieldError]:
    """What is wrong with the first label that is not right."""
    for label in segment.split("."):
        problems = check(label)
        if problems:
            return [field.invalid(path, segment, f"validating label {field.quoted(label)}: {p}") for p in problems]
    return []


def _validate_expiration(spec: Mapping[str, Any]) -> list[FieldError]:
    seconds = spec.get("expirationSeconds")
    if seconds is None or seconds >= MIN_SECONDS:
        return []
    text = "may not specify a duration less than 600 seconds (10 minutes)"
    return [field.invalid("spec.expirationSeconds", seconds, text)]


def _validate_conditions(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, condition in enumerate(_conditions(obj)):
        path = field.index("status.conditions", position)
        kind, value = condition.get("type") or "", condition.get("status") or ""
        if not kind:
            errors.append(field.required(f"{path}.type"))
        allowed = ("True",) if kind in _TRUE_ALONE else _STATUSES
        if not value:
            errors.append(field.required(f"{path}.status"))
        elif value not in allowed:
            errors.append(field.not_supported(f"{path}.status", value, allowed))
        if kind in _DECISIONS and seen & (set(_DECISIONS) - {kind}):
            text = "Approved and Denied conditions are mutually exclusive"
            errors.append(field.invalid("status.conditions", kind, text))
        if kind in seen:
            errors.append(field.duplicate(f"{path}.type", kind))
        seen.add(kind)
    return errors


def _validate_certificate(encoded: str) -> list[FieldError]:
    problem = _certificate_problem(_decoded(encoded)) if encoded else ""
    return [field.invalid("status.certificate", "<certificate data>", problem)] if problem else []


def _certificate_problem(text: bytes) -> str:
    empty = True
    for block in pem.blocks(text):
        if block.kind != "CERTIFICATE":
            return f"only CERTIFICATE PEM blocks are allowed, found {field.quoted(block.kind)}"
        if block.headers:
            return "no PEM block headers are permitted"
        if not block.data:
            return "found CERTIFICATE PEM block containing 0 certificates"
        for der in pem.elements(block.data):
            if problem := pem.misread_certificate(der):
                return problem
            try:
                certificates.parse_der(der)
            except certificates.BadCertificate:
                return "x509: malformed certificate"
        empty = False
    return "must contain at least one CERTIFICATE PEM block" if empty else ""


def _validate_update(obj: Object, old: Object, *, approval: bool, certificate: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for kind in ("Approved", "Denied", "Failed"):
        if len(_of_type(obj, kind)) < len(_of_type(old, kind)):
            text = f'updates may not remove a condition of type "{kind}"'
            errors.append(field.forbidden("status.conditions", text))
    if not approval:
        for kind in _DECISIONS:
            if len(_of_type(obj, kind)) > len(_of_type(old, kind)):
                text = f'updates may not add a condition of type "{kind}"'
                errors.append(field.forbidden("status.conditions", text))
    new_certificate = (obj.get("status") or {}).get("certificate")
    old_certificate = (old.get("status") or {}).get("certificate")
    if (new_certificate or None) != (old_certificate or None):
        if not certificate:
            errors.append(field.forbidden("status.certificate", "updates may not set certificate content"))
        elif old_certificate:
            errors.append(field.forbidden("status.certificate", "updates may not modify existing certificate content"))
    return errors


# ---------------------------------------------------------------------- shapes
def _conditions(obj: Object) -> list[dict[str, Any]]:
    return list((obj.get("status") or {}).get("conditions") or [])


def _of_type(obj: Object, kind: str) -> list[dict[str, Any]]:
    return [condition for condition in _conditions(obj) if condition.get("type") == kind]


def _decoded(encoded: Any) -> bytes:
    try:
        return base64.b64decode(encoded or "")
    except (binascii.Error, TypeError, ValueError):
        return b""


RULES = Rules(
    default=Defaulted("io.k8s.api.certificates.v1.CertificateSigningRequest"),
    prepare=_prepare,
    validate=checked(_validator(), again="path"),
    status=True,
    fields=lambda obj: {"spec.signerName": (obj.get("spec") or {}).get("signerName") or ""},
    field_labels=("spec.signerName",),
    name=lambda name, prefix: [],
    subresources={
        "approval": Rules(prepare=_prepare_approval, validate=checked(_validator(approval=True), again="path")),
        "status": Rules(prepare=_prepare_status, validate=checked(_validator(certificate=True), again="path")),
    },
)
