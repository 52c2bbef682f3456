"""A token from a command: a word, JSON with the token somewhere in it, or another plugin's ExecCredential."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kubegate.api.clock import parse_rfc3339
from kubegate.tokens.credential import Credential, TokenError, checked, from_exec_credential

_MAX_OUTPUT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the token is in the output. Paths are field names with dots between them; "" takes the output as it is.

    `expiry_path` leads to an RFC 3339 time or seconds since 1970; `lifetime` is in seconds from now.
    """

    token_path: str = ""
    expiry_path: str = ""
    lifetime: float | None = None


def run(command: Sequence[str], shape: Shape, *, now: float, timeout: float) -> Credential:
    """Run it and read the token off its output; what it says on stderr goes to the user. Raises TokenError."""
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=timeout, check=False
        )
    except OSError as error:
        raise TokenError(f"{command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise TokenError(f"{command[0]} took longer than {timeout:g} s") from None
    if done.returncode:
        raise TokenError(f"{command[0]} ended with exit code {done.returncode}")
    if len(done.stdout) > _MAX_OUTPUT:
        raise TokenError(f"{command[0]} printed more than {_MAX_OUTPUT} bytes")
    return read(done.stdout, shape, command[0], now)


def read(output: bytes, shape: Shape, source: str, now: float) -> Credential:
    """The token in the output. Raises TokenError, which does not repeat the output."""
    expires = None if shape.lifetime is None else now + shape.lifetime
    text = output.decode("utf-8", "replace").strip()
    if not shape.token_path and not text.startswith("{"):
        return checked(text, expires, source)
    try:
        document = orjson.loads(output)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise TokenError(f"{source}: the output is no JSON object")
    if not shape.token_path:
        if document.get("kind") != "ExecCredential":
            raise TokenError(f"{source}: the output is JSON; say where the token is in it with --token-path")
        return from_exec_credential(document)
    if shape.expiry_path:
        expires = _moment(_at(document, shape.expiry_path, source), f"{source}: {shape.expiry_path}")
    return checked(_at(document, shape.token_path, source), expires, f"{source}: {shape.token_path}")


def _at(document: Mapping[str, Any], path: str, source: str) -> Any:
    found: Any = document
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            raise TokenError(f"{source}: the output has no {path}")
        found = found[name]
    return found


def _moment(value: Any, what: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return parse_rfc3339(str(value))
    except ValueError:
        raise TokenError(f"{what}: neither an RFC 3339 time nor seconds since 1970") from None
