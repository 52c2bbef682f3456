"""The serving certificate: given as files, in a Secret's folder (as cert-manager has it), or made and renewed here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kubegate.pki import certificates, files, keys
from kubegate.pki.certificates import Subject
from kubegate.pki.files import locked

log = logging.getLogger("kubegate.webhooks")

LIFETIME = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
LOOK_SECONDS = 10.0


class CertificateError(Exception):
    """No certificate to serve with; one line for people."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate (with its chain) and its key, as PEM; `ends` in seconds since 1970."""

    certificate: bytes
    key: bytes
    ends: float


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pair is. `hosts` names it is made for where it is made here (`made`), else nothing is written."""

    certificate: Path
    key: Path
    made: bool = False
    hosts: tuple[str, ...] = ()

    @classmethod
    def folder(cls, folder: Path) -> Source:
        """The mounted Secret of type kubernetes.io/tls: tls.crt and tls.key."""
        return cls(folder / "tls.crt", folder / "tls.key")

    @classmethod
    def generated(cls, folder: Path, hosts: Sequence[str]) -> Source:
        """An authority (ca.crt, ca.key) and a certificate of it, made in a folder where they are missing."""
        return cls(folder / "tls.crt", folder / "tls.key", True, tuple(dict.fromkeys(hosts)))

    def current(self, now: datetime | None = None) -> Pair:
        """The pair to serve with now, made or renewed first where it is ours. Raises CertificateError."""
        try:
            if self.made:
                ensure(self.certificate.parent, self.hosts, now)
            return _read(self.certificate, self.key)
        except OSError as error:
            raise CertificateError(f"{error.filename or self.certificate}: {error.strerror}") from None
        except ValueError as error:
            raise CertificateError(str(error)) from None


def ensure(folder: Path, hosts: Sequence[str], now: datetime | None = None) -> bytes:
    """Make what is missing, and what ends soon or lacks a host anew; gives the authority's certificate (a caBundle).

    The authority is never replaced, so that those who trust it go on doing so. Raises ValueError and OSError.
    """
    moment = now or datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(folder / ".lock"):
        authority_file, leaf_file = folder / "ca.crt", folder / "tls.crt"
        if authority_file.exists():
            authority = certificates.load_authority(authority_file, folder / "ca.key")
        else:
            authority = certificates.new_authority("kubegate-webhook-ca", now=moment)
            keys.save(authority.key, folder / "ca.key", force=True)
            files.write_public(authority_file, authority.pem, force=True)
        if not (leaf_file.exists() and _good(leaf_file, hosts, moment)):
            if leaf_file.exists():  # whoever wanted other names of it before still does
                hosts = list(
                    dict.fromkeys([*hosts, *certificates.hosts_of(certificates.load_certificates(leaf_file)[0])])
                )
            key = keys.generate()
            # an API server looks at the alternative names alone; a common name has 64 characters at most
            made = certificates.issue(
                authority,
                key.public_key(),
                Subject("kubegate-webhook"),
                usages=certificates.SERVER,
                hosts=hosts,
                days=LIFETIME / timedelta(days=1),
                now=moment,
            )
            # who reads between the two sees a pair that does not fit, and looks again
            keys.save(key, folder / "tls.key", force=True)
            files.write_public(leaf_file, certificates.certificate_pem(made), force=True)
            log.info("a certificate for %s was made, until %s", ", ".join(hosts), made.not_valid_after_utc)
    return authority.pem


def _good(path: Path, hosts: Sequence[str], now: datetime) -> bool:
    found = certificates.load_certificates(path)[0]
    have = certificates.alternative_names(found)
    names = certificates.general_names(hosts)
    return found.not_valid_after_utc - now > RENEW_BEFORE and all(name in have for name in names)


def _read(certificate: Path, key: Path) -> Pair:
    """Raises ValueError where the two do not belong together."""
    chain, private_pem = certificate.read_bytes(), key.read_bytes()
    leaf = certificates.parse_certificates(chain, str(certificate))[0]
    private = keys.parse_private(private_pem, str(key))
    if private.public_key() != leaf.public_key():
        raise ValueError(f"{certificate} does not belong to {key}")
    return Pair(chain, private_pem, leaf.not_valid_after_utc.timestamp())
