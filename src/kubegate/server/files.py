"""The files that flags name, looked at before anything is made: what is missing or no such file is told by its flag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kubegate.server.options import Options, UsageError


def _certificates(data: bytes) -> None:
    from cryptography import x509

    x509.load_pem_x509_certificates(data)


def _private_key(data: bytes) -> None:
    from cryptography.hazmat.primitives import serialization

    serialization.load_pem_private_key(data, None)


def _anything(data: bytes) -> None:
    """Read, with errors of its own, by the part that it is for."""


_KINDS: dict[str, tuple[str, Callable[[bytes], None]]] = {
    "tls_cert_file": ("PEM certificates", _certificates),
    "tls_private_key_file": ("a PEM private key without a password", _private_key),
    "client_ca_file": ("PEM certificates", _certificates),
    "requestheader_client_ca_file": ("PEM certificates", _certificates),
    "oidc_ca_file": ("PEM certificates", _certificates),
    "root_ca_file": ("PEM certificates", _certificates),
    "cluster_signing_cert_file": ("PEM certificates", _certificates),
    "cluster_signing_key_file": ("a PEM private key without a password", _private_key),
    "service_account_signing_key_file": ("a PEM private key without a password", _private_key),
    "token_auth_file": ("", _anything),
    "basic_auth_file": ("", _anything),
    "authentication_config": ("", _anything),
    "authentication_token_webhook_config_file": ("", _anything),
    "authorization_config": ("", _anything),
    "authorization_policy_file": ("", _anything),
    "authorization_webhook_config_file": ("", _anything),
    "admission_control_config_file": ("", _anything),
    "audit_policy_file": ("", _anything),
    "audit_webhook_config_file": ("", _anything),
    "encryption_provider_config": ("", _anything),
}


def check(options: Options) -> None:
    """Raises UsageError for the first that cannot be used."""
    for attribute, (wanted, read) in _KINDS.items():
        path = getattr(options, attribute)
        if not path:
            continue
        flag = attribute.replace("_", "-")
        try:
            read(Path(path).read_bytes())
        except OSError as error:
            raise UsageError(f"--{flag}: {path}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise UsageError(f"--{flag}: {path}: expected {wanted}") from error
