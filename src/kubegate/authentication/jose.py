"""JSON Web Tokens: taken apart strictly, and their signatures checked by joserfc (imported with the first token).

Only signatures by private keys count: no `none`, no HMAC, so that a public key is never taken for a shared secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from kubegate.pki import keys

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OKPKey, RSAKey
    from joserfc.jws import JWSRegistry

    Key = RSAKey | ECKey | OKPKey

MAX_TOKEN = 64 * 1024
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
_FAMILIES = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("EdDSA",)}
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9_-]")


class BadToken(Exception):
    """The text is no token that could be checked. What is wrong with it may be logged; the token is not in it."""


class Token(Struct, frozen=True):
    """A token taken apart. Nothing in it may be believed before its signature is checked."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    text: str

    @property
    def algorithm(self) -> str:
        return str(self.header.get("alg") or "")

    @property
    def key_id(self) -> str:
        return str(self.header.get("kid") or "")


class VerificationKey(Struct, frozen=True):
    """A public key that signatures may be checked with, and the `kid` that it goes by."""

    key_id: str
    key: Key

    @property
    def kind(self) -> str:
        return str(self.key.key_type)

    def takes(self, algorithm: str) -> bool:
        if self.kind == "EC":
            return _CURVES.get(str(getattr(self.key, "curve_name", ""))) == algorithm
        return algorithm.startswith(_FAMILIES.get(self.kind, ("?",)))


def parse(text: str) -> Token:
    """Take a compact JWS apart. Raises BadToken: too long, not three parts, a name twice in one object, no object."""
    if len(text) > MAX_TOKEN:
        raise BadToken(f"the token is longer than {MAX_TOKEN} bytes")
    if _COMPACT.fullmatch(text) is None:  # a signature may be empty, but no key made such a one
        raise BadToken("the token is not three parts in base64url")
    parts = text.split(".")
    header, claims = _object(parts[0]), _object(parts[1])
    if header.get("crit") is not None:
        raise BadToken("the token has critical headers")
    return Token(header, claims, text)


def claimed_issuer(payload: str) -> str:
    """The issuer that the second part of a token names, "" where it cannot be read. Not to be believed."""
    try:
        found = _object(payload).get("iss") if not base64_error(payload) else None
    except BadToken:
        return ""
    return found if isinstance(found, str) else ""


def base64_error(segment: str) -> str:
    """What Go says of a part that is not base64url without padding, "" for one that is."""
    wrong = _NOT_BASE64.search(segment)
    if wrong is None and len(segment) % 4 != 1:
        return ""
    return f"illegal base64 data at input byte {wrong.start() if wrong else len(segment) - 1}"


def verify(token: Token, candidates: Sequence[VerificationKey], algorithms: Collection[str] = ALGORITHMS) -> bool:
    """Whether one of the keys made the token's signature, by one of the algorithms."""
    algorithm = token.algorithm
    if algorithm not in algorithms or algorithm not in ALGORITHMS:
        return False
    from joserfc import jws
    from joserfc.errors import JoseError

    allowed = registry()
    for candidate in candidates:
        if not candidate.takes(algorithm):
            continue
        try:
            jws.deserialize_compact(token.text, candidate.key, [algorithm], allowed)
        except (JoseError, ValueError):
            continue
        return True
    return False


def verification_key(key: keys.PublicKey, key_id: str = "") -> VerificationKey:
    """A public key, by the `kid` given or by the one that Kubernetes derives from it."""
    return VerificationKey(key_id or keys.key_id(key), import_key(keys.kind(key), keys.public_pem(key)))


def import_key(kind: str, pem: bytes) -> Key:
    """A PEM key, public or private, as joserfc has it. `kind` as `keys.kind` gives it."""
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    makers: dict[str, type[Key]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    return makers[kind].import_key(pem)


def key_set(document: Any, limit: int = 100) -> list[VerificationKey]:
    """The signature keys of a JWKS document; keys of other kinds and uses are left out. Raises BadToken.

    `alg` of a key is not looked at, as in go-oidc: what the key's kind allows, it may sign.
    """
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise BadToken("the key set has no list of keys")
    if len(entries) > limit:
        raise BadToken(f"the key set has more than {limit} keys")
    makers: dict[str, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    fields = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}
    found: list[VerificationKey] = []
    for entry in entries:
        kind = entry.get("kty") if isinstance(entry, dict) else None
        if kind not in makers or entry.get("use", "sig") != "sig":
            continue
        try:
            key = makers[kind].import_key({name: entry[name] for name in fields[kind]})
        except (JoseError, ValueError, KeyError, TypeError):
            continue
        found.append(VerificationKey(str(entry.get("kid") or ""), key))
    return found


def public_jwk(key: keys.PublicKey, algorithm: str, key_id: str) -> dict[str, str]:
    """A key as an entry of a JWKS document."""
    public = verification_key(key, key_id).key.as_dict(private=False)
    public.pop("kid", None)
    ordered = {"use": "sig", "kty": str(public.pop("kty")), "kid": key_id, "alg": algorithm}
    return ordered | {name: str(value) for name, value in public.items() if name not in ("use", "alg", "key_ops")}


def algorithm_of(key: keys.PublicKey | keys.PrivateKey) -> str:
    """What Kubernetes signs with by this kind of key."""
    match keys.kind(key):
        case "RSA":
            return "RS256"
        case "EC":
            return _CURVES[keys.describe(key).removeprefix("ECDSA ")]
        case _:
            return "EdDSA"


@cache
def registry() -> JWSRegistry:
    """What joserfc may do for us: our algorithms, and tokens as large as ours may be."""
    import warnings

    from joserfc import jws
    from joserfc.errors import SecurityWarning

    # EdDSA has a newer name for the same; both are in use
    warnings.filterwarnings("ignore", "EdDSA is deprecated", SecurityWarning)
    found = jws.JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
    found.max_header_length = found.max_payload_length = found.max_signature_length = MAX_TOKEN
    return found


def _object(segment: str) -> dict[str, Any]:
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        found = json.loads(data, object_pairs_hook=_once, parse_constant=_no_constant)
    except (binascii.Error, ValueError, RecursionError):
        raise BadToken("a part of the token is not JSON in base64url") from None
    if not isinstance(found, dict):
        raise BadToken("a part of the token is no JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of one token must not see two things: a name that comes twice is refused."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
