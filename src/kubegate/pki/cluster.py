"""All the keys and certificates that an API server starts with, made once and kept in one directory.

File names are kubeadm's: ca, apiserver, front-proxy-ca, front-proxy-client, admin (each .crt and .key), sa.key, sa.pub.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from msgspec import Struct

from kubegate.pki import certificates, files, keys
from kubegate.pki.certificates import Authority, BadCertificate, Subject

ADMIN = Subject("kubernetes-admin", ("system:masters",))
FRONT_PROXY_CLIENT = "front-proxy-client"
DEFAULT_HOSTS = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "::1",
)
_RENEW_BEFORE = timedelta(days=30)


class Pki(Struct, frozen=True):
    """A directory of keys and certificates; all files named here exist."""

    directory: Path

    @property
    def ca_certificate(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def ca_key(self) -> Path:
        return self.directory / "ca.key"

    @property
    def server_certificate(self) -> Path:
        return self.directory / "apiserver.crt"

    @property
    def server_key(self) -> Path:
        return self.directory / "apiserver.key"

    @property
    def front_proxy_ca_certificate(self) -> Path:
        return self.directory / "front-proxy-ca.crt"

    @property
    def front_proxy_client_certificate(self) -> Path:
        return self.directory / "front-proxy-client.crt"

    @property
    def front_proxy_client_key(self) -> Path:
        return self.directory / "front-proxy-client.key"

    @property
    def service_account_key(self) -> Path:
        return self.directory / "sa.key"

    @property
    def service_account_public_key(self) -> Path:
        return self.directory / "sa.pub"

    @property
    def admin_certificate(self) -> Path:
        return self.directory / "admin.crt"

    @property
    def admin_key(self) -> Path:
        return self.directory / "admin.key"

    @property
    def admin_kubeconfig(self) -> Path:
        """Written by `write_admin_kubeconfig`, when the server's URL is known."""
        return self.directory / "admin.kubeconfig"

    def authority(self) -> Authority:
        """The cluster's CA, read from its files."""
        return certificates.load_authority(self.ca_certificate, self.ca_key)

    def write_admin_kubeconfig(self, server: str, path: Path | None = None) -> Path:
        """The administrator's kubeconfig for the server at this URL, all embedded. Returns its path.

        It is written where it is not there as it should be.
        """
        from kubegate.pki import kubeconfig

        where = path or self.admin_kubeconfig
        user = kubeconfig.User(certificate=self.admin_certificate.read_bytes(), key=self.admin_key.read_bytes())
        config = kubeconfig.new(server, authority=self.ca_certificate.read_bytes(), user=user)
        if not where.exists() or where.read_bytes() != kubeconfig.dump(config):
            kubeconfig.write(config, where, force=True)
        return where


def ensure(
    directory: Path,
    hosts: Iterable[str] = (),
    *,
    algorithm: str = keys.DEFAULT_ALGORITHM,
    service_account_algorithm: str = "ecdsa-p256",
    now: datetime | None = None,
) -> Pki:
    """Make what is missing in `directory`; leave what is there, but for leaf certificates that have to be new.

    The server's certificate is for `hosts` and DEFAULT_HOSTS. A leaf certificate is issued again when it ends within
    30 days, when its CA is another one, or when a host is missing in it; keys and CAs are never replaced. Processes
    that start at the same time in one directory wait for each other. It blocks (files; with RSA also the processor).

    Raises BadCertificate, BadKey (what is there is broken), OSError.
    """
    moment = now or datetime.now(UTC)
    wanted = list(dict.fromkeys([*DEFAULT_HOSTS, *(host for host in hosts if host)]))
    pki = Pki(directory)
    for made in (directory.parent, directory):  # parents that mkdir makes by the way would be open to all
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    with files.locked(directory / ".lock"):
        cluster = _authority(directory / "ca", "kubernetes", algorithm, moment)
        front = _authority(directory / "front-proxy-ca", "front-proxy-ca", algorithm, moment)
        _leaf(
            cluster, directory / "apiserver", Subject("kube-apiserver"), certificates.SERVER, algorithm, moment, wanted
        )
        _leaf(cluster, directory / "admin", ADMIN, certificates.CLIENT, algorithm, moment)
        _leaf(
            front,
            directory / "front-proxy-client",
            Subject(FRONT_PROXY_CLIENT),
            certificates.CLIENT,
            algorithm,
            moment,
        )
        signing = _key(pki.service_account_key, service_account_algorithm)
        if not pki.service_account_public_key.exists():
            files.write_public(pki.service_account_public_key, keys.public_pem(signing.public_key()))
    return pki


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
) -> None:
    certificate, key = base.with_name(f"{base.name}.crt"), base.with_name(f"{base.name}.key")
    private = _key(key, algorithm)
    if certificate.exists() and _still_good(certificate, private, authority, now, hosts):
        return
    days = (authority.certificate.not_valid_after_utc - now) / timedelta(days=1)
    made = certificates.issue(
        authority, private.public_key(), subject, usages=usages, hosts=hosts, days=min(days, 365), now=now
    )
    files.write_public(certificate, certificates.certificate_pem(made), force=True)


def _still_good(path: Path, key: keys.PrivateKey, authority: Authority, now: datetime, hosts: Sequence[str]) -> bool:
    found = certificates.load_certificates(path)[0]
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
