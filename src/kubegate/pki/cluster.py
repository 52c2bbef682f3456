"""All the keys and certificates that an API server starts with, made once and kept in one directory.

File names are kubeadm's: ca, apiserver, front-proxy-ca, front-proxy-client, admin (each .crt and .key), sa.key, sa.pub.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from msgspec import Struct

from kubegate.pki import files

if TYPE_CHECKING:
    from kubegate.pki.certificates import Authority

DEFAULT_HOSTS = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "::1",
)
_NOTE = ".looked-at"
"""What is in the directory when all has been looked at, so that the next start need not."""


class Pki(Struct, frozen=True):
    """A directory of keys and certificates; all files named here exist.

    `unread`: they are what they were when they were last found good; this process has not looked into them.
    """

    directory: Path
    unread: bool = False

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
        from kubegate.pki import certificates

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
    algorithm: str = "ecdsa-p256",
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
        if _looked_at(pki, wanted, moment):
            return Pki(directory, unread=True)
        from kubegate.pki import making  # which loads a library that takes a sixth of a start

        _note(pki, wanted, making.make(pki, wanted, algorithm, service_account_algorithm, moment))
    return pki


_NAMES = (
    "ca.crt", "ca.key", "apiserver.crt", "apiserver.key", "front-proxy-ca.crt", "front-proxy-ca.key",
    "front-proxy-client.crt", "front-proxy-client.key", "admin.crt", "admin.key", "sa.key", "sa.pub",
)  # fmt: skip


def _looked_at(pki: Pki, hosts: Sequence[str], now: datetime) -> bool:
    """Whether these very files were found good for these hosts before, for as long as until now."""
    try:
        note = orjson.loads((pki.directory / _NOTE).read_bytes())
        return bool({*hosts} <= {*note["hosts"]} and now.timestamp() < note["until"] and note["files"] == _digest(pki))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _note(pki: Pki, hosts: Sequence[str], until: datetime) -> None:
    note = {"hosts": hosts, "until": until.timestamp(), "files": _digest(pki)}
    (pki.directory / _NOTE).write_bytes(orjson.dumps(note))


def _digest(pki: Pki) -> str:
    """Raises OSError."""
    digests = [hashlib.sha256((pki.directory / name).read_bytes()).digest() for name in _NAMES]
    return hashlib.sha256(b"".join(digests)).hexdigest()
