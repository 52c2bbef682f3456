"""Certificates: authorities, server and client certificates, signing requests; made, signed and read as PEM.

Times are aware datetimes in UTC. Names follow Kubernetes: a user is a common name, its groups are organizations.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from kubegate.pki import files, keys
from kubegate.pki.keys import PrivateKey, PublicKey

UID_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
"""The subject attribute that carries a user's uid (KEP-4828)."""

BACKDATE = timedelta(minutes=5)
"""How far before now a certificate's life begins, so that clocks that differ a little do no harm."""

SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER_AND_CLIENT = SERVER + CLIENT


NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)


class BadCertificate(ValueError):
    """A file or text that should hold a certificate or a signing request does not."""


class Subject(Struct, frozen=True):
    """Who a certificate is for. `uid` goes into Kubernetes' own subject attribute."""

    common_name: str
    organizations: tuple[str, ...] = ()
    uid: str = ""

    def name(self) -> x509.Name:
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in self.organizations]
        if self.uid:
            attributes.append(x509.NameAttribute(UID_OID, self.uid))
        if self.common_name:
            attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, self.common_name))
        return x509.Name(attributes)


class Authority(Struct, frozen=True):
    """A CA that can sign: its certificate and private key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> bytes:
        return certificate_pem(self.certificate)


def new_authority(
    common_name: str | x509.Name,
    *,
    days: float = 3650,
    algorithm: str = keys.DEFAULT_ALGORITHM,
    key: PrivateKey | None = None,
    path_length: int | None = None,
    now: datetime | None = None,
) -> Authority:
    """A CA with a certificate signed by its own key."""
    private = key or keys.generate(algorithm)
    start = _moment(now)
    name = Subject(common_name).name() if isinstance(common_name, str) else common_name
    public = private.public_key()
    content = _Content(
        key_usage=_key_usage(public, authority=True),
        constraints=x509.BasicConstraints(ca=True, path_length=path_length),
        identifier=x509.AuthorityKeyIdentifier.from_issuer_public_key(public),
    )
    builder = _builder(name, name, public, start - BACKDATE, start + timedelta(days=days), content)
    return Authority(builder.sign(private, _digest(private)), private)


def issue(
    authority: Authority,
    public_key: PublicKey,
    subject: Subject | x509.Name,
    *,
    usages: Sequence[x509.ObjectIdentifier] = CLIENT,
    hosts: Iterable[str] = (),
    days: float = 365,
    not_after: datetime | None = None,
    now: datetime | None = None,
    key_usage: x509.KeyUsage | None = None,
    constraints: x509.BasicConstraints = NO_AUTHORITY,
) -> x509.Certificate:
    """A certificate for `public_key`, signed by `authority`, that ends no later than the authority does.

    `hosts` are DNS names, IP addresses (with or without brackets), mail addresses and URIs. `not_after` wins over
    `days`. Without `key_usage` it is what goes with the key; `constraints` make it an authority itself.
    """
    start = _moment(now)
    end = min(not_after or start + timedelta(days=days), authority.certificate.not_valid_after_utc)
    name = subject.name() if isinstance(subject, Subject) else subject
    content = _Content(
        key_usage=key_usage or _key_usage(public_key, authority=constraints.ca),
        usages=tuple(usages),
        constraints=constraints,
        identifier=authority_key_identifier(authority),
        names=tuple(general_names(hosts)),
    )
    builder = _builder(name, authority.certificate.subject, public_key, start - BACKDATE, end, content)
    return builder.sign(authority.key, _digest(authority.key))


def new_request(
    key: PrivateKey, subject: Subject | x509.Name, *, hosts: Iterable[str] = ()
) -> x509.CertificateSigningRequest:
    """A signing request for `key`, signed by it."""
    name = subject.name() if isinstance(subject, Subject) else subject
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    names = general_names(hosts)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, _digest(key))


def sign_request(
    authority: Authority,
    request: x509.CertificateSigningRequest,
    *,
    usages: Sequence[x509.ObjectIdentifier],
    key_usage: x509.KeyUsage | None = None,
    not_before: datetime,
    not_after: datetime,
) -> x509.Certificate:
    """Sign a request with the subject and the alternative names that it asks for, and nothing else of it.

    They stand in the order in which Go writes them, whatever the request's. Whether it may have them is for the caller
    to say (see `signers`); without `key_usage` the certificate names none. Raises BadCertificate where the request's
    own signature is wrong.
    """
    if not request.is_signature_valid:
        raise BadCertificate("the signature of the request is not valid")
    public = request.public_key()
    if not isinstance(public, PublicKey):
        raise BadCertificate(f"keys of type {type(public).__name__} are not supported")
    end = min(not_after, authority.certificate.not_valid_after_utc)
    content = _Content(
        key_usage=key_usage,
        usages=tuple(usages),
        constraints=NO_AUTHORITY,
        identifier=authority_key_identifier(authority),
        key_identifier=False,
        names=tuple(name for kind in _NAMES for name in alternative_names(request) if isinstance(name, kind)),
    )
    builder = _builder(_as_written(request.subject), authority.certificate.subject, public, not_before, end, content)
    return builder.sign(authority.key, _digest(authority.key))


# What Go reads of a subject and of alternative names, in the order in which it writes it.
_TOGETHER = (
    NameOID.COUNTRY_NAME,
    NameOID.STATE_OR_PROVINCE_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.STREET_ADDRESS,
    NameOID.POSTAL_CODE,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
)
_LAST = (NameOID.COMMON_NAME, NameOID.SERIAL_NUMBER)
_NAMES = (x509.DNSName, x509.RFC822Name, x509.IPAddress, x509.UniformResourceIdentifier)


def _as_written(subject: x509.Name) -> x509.Name:
    """Values of one kind stand together, sorted by their bytes; of common names and serial numbers the last is one."""
    parts = [subject.get_attributes_for_oid(oid) for oid in _TOGETHER]
    parts += [subject.get_attributes_for_oid(oid)[-1:] for oid in _LAST]
    return x509.Name([x509.RelativeDistinguishedName(dict.fromkeys(part)) for part in parts if part])


def authority_key_identifier(authority: Authority) -> x509.AuthorityKeyIdentifier:
    try:
        found = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        public = authority.key.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def general_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """DNS names, IP addresses, mail addresses and URIs as alternative names, each once, in order."""
    names: list[x509.GeneralName] = []
    for host in hosts:
        name = _general_name(host)
        if name not in names:
            names.append(name)
    return names


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    if "://" in host:
        return x509.UniformResourceIdentifier(host)
    return x509.RFC822Name(host) if "@" in host else x509.DNSName(host)


def alternative_names(
    source: x509.Certificate | x509.CertificateSigningRequest,
) -> list[x509.GeneralName]:
    """The subject alternative names, [] where there are none."""
    try:
        return list(source.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def hosts_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    """The names that a certificate is good for, as `general_names` takes them."""
    kinds = (x509.DNSName, x509.IPAddress, x509.RFC822Name, x509.UniformResourceIdentifier)
    return [str(name.value) for name in alternative_names(certificate) if isinstance(name, kinds)]


def subject_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> Subject:
    """Name, groups and uid; of several common names the last one, as Go's x509 reads them."""

    def values(oid: x509.ObjectIdentifier) -> list[str]:
        return [_text(a.value) for a in certificate.subject.get_attributes_for_oid(oid)]

    common_names, uids = values(NameOID.COMMON_NAME), values(UID_OID)
    return Subject(
        common_names[-1] if common_names else "",
        tuple(values(NameOID.ORGANIZATION_NAME)),
        uids[-1] if uids else "",
    )


def certificate_pem(*chain: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def request_pem(request: x509.CertificateSigningRequest) -> bytes:
    return request.public_bytes(serialization.Encoding.PEM)


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate's DER form in lower case hex, as Kubernetes names a credential."""
    return hashlib.sha256(der).hexdigest()


def parse_certificates(pem: bytes, source: str = "certificates") -> list[x509.Certificate]:
    """All certificates of a PEM text, in order. `source` names it in errors. BadCertificate where there is none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise BadCertificate(f"{source}: no PEM certificate could be read ({error})") from None


def parse_der(der: bytes) -> x509.Certificate:
    """Read one certificate as TLS hands it over. Raises BadCertificate."""
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise BadCertificate(f"no certificate could be read ({error})") from None


def load_certificates(path: Path) -> list[x509.Certificate]:
    """Read a PEM file of certificates. Raises BadCertificate (its text names the file), OSError."""
    return parse_certificates(path.read_bytes(), str(path))


def renew(
    authority: Authority, certificate: x509.Certificate, *, days: float, now: datetime | None = None
) -> x509.Certificate:
    """The same certificate for the same key, with a new serial number and a new life.

    Raises BadCertificate where it is not of this authority, or for a key of another kind.
    """
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except Exception:
        raise BadCertificate("the certificate was not signed by this authority") from None
    public = certificate.public_key()
    if not isinstance(public, PublicKey):
        raise BadCertificate(f"keys of type {type(public).__name__} are not supported")
    start = _moment(now)
    end = min(start + timedelta(days=days), authority.certificate.not_valid_after_utc)
    builder = _start(certificate.subject, authority.certificate.subject, public, start - BACKDATE, end)
    for extension in certificate.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    builder = builder.add_extension(authority_key_identifier(authority), critical=False)
    return builder.sign(authority.key, _digest(authority.key))


def parse_request(pem: bytes, source: str = "certificate signing request") -> x509.CertificateSigningRequest:
    """Read one PEM signing request. Raises BadCertificate."""
    try:
        return x509.load_pem_x509_csr(pem)
    except (ValueError, x509.InvalidVersion) as error:
        raise BadCertificate(f"{source}: no PEM certificate request could be read ({error})") from None


def load_authority(certificate: Path, key: Path) -> Authority:
    """Read a CA from its two files. Raises BadCertificate where they do not belong together, BadKey, OSError."""
    found, private = load_certificates(certificate)[0], keys.load_private(key)
    if found.public_key() != private.public_key():
        raise BadCertificate(f"{key} is not the key of {certificate}")
    return Authority(found, private)


def save_pair(certificate: x509.Certificate, key: PrivateKey, base: Path, *, force: bool = False) -> None:
    """Write BASE.crt and BASE.key (0600). Raises FileExistsError where one of them exists, unless `force`."""
    keys.save(key, base.with_name(f"{base.name}.key"), force=force)
    files.write_public(base.with_name(f"{base.name}.crt"), certificate_pem(certificate), force=force)


def _moment(now: datetime | None) -> datetime:
    return (now or datetime.now(UTC)).replace(microsecond=0)


class _Content(Struct, frozen=True):
    """What a certificate says beside whose it is. No key usage: it names none.

    `identifier` is the authority's key; `key_identifier`: whether its own is told.
    """

    key_usage: x509.KeyUsage | None
    constraints: x509.BasicConstraints
    identifier: x509.AuthorityKeyIdentifier
    key_identifier: bool = True
    usages: tuple[x509.ObjectIdentifier, ...] = ()
    names: tuple[x509.GeneralName, ...] = ()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, start: datetime, end: datetime, content: _Content
) -> x509.CertificateBuilder:
    """Extensions stand in the order in which Go writes them, which is how Kubernetes' own certificates look."""
    builder = _start(subject, issuer, key, start, end)
    if content.key_usage is not None:
        builder = builder.add_extension(content.key_usage, critical=True)
    if content.usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(content.usages), critical=False)
    builder = builder.add_extension(content.constraints, critical=True)
    if content.key_identifier:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    builder = builder.add_extension(content.identifier, critical=False)
    if content.names:
        # a certificate without a subject must mark its names as critical (RFC 5280, 4.2.1.6)
        names = x509.SubjectAlternativeName(content.names)
        builder = builder.add_extension(names, critical=not list(subject))
    return builder


def _start(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    """Raises BadCertificate where it would end before it begins: its authority has."""
    if end <= start:
        raise BadCertificate("the authority's own certificate has ended")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _key_usage(key: PublicKey, *, authority: bool) -> x509.KeyUsage:
    """Only RSA keys encipher keys; the other kinds sign alone."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=isinstance(key, rsa.RSAPublicKey),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """The hash that goes with a key's strength; Ed25519 has its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, rsa.RSAPrivateKey) or key.key_size <= 256:
        return hashes.SHA256()
    return hashes.SHA384() if key.key_size <= 384 else hashes.SHA512()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
