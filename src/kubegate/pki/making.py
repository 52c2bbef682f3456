"""Keys and certificates of an API server: made where they are missing, and looked at where they are there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from kubegate.pki import certificates, files, keys
from kubegate.pki.certificates import Authority, BadCertificate, Subject
from kubegate.pki.cluster import Pki

ADMIN = Subject("kubernetes-admin", ("system:masters",))
FRONT_PROXY_CLIENT = "front-proxy-client"
_RENEW_BEFORE = timedelta(days=30)


def make(pki: Pki, hosts: Sequence[str], algorithm: str, service_account_algorithm: str, now: datetime) -> datetime:
    """As `cluster.ensure` says, for one process at a time; until when nothing has to be made again.

    Raises BadCertificate, BadKey, OSError.
    """
    directory = pki.directory
    cluster = _authority(directory / "ca", "kubernetes", algorithm, now)
    front = _authority(directory / "front-proxy-ca", "front-proxy-ca", algorithm, now)
    server, client = Subject("kube-apiserver"), Subject(FRONT_PROXY_CLIENT)
    ends = (
        _leaf(cluster, directory / "apiserver", server, certificates.SERVER, algorithm, now, hosts),
        _leaf(cluster, directory / "admin", ADMIN, certificates.CLIENT, algorithm, now),
        _leaf(front, directory / "front-proxy-client", client, certificates.CLIENT, algorithm, now),
    )
    signing = _key(pki.service_account_key, service_account_algorithm)
    if not pki.service_account_public_key.exists():
        files.write_public(pki.service_account_public_key, keys.public_pem(signing.public_key()))
    return min(ends) - _RENEW_BEFORE


def _key(path: Path, algorithm: str) -> keys.PrivateKey:
    if path.exists():
        return keys.load_private(path)
    key = keys.generate(algorithm)
    keys.save(key, path)
    return key


def _authority(base: Path, common_name: str, algorithm: str, now: datetime) -> Authority:
    certificate, key = base.with_name(f"{base.name}.crt"), base.with_name(f"{base.name}.key")
    if certificate.exists():
        return certificates.load_authority(certificate, key)
    # A key without its certificate is what a start that was killed half way left: use it.
    made = certificates.new_authority(common_name, key=_key(key, algorithm), now=now)
    files.write_public(certificate, made.pem)
    return made


def _leaf(
    authority: Authority,
    base: Path,
    subject: Subject,
    usages: Sequence[x509.ObjectIdentifier],
    algorithm: str,
    now: datetime,
    hosts: Sequence[str] = (),
) -> datetime:
    """The end of the certificate that is there afterwards."""
    certificate, key = base.with_name(f"{base.name}.crt"), base.with_name(f"{base.name}.key")
    private = _key(key, algorithm)
    if certificate.exists():
        found = certificates.load_certificates(certificate)[0]
        if _still_good(found, certificate, private, authority, now, hosts):
            return found.not_valid_after_utc
    days = (authority.certificate.not_valid_after_utc - now) / timedelta(days=1)
    made = certificates.issue(
        authority, private.public_key(), subject, usages=usages, hosts=hosts, days=min(days, 365), now=now
    )
    files.write_public(certificate, certificates.certificate_pem(made), force=True)
    return made.not_valid_after_utc


def _still_good(
    found: x509.Certificate,
    path: Path,
    key: keys.PrivateKey,
    authority: Authority,
    now: datetime,
    hosts: Sequence[str],
) -> bool:
    if found.public_key() != key.public_key():
        raise BadCertificate(f"{path} does not belong to the key beside it")
    if found.not_valid_after_utc - now < _RENEW_BEFORE:
        return False
    try:
        found.verify_directly_issued_by(authority.certificate)
    except Exception:
        return False
    # compared as issued: an address may be written in several ways
    have = certificates.alternative_names(found)
    return all(name in have for name in certificates.general_names(hosts))
