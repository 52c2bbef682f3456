"""Bootstrap tokens as controllers see them: Secrets of type bootstrap.kubernetes.io/token in kube-system."""

from __future__ import annotations

import base64
import binascii

from kubegate.api import Object
from kubegate.api.clock import parse_rfc3339

NAMESPACE = "kube-system"
TYPE = "bootstrap.kubernetes.io/token"
PREFIX = "bootstrap-token-"


def is_token(secret: Object) -> bool:
    return secret.get("type") == TYPE and secret["metadata"].get("namespace") == NAMESPACE


def text(secret: Object, key: str) -> str:
    """A value of the secret, "" where it is missing or no text."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(key) or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def expires_at(secret: Object) -> float | None:
    """Seconds since 1970; None for never. What cannot be read as a time is over already."""
    expiration = text(secret, "expiration")
    if not expiration:
        return None
    try:
        return parse_rfc3339(expiration)
    except ValueError:
        return 0.0


def signing_secret(secret: Object, now: float) -> tuple[str, str] | None:
    """(token id, token secret) of a token that may sign cluster-info; None for others."""
    identifier, key, end = text(secret, "token-id"), text(secret, "token-secret"), expires_at(secret)
    if not is_token(secret) or secret["metadata"]["name"] != PREFIX + identifier:
        return None
    if not identifier or not key or text(secret, "usage-bootstrap-signing") != "true":
        return None
    return None if end is not None and end <= now else (identifier, key)
