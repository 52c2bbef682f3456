"""Private and public keys: RSA, ECDSA on P-256, P-384 and P-521, and Ed25519, as PEM.

Making an RSA key takes up to a second of processor time: a caller on an event loop does it in a thread.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from kubegate.pki import files

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_MAKERS: dict[str, Callable[[], PrivateKey]] = {
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa-4096": lambda: rsa.generate_private_key(65537, 4096),
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
ALGORITHMS = tuple(_MAKERS)
DEFAULT_ALGORITHM = "ecdsa-p256"


class BadKey(ValueError):
    """A file or text that should hold a key does not, or holds one of a kind that is not taken."""


def generate(algorithm: str = DEFAULT_ALGORITHM) -> PrivateKey:
    """A new private key. `algorithm` is one of ALGORITHMS; ValueError for another."""
    maker = _MAKERS.get(algorithm)
    if maker is None:
        raise ValueError(f"unknown key algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}")
    return maker()


def private_pem(key: PrivateKey) -> bytes:
    """PKCS#8, not encrypted: what every TLS library and kubectl read."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def save(key: PrivateKey, path: Path, *, force: bool = False) -> None:
    """Write the private key with mode 0600. Raises FileExistsError where `path` exists, unless `force`."""
    files.write_secret(path, private_pem(key), force=force)


def parse_private(pem: bytes, source: str = "private key") -> PrivateKey:
    """Read one PEM private key (PKCS#1, SEC 1 or PKCS#8). `source` names it in errors. Raises BadKey."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError:
        raise BadKey(f"{source}: the key is encrypted; give it without a passphrase") from None
    except Exception as error:
        raise BadKey(f"{source}: no PEM private key could be read ({type(error).__name__})") from None
    if not isinstance(key, PrivateKey):
        raise BadKey(f"{source}: keys of type {type(key).__name__} are not supported; use RSA, ECDSA or Ed25519")
    return key


def load_private(path: Path) -> PrivateKey:
    """Read a private key file. Raises BadKey (its text names the file), OSError."""
    return parse_private(path.read_bytes(), str(path))


_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def parse_public(pem: bytes, source: str = "public keys") -> list[PublicKey]:
    """All public keys of a PEM text, in order: public keys, certificates' keys and private keys' public halves.

    This is what kube-apiserver takes for --service-account-key-file. Raises BadKey where there is none at all.
    """
    found: list[PublicKey] = []
    for match in _BLOCK.finditer(pem):
        label, block = match[1], match[0]
        if label == b"CERTIFICATE":
            from cryptography import x509  # which takes a start longer than all the rest of this library

            key: object = x509.load_pem_x509_certificate(block).public_key()
        elif label.endswith(b"PRIVATE KEY"):
            key = parse_private(block, source).public_key()
        elif label.endswith(b"PUBLIC KEY"):
            try:
                key = serialization.load_pem_public_key(block)
            except Exception as error:
                raise BadKey(f"{source}: a public key could not be read ({type(error).__name__})") from None
        else:
            continue  # EC PARAMETERS and the like
        if not isinstance(key, PublicKey):
            raise BadKey(f"{source}: keys of type {type(key).__name__} are not supported")
        found.append(key)
    if not found:
        raise BadKey(f"{source}: data does not contain any valid RSA or ECDSA public keys")
    return found


def load_public(path: Path) -> list[PublicKey]:
    """Read a file of public keys. Raises BadKey (its text names the file), OSError."""
    return parse_public(path.read_bytes(), str(path))


def key_id(key: PublicKey) -> str:
    """The `kid` that Kubernetes derives from a key: the SHA-256 of its DER form, in base64url without padding."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def kind(key: PublicKey | PrivateKey) -> Literal["RSA", "EC", "OKP"]:
    """The key's type as JSON Web Keys name it."""
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return "RSA"
    return "EC" if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey) else "OKP"


def describe(key: PublicKey | PrivateKey) -> str:
    """`RSA 2048`, `ECDSA P-256`, `Ed25519`: for people."""
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return f"ECDSA P-{key.key_size}"
    return "Ed25519"
