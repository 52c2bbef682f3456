"""NAME:SECRET as a token, and hashes of secrets: argon2 and bcrypt.

The token is NAME:SECRET as it stands, or in base64 (either alphabet) where the secret has a space or is not ASCII, for
a header cannot carry those.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

MAX_SECRET = 1024
_BCRYPT = ("$2a$", "$2b$", "$2y$")
_BCRYPT_LONGEST = 72
_MAX_MEMORY_KIB = 256 * 1024
_MAX_TIME_COST, _MAX_LANES = 32, 16
_MAX_ROUNDS = 14


class PasswordError(ValueError):
    """A hash or a secret that cannot be used; the text holds neither."""


@dataclass(frozen=True, slots=True)
class Login:
    name: str
    secret: str = field(repr=False)


def login(token: str) -> Login | None:
    """The name and the secret of a token; None where it is no such token. Neither is ever empty."""
    text = token
    if ":" not in token:
        try:
            padded = token.rstrip("=") + "=" * (-len(token.rstrip("=")) % 4)
            text = base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True).decode()
        except (binascii.Error, ValueError):
            return None
    name, colon, secret = text.partition(":")
    if not colon or not name or not secret or len(text) > MAX_SECRET or not name.isprintable() or "\0" in secret:
        return None
    return Login(name, secret)


def check_hash(text: str) -> None:
    """Raises PasswordError for what is no hash of a kind known here, or one that costs too much to try."""
    if text.startswith(_BCRYPT):
        parts = text.split("$")
        if len(text) != 60 or len(parts) != 4 or not parts[2].isdigit():
            raise PasswordError("no bcrypt hash: it has 60 characters, as $2b$12$…")
        if not 4 <= int(parts[2]) <= _MAX_ROUNDS:
            raise PasswordError(f"bcrypt with a cost of {int(parts[2])}; 4 to {_MAX_ROUNDS} are taken")
        _library("bcrypt")
        return
    if not text.startswith("$argon2"):
        raise PasswordError(
            "neither an argon2 ($argon2id$…) nor a bcrypt hash ($2b$…); `kubegate token hash` makes one"
        )
    _library("argon2")
    from argon2 import extract_parameters
    from argon2.exceptions import InvalidHashError

    try:
        found = extract_parameters(text)
    except (InvalidHashError, ValueError):
        raise PasswordError("no argon2 hash that can be read") from None
    if found.memory_cost > _MAX_MEMORY_KIB or found.time_cost > _MAX_TIME_COST or found.parallelism > _MAX_LANES:
        most = f"m={_MAX_MEMORY_KIB},t={_MAX_TIME_COST},p={_MAX_LANES}"
        raise PasswordError(f"argon2 that costs too much for every try; at most {most} is taken")


def matches(secret: str, text: str) -> bool:
    """Whether the hash is of the secret. Blocks for as long as the hash is meant to take."""
    if text.startswith(_BCRYPT):
        import bcrypt

        data = secret.encode()
        try:
            # bcrypt looks at 72 bytes: one that goes on after them is not the secret
            return len(data) <= _BCRYPT_LONGEST and bcrypt.checkpw(data, text.encode())
        except ValueError:
            return False
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        return PasswordHasher().verify(text, secret)
    except (Argon2Error, InvalidHashError):
        return False


def hashed(secret: str, algorithm: str = "argon2") -> str:
    """A hash with the library's own costs. Raises PasswordError."""
    if not secret:
        raise PasswordError("there is no secret to hash")
    if algorithm == "argon2":
        _library("argon2")
        from argon2 import PasswordHasher

        return PasswordHasher().hash(secret)
    if algorithm != "bcrypt":
        raise PasswordError(f"{algorithm} is neither argon2 nor bcrypt")
    _library("bcrypt")
    import bcrypt

    if len(secret.encode()) > _BCRYPT_LONGEST:
        raise PasswordError(f"bcrypt takes {_BCRYPT_LONGEST} bytes at most; use argon2")
    return bcrypt.hashpw(secret.encode(), bcrypt.gensalt()).decode()


def _library(name: str) -> None:
    import importlib.util

    if importlib.util.find_spec(name) is None:
        raise PasswordError(f"{name} is not installed; install kubegate[sources]")
