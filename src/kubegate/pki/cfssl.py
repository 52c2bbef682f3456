"""cfssl's own files: requests (`ca-csr.json`, `server-csr.json`) and signing configurations (`ca-config.json`).

Who has them goes on using them: the same JSON makes the same certificates, in files with the same names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from cryptography import x509
from cryptography.x509.oid import NameOID

from kubegate.pki import certificates, keys, signers
from kubegate.pki.certificates import Authority
from kubegate.pki.keys import PrivateKey

_ALGORITHMS = {
    ("rsa", 2048): "rsa-2048",
    ("rsa", 3072): "rsa-3072",
    ("rsa", 4096): "rsa-4096",
    ("ecdsa", 256): "ecdsa-p256",
    ("ecdsa", 384): "ecdsa-p384",
    ("ecdsa", 521): "ecdsa-p521",
    ("ed25519", 0): "ed25519",
}
# The fields of one of `names`, in the order in which they stand in a subject.
_NAME_FIELDS = (
    ("C", NameOID.COUNTRY_NAME),
    ("ST", NameOID.STATE_OR_PROVINCE_NAME),
    ("L", NameOID.LOCALITY_NAME),
    ("O", NameOID.ORGANIZATION_NAME),
    ("OU", NameOID.ORGANIZATIONAL_UNIT_NAME),
)
_UNITS = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_DEFAULT_USAGES = ("signing", "key encipherment", "server auth", "client auth")
_DEFAULT_EXPIRY = timedelta(hours=8760)
_CA_EXPIRY = timedelta(hours=43800)


class BadCfsslFile(ValueError):
    """What is wrong in one of cfssl's files; the text begins with the file and names the place."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as cfssl writes it. `ca_expiry` and `ca_path_length` are for `-initca` alone."""

    name: x509.Name
    hosts: tuple[str, ...]
    algorithm: str
    ca_expiry: timedelta = _CA_EXPIRY
    ca_path_length: int | None = None

    @property
    def common_name(self) -> str:
        found = self.name.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(found[-1].value) if found else ""


@dataclass(frozen=True, slots=True)
class Profile:
    """How to sign: usages by their names, and how long it lasts."""

    usages: tuple[str, ...] = _DEFAULT_USAGES
    expiry: timedelta = _DEFAULT_EXPIRY
    authority: bool = False
    path_length: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What `gencert` makes: NAME.pem, NAME-key.pem and NAME.csr."""

    certificate: x509.Certificate
    key: PrivateKey
    request: x509.CertificateSigningRequest


def parse_request(data: bytes, source: str) -> Request:
    """Read a request. Raises BadCfsslFile."""
    document = _object(data, source)
    attributes: list[x509.NameAttribute[str]] = []
    for position, entry in enumerate(_list(document, "names", source)):
        if not isinstance(entry, dict):
            raise BadCfsslFile(f"{source}: names[{position}]: must be a mapping")
        for field, oid in _NAME_FIELDS:
            if entry.get(field):
                attributes.append(_attribute(oid, entry[field], f"{source}: names[{position}].{field}"))
    common_name = document.get("CN") or ""
    if common_name:
        attributes.append(_attribute(NameOID.COMMON_NAME, common_name, f"{source}: CN"))
    key = document.get("key") or {}
    algorithm = _ALGORITHMS.get((str(key.get("algo", "ecdsa")), int(key.get("size", 0 if "algo" in key else 256))))
    if algorithm is None:
        known = ", ".join(f"{name} {size}".removesuffix(" 0") for name, size in _ALGORITHMS)
        raise BadCfsslFile(f"{source}: key: {key} is not supported; there are {known}")
    ca = document.get("ca") or {}
    return Request(
        name=x509.Name(attributes),
        hosts=tuple(str(host) for host in _list(document, "hosts", source) if host),
        algorithm=algorithm,
        ca_expiry=_duration(ca["expiry"], f"{source}: ca.expiry") if ca.get("expiry") else _CA_EXPIRY,
        ca_path_length=_path_length(ca.get("pathlen"), ca.get("pathlenzero")),
    )


def parse_profile(data: bytes, source: str, name: str = "") -> Profile:
    """Read one profile of a signing configuration, its default where none is named. Raises BadCfsslFile."""
    signing = _object(data, source).get("signing") or {}
    default = signing.get("default") or {}
    profiles = signing.get("profiles") or {}
    if name and name not in profiles:
        raise BadCfsslFile(
            f"{source}: signing.profiles: there is no {name!r}; there are {', '.join(profiles) or 'none'}"
        )
    chosen = profiles[name] if name else default
    place = f"{source}: signing.profiles.{name}" if name else f"{source}: signing.default"
    usages = tuple(chosen.get("usages") or default.get("usages") or _DEFAULT_USAGES)
    unknown = [usage for usage in usages if usage not in signers.USAGES]
    if unknown:
        raise BadCfsslFile(f"{place}.usages: unknown: {', '.join(map(str, unknown))}")
    expiry = chosen.get("expiry") or default.get("expiry")
    constraint = chosen.get("ca_constraint") or {}
    return Profile(
        usages=usages,
        expiry=_duration(expiry, f"{place}.expiry") if expiry else _DEFAULT_EXPIRY,
        authority=bool(constraint.get("is_ca")),
        path_length=_path_length(constraint.get("max_path_len"), constraint.get("max_path_len_zero")),
    )


def init_ca(request: Request) -> Made:
    """`gencert -initca`: a new authority."""
    made = certificates.new_authority(
        request.name,
        days=request.ca_expiry / timedelta(days=1),
        algorithm=request.algorithm,
        path_length=request.ca_path_length,
    )
    return Made(made.certificate, made.key, certificates.new_request(made.key, request.name, hosts=request.hosts))


def generate(authority: Authority, request: Request, profile: Profile) -> Made:
    """`gencert -ca … -ca-key … -config … -profile …`: a certificate with a new key."""
    key = keys.generate(request.algorithm)
    key_usage, extended = signers.usages_of(profile.usages)
    made = certificates.issue(
        authority,
        key.public_key(),
        request.name,
        usages=extended,
        hosts=request.hosts,
        days=profile.expiry / timedelta(days=1),
        key_usage=key_usage,
        constraints=x509.BasicConstraints(profile.authority, profile.path_length if profile.authority else None),
    )
    return Made(made, key, certificates.new_request(key, request.name, hosts=request.hosts))


def _object(data: bytes, source: str) -> dict[str, Any]:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadCfsslFile(f"{source}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    if not isinstance(found, dict):
        raise BadCfsslFile(f"{source}: must be a JSON object")
    return found


def _list(document: Mapping[str, Any], name: str, source: str) -> Sequence[Any]:
    found = document.get(name) or []
    if not isinstance(found, list):
        raise BadCfsslFile(f"{source}: {name}: must be a list")
    return found


def _attribute(oid: x509.ObjectIdentifier, value: Any, place: str) -> x509.NameAttribute[str]:
    try:
        return x509.NameAttribute(oid, str(value))
    except ValueError as error:
        raise BadCfsslFile(f"{place}: {error}") from None


def _path_length(value: Any, zero: Any) -> int | None:
    """cfssl's 0 means none was given, unless it says that it means zero."""
    if zero:
        return 0
    return int(value) if value else None


def _duration(text: Any, place: str) -> timedelta:
    """Go's durations: `8760h`, `1h30m`."""
    parts = _DURATION.findall(str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text):
        raise BadCfsslFile(f"{place}: {text!r} is no duration, as 8760h")
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
