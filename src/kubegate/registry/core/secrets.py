"""Secrets: types with keys of their own, `stringData`, and an immutable form. No value of theirs is in any error."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from kubegate.api import Object, field, gojson, names
from kubegate.api.field import FieldError
from kubegate.pki import pem
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import mapped, wrong
from kubegate.registry.core.configmaps import IMMUTABLE_SET, MAX_BYTES, decoded_size
from kubegate.registry.objectmeta import checked

SERVICE_ACCOUNT_TOKEN: Final = "kubernetes.io/service-account-token"
SERVICE_ACCOUNT_NAME: Final = "kubernetes.io/service-account.name"
TLS: Final = "kubernetes.io/tls"

_REDACTED = "<secret contents redacted>"
# Types whose one key must hold a JSON object.
_JSON_KEYS = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}


def _default(obj: Object) -> None:
    strings = obj.pop("stringData", None)
    if strings:
        data = obj.setdefault("data", {})
        for name, value in strings.items():
            data[name] = base64.b64encode(str(value).encode("utf-8", "surrogatepass")).decode()
    obj.setdefault("type", "Opaque")


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = []
    data = mapped(obj, "data")
    if old is not None:
        errors += field.immutable("type", obj.get("type", ""), old.get("type", ""))
        if old.get("immutable"):
            if not obj.get("immutable"):
                errors.append(field.forbidden("immutable", IMMUTABLE_SET))
            if data != mapped(old, "data"):
                errors.append(field.forbidden("data", IMMUTABLE_SET))
    size = 0
    for name, value in sorted(data.items()):
        errors += wrong(field.key("data", name), name, names.is_config_map_key(name))
        size += decoded_size(value or "")
    if size > MAX_BYTES:
        errors.append(field.too_long("data", MAX_BYTES))
    return errors + _validate_type(obj)


def _validate_type(obj: Object) -> list[FieldError]:
    data, kind = mapped(obj, "data"), obj.get("type", "")

    def required(name: str) -> FieldError:
        return field.required(field.key("data", name))

    if kind == SERVICE_ACCOUNT_TOKEN:
        if not mapped(obj["metadata"], "annotations").get(SERVICE_ACCOUNT_NAME):
            return [field.required(field.key("metadata.annotations", SERVICE_ACCOUNT_NAME))]
    elif kind in _JSON_KEYS:
        name = _JSON_KEYS[kind]
        if name not in data:
            return [required(name)]
        problem = _json_problem(_decoded(data[name]))
        if problem:
            return [field.invalid(field.key("data", name), _REDACTED, problem)]
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            return [required("username"), required("password")]
    elif kind == "kubernetes.io/ssh-auth":
        if not data.get("ssh-privatekey"):
            return [required("ssh-privatekey")]
    elif kind == TLS:
        return [required(name) for name in ("tls.crt", "tls.key") if name not in data]
    return []


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text or "")
    except (binascii.Error, ValueError):
        return b""


def _json_problem(content: bytes) -> str:
    """What Go says of content that is no JSON object; never more of the content than one character."""
    try:
        found = gojson.loads(content)
    except ValueError as error:
        return str(error)
    if found is None or isinstance(found, dict):
        return ""
    return gojson.cannot_unmarshal(found, "Go value of type map[string]interface {}")


def _warnings(obj: Object, old: Object | None) -> list[str]:
    if obj.get("type") != TLS:
        return []
    data = mapped(obj, "data")
    problem = _key_pair_problem(_decoded(data.get("tls.crt", "")), _decoded(data.get("tls.key", "")))
    return [problem] if problem else []


def _key_pair_problem(certificate: bytes, key: bytes) -> str:
    """Why a certificate and a key make no pair, in the words of Go's crypto/tls; empty where they do."""
    blocks = [block.kind for block in pem.blocks(certificate)]
    if "CERTIFICATE" not in blocks:
        if not blocks:
            return "tls: failed to find any PEM data in certificate input"
        if len(blocks) == 1 and blocks[0].endswith("PRIVATE KEY"):
            return (
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; "
                "PEM inputs may have been switched"
            )
        skipped = " ".join(blocks)
        return (
            'tls: failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM blocks '
            f"of the following types: [{skipped}]"
        )
    keys = [block.kind for block in pem.blocks(key)]
    if not any(block.endswith("PRIVATE KEY") for block in keys):
        if not keys:
            return "tls: failed to find any PEM data in key input"
        if keys == ["CERTIFICATE"]:
            return "tls: found a certificate rather than a key in the PEM for the private key"
        skipped = " ".join(keys)
        return (
            'tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input after skipping PEM blocks '
            f"of the following types: [{skipped}]"
        )
    return _mismatch(certificate, key)


def _mismatch(certificate: bytes, key: bytes) -> str:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        public = x509.load_pem_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "x509: malformed certificate"
    try:
        # Whether its numbers are primes is not asked: for a key of many bits that takes minutes.
        private = load_pem_private_key(key, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "tls: failed to parse private key"
    own = private.public_key()
    if type(own).__name__ != type(public).__name__:
        return "tls: private key type does not match public key type"
    encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    same = own.public_bytes(*encoding) == public.public_bytes(*encoding)
    return "" if same else "tls: private key does not match public key"


def _fields(obj: Object) -> dict[str, str]:
    return {"type": obj.get("type", "")}


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.Secret", _default),
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    fields=_fields,
    field_labels=("type",),
)
