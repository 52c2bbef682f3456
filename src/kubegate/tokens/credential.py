"""ExecCredential, the words between client-go and a credential plugin (client.authentication.k8s.io v1, v1beta1)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kubegate.api.clock import parse_rfc3339, rfc3339

GROUP = "client.authentication.k8s.io"
API_VERSIONS = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
INFO_VARIABLE = "KUBERNETES_EXEC_INFO"


class TokenError(Exception):
    """No token could be had; the text is for people and holds no secret."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A bearer token, and when it ends in seconds since 1970 (None: nobody knows, so it is not remembered)."""

    token: str = field(repr=False)
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class ExecInfo:
    """What client-go says to the plugin: the version it wants back, and whether the plugin may use the terminal."""

    api_version: str = API_VERSIONS[0]
    interactive: bool = True


def exec_info(environment: Mapping[str, str]) -> ExecInfo:
    """What KUBERNETES_EXEC_INFO holds; by hand, where it is not set, v1. Raises TokenError."""
    text = environment.get(INFO_VARIABLE, "")
    if not text:
        return ExecInfo()
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise TokenError(f"{INFO_VARIABLE} is not JSON") from None
    if not isinstance(document, dict) or document.get("kind") != "ExecCredential":
        raise TokenError(f"{INFO_VARIABLE} holds no ExecCredential")
    version = document.get("apiVersion")
    if version not in API_VERSIONS:
        wanted = " and ".join(API_VERSIONS)
        raise TokenError(f'{INFO_VARIABLE} asks for apiVersion "{version}"; there are {wanted}')
    spec = document.get("spec")
    return ExecInfo(version, bool(isinstance(spec, dict) and spec.get("interactive")))


def exec_credential(credential: Credential, info: ExecInfo) -> bytes:
    """The answer for client-go, one line of JSON."""
    status: dict[str, Any] = {"token": credential.token}
    if credential.expires is not None:
        status["expirationTimestamp"] = rfc3339(credential.expires)
    document = {
        "apiVersion": info.api_version,
        "kind": "ExecCredential",
        "spec": {"interactive": info.interactive},
        "status": status,
    }
    return orjson.dumps(document)


def from_exec_credential(document: Mapping[str, Any]) -> Credential:
    """The token of another plugin's ExecCredential. Raises TokenError."""
    status = document.get("status")
    if document.get("apiVersion") not in API_VERSIONS or not isinstance(status, Mapping):
        raise TokenError(f"an ExecCredential of {' or '.join(API_VERSIONS)}, with a status, was expected")
    until = status.get("expirationTimestamp")
    try:
        expires = parse_rfc3339(until) if isinstance(until, str) else None
    except ValueError:
        raise TokenError("status.expirationTimestamp is no RFC 3339 time") from None
    return checked(status.get("token"), expires, "status.token")


def checked(token: object, expires: float | None, what: str) -> Credential:
    """A token that can stand in an Authorization header; its own end where it is a JWT and no other is known.

    Raises TokenError, which names `what`, never the token.
    """
    if not isinstance(token, str) or not token:
        raise TokenError(f"{what}: there is no token")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise TokenError(f"{what}: a token is one word of ASCII, and this is none")
    return Credential(token, expires if expires is not None else jwt_expiry(token))


def jwt_claims(token: str) -> dict[str, Any] | None:
    """The claims of a JWT, verified by nobody; None where it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        found = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return found if isinstance(found, dict) else None


def jwt_expiry(token: str) -> float | None:
    """When a JWT ends, in seconds since 1970; None where it does not say or is none."""
    end = (jwt_claims(token) or {}).get("exp")
    return float(end) if isinstance(end, int | float) and not isinstance(end, bool) else None
