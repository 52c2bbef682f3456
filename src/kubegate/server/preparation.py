"""What the options mean before anything is started: keys that no flag names, and where objects live."""

from __future__ import annotations

from pathlib import Path

from kubegate.pki.cluster import Pki, ensure
from kubegate.server.options import Options
from kubegate.storage.build import StorageOptions


def prepare_keys(options: Options) -> Pki | None:
    """Make the keys and certificates that no flag names, in --cert-dir (or --data-dir/pki), and name them in `options`.

    None where all were given.
    """
    given = options.tls_cert_file and options.client_ca_file and options.service_account_signing_key_file
    if given:
        return None
    directory = Path(options.cert_dir or Path(options.data_dir or ".kubegate") / "pki")
    hosts = [host for host in (options.bind_address, options.advertise_address) if host]
    pki = ensure(directory, hosts)
    if not options.tls_cert_file:
        options.tls_cert_file = str(pki.server_certificate)
        options.tls_private_key_file = str(pki.server_key)
    options.client_ca_file = options.client_ca_file or str(pki.ca_certificate)
    if not options.service_account_signing_key_file:
        options.service_account_signing_key_file = str(pki.service_account_key)
        options.service_account_key_file = options.service_account_key_file or [str(pki.service_account_public_key)]
    options.service_account_issuer = options.service_account_issuer or ["https://kubernetes.default.svc.cluster.local"]
    options.cluster_signing_cert_file = options.cluster_signing_cert_file or str(pki.ca_certificate)
    options.cluster_signing_key_file = options.cluster_signing_key_file or str(pki.ca_key)
    return pki


def kubeconfig_path(options: Options, pki: Pki) -> Path:
    """`admin.kubeconfig` in the data directory."""
    return Path(options.data_dir or pki.directory.parent) / "admin.kubeconfig"


def write_kubeconfig(options: Options, pki: Pki, url: str) -> Path:
    """The administrator's, for the server at this URL."""
    return pki.write_admin_kubeconfig(url, kubeconfig_path(options, pki))


def storage_options(options: Options) -> StorageOptions:
    return StorageOptions(
        storage=options.storage,
        data_dir=options.data_dir,
        etcd_servers=tuple(options.etcd_servers),
        etcd_cafile=options.etcd_cafile,
        etcd_certfile=options.etcd_certfile,
        etcd_keyfile=options.etcd_keyfile,
        etcd_prefix=options.etcd_prefix,
        encryption_provider_config=options.encryption_provider_config,
    )
