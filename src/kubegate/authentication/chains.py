"""Is this client certificate signed by one of ours? Chains are built and checked as Go's crypto/x509 does it.

cryptography's own verifier holds certificates to the web's rules (alternative names, critical extensions), which
certificates of clusters, and the CAs that people make with openssl or cfssl, need not meet. Signatures are its work.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID
from msgspec import Struct

from kubegate.authentication.x509 import VerificationError
from kubegate.pki import certificates
from kubegate.remote.errors import expiry_text

MAX_SIGNATURE_CHECKS = 100
MAX_CONSTRAINT_CHECKS = 250_000
MAX_CHAIN = 10
_HANDLED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    }
)
_WEAK = (hashes.MD5, hashes.SHA1)


class _Certificate:
    """A certificate with its extensions read once. Raises VerificationError where it is malformed."""

    __slots__ = (
        "basic", "certificate", "der", "end", "issuer", "key_usage", "names", "permitted", "start", "subject", "usages"
    )  # fmt: skip

    def __init__(self, certificate: x509.Certificate, der: bytes) -> None:
        self.certificate, self.der = certificate, der
        self.basic: x509.BasicConstraints | None = None
        self.key_usage: x509.KeyUsage | None = None
        self.usages: frozenset[x509.ObjectIdentifier] | None = None
        self.names: tuple[x509.GeneralName, ...] = ()
        self.permitted: x509.NameConstraints | None = None
        try:
            self.start, self.end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            self.subject, self.issuer = certificate.subject.public_bytes(), certificate.issuer.public_bytes()
            for extension in certificate.extensions:
                value = extension.value
                if isinstance(value, x509.BasicConstraints):
                    self.basic = value
                elif isinstance(value, x509.KeyUsage):
                    self.key_usage = value
                elif isinstance(value, x509.ExtendedKeyUsage):
                    self.usages = frozenset(value)
                elif isinstance(value, x509.SubjectAlternativeName):
                    self.names = tuple(value)
                elif isinstance(value, x509.NameConstraints):
                    self.permitted = value
                if extension.critical and extension.oid not in _HANDLED:
                    raise VerificationError("x509: unhandled critical extension")
        except VerificationError:
            raise
        except Exception as error:  # the library has many for bytes that are not what they should be
            raise VerificationError(f"x509: malformed certificate ({type(error).__name__})") from None

    @property
    def authority(self) -> bool:
        return self.basic is not None and self.basic.ca


class Pool(Struct, frozen=True):
    """The certificates that are trusted to sign, by subject."""

    by_subject: dict[bytes, tuple[_Certificate, ...]]
    pem: bytes

    @classmethod
    def parse(cls, pem: bytes, source: str = "certificate authorities") -> Pool:
        """Read a PEM bundle. Raises pki.certificates.BadCertificate where there is no certificate in it."""
        found: dict[bytes, list[_Certificate]] = {}
        for certificate in certificates.parse_certificates(pem, source):
            try:
                anchor = _Certificate(certificate, certificates.der(certificate))
            except VerificationError as error:
                raise certificates.BadCertificate(f"{source}: {error}") from None
            found.setdefault(anchor.subject, []).append(anchor)
        return cls({subject: tuple(anchors) for subject, anchors in found.items()}, pem)


class Verified(Struct, frozen=True):
    """A leaf that is trusted, and until when (seconds since 1970): the end of the first certificate of its chain."""

    leaf: x509.Certificate
    until: float


def verify(
    chain: Sequence[bytes],
    pool: Pool,
    now: float,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
) -> Verified:
    """Find a way from the leaf (first in `chain`, DER) to a certificate of `pool` that is good for `usage` at `now`.

    The other certificates of `chain` may be used on the way and are trusted for nothing. Raises VerificationError.
    """
    moment = datetime.fromtimestamp(now, UTC)
    parsed = [_parse(der) for der in chain[:MAX_CHAIN]]
    leaf, others = parsed[0], parsed[1:]
    _check_time(leaf, moment)
    path = _Search(pool, others, moment, usage).find([leaf])
    until = min(found.end for found in path).timestamp()
    return Verified(leaf.certificate, until)


def _parse(der: bytes) -> _Certificate:
    try:
        return _Certificate(certificates.parse_der(der), der)
    except certificates.BadCertificate:
        raise VerificationError("x509: malformed certificate") from None


class _Search:
    """Depth first through those that could have signed; the number of signatures looked at is bounded."""

    def __init__(self, pool: Pool, others: list[_Certificate], now: datetime, usage: x509.ObjectIdentifier) -> None:
        self._pool, self._others, self._now, self._usage = pool, others, now, usage
        self._checks = 0

    def find(self, path: list[_Certificate]) -> list[_Certificate]:
        error = VerificationError("x509: certificate signed by unknown authority")
        last = path[-1]
        anchors = self._pool.by_subject.get(last.subject, ())
        if len(path) == 1 and any(anchor.der == last.der for anchor in anchors):
            # the leaf itself is in the pool
            self._check_usages(path)
            return path
        candidates = [(anchor, True) for anchor in self._pool.by_subject.get(last.issuer, ())]
        candidates += [(other, False) for other in self._others if other.subject == last.issuer]
        for candidate, trusted in candidates:
            if any(candidate.der == known.der for known in path):
                continue
            try:
                self._check_signed(last, candidate)
                self._check_authority(candidate, trusted, path)
                longer = [*path, candidate]
                if trusted:
                    self._check_usages(longer)
                    return longer
                if len(longer) < MAX_CHAIN:
                    return self.find(longer)
            except VerificationError as found:
                error = found
        raise error

    def _check_signed(self, child: _Certificate, parent: _Certificate) -> None:
        self._checks += 1
        if self._checks > MAX_SIGNATURE_CHECKS:
            raise VerificationError("x509: signature check attempts limit reached while verifying certificate chain")
        if parent.basic is None and parent.certificate.version is x509.Version.v3:
            raise VerificationError("x509: invalid signature: parent certificate cannot sign this kind of certificate")
        if parent.basic is not None and not parent.basic.ca:
            raise VerificationError("x509: invalid signature: parent certificate cannot sign this kind of certificate")
        if parent.key_usage is not None and not parent.key_usage.key_cert_sign:
            raise VerificationError("x509: invalid signature: parent certificate cannot sign this kind of certificate")
        try:
            if isinstance(child.certificate.signature_hash_algorithm, _WEAK):
                raise VerificationError("x509: cannot verify signature: insecure algorithm")
            child.certificate.verify_directly_issued_by(parent.certificate)
        except (InvalidSignature, ValueError, TypeError):
            raise VerificationError("x509: certificate signed by unknown authority") from None
        except Exception as error:  # an algorithm that the library does not know
            raise VerificationError(f"x509: cannot verify signature ({type(error).__name__})") from None

    def _check_authority(self, candidate: _Certificate, trusted: bool, path: list[_Certificate]) -> None:
        _check_time(candidate, self._now)
        if not trusted and not candidate.authority:
            raise VerificationError("x509: certificate is not authorized to sign other certificates")
        limit = candidate.basic.path_length if candidate.basic is not None else None
        if limit is not None and len(path) - 1 > limit:
            raise VerificationError("x509: too many intermediates for path length constraint")
        if candidate.permitted is not None:
            for below in path:
                _check_names(below.names, candidate.permitted)

    def _check_usages(self, path: Iterable[_Certificate]) -> None:
        """Each certificate that names usages at all must name this one, or any."""
        for certificate in path:
            usages = certificate.usages
            if usages is None or self._usage in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages:
                continue
            raise VerificationError("x509: certificate specifies an incompatible key usage")


def _check_time(certificate: _Certificate, now: datetime) -> None:
    if not certificate.start <= now <= certificate.end:
        raise VerificationError(f"x509: {expiry_text(certificate.start, certificate.end, now)}")


def _check_names(names: Sequence[x509.GeneralName], constraints: x509.NameConstraints) -> None:
    permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
    if len(names) * (len(permitted) + len(excluded)) > MAX_CONSTRAINT_CHECKS:
        raise VerificationError("x509: too many constraints")
    for constraint in (*permitted, *excluded):
        if not isinstance(constraint, x509.DNSName | x509.IPAddress | x509.RFC822Name | x509.UniformResourceIdentifier):
            raise VerificationError("x509: unhandled critical extension")
    for name in names:
        kind = type(name)
        if any(_matches(name, c) for c in excluded if isinstance(c, kind)):
            raise VerificationError(
                f'x509: a root or intermediate certificate is not authorized to sign for this name: "{name.value}" is '
                "excluded by a constraint"
            )
        allowed = [c for c in permitted if isinstance(c, kind)]
        if allowed and not any(_matches(name, c) for c in allowed):
            raise VerificationError(
                f'x509: a root or intermediate certificate is not authorized to sign for this name: "{name.value}" is '
                "not permitted by any constraint"
            )


def _matches(name: x509.GeneralName, constraint: x509.GeneralName) -> bool:
    """RFC 5280, 4.2.1.10, for two names of one kind."""
    if isinstance(name, x509.IPAddress) and isinstance(constraint, x509.IPAddress):
        network = constraint.value
        if not isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network):
            return False
        return name.value in network
    value, limit = str(name.value).lower(), str(constraint.value).lower()
    if isinstance(name, x509.DNSName):
        limit = limit.removeprefix(".")
        return not limit or value == limit or value.endswith(f".{limit}")
    if isinstance(name, x509.RFC822Name):
        if "@" in limit:
            return value == limit
        host = value.rpartition("@")[2]
        return host.endswith(limit) if limit.startswith(".") else host == limit
    from urllib.parse import urlsplit

    host = urlsplit(value).hostname or ""
    return host.endswith(limit) if limit.startswith(".") else host == limit
