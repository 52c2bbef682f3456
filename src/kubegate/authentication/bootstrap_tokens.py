"""Bootstrap tokens: `ID.SECRET`, kept as Secrets bootstrap-token-ID in kube-system, for machines that join.

Follows plugin/pkg/auth/authenticator/token/bootstrap: whatever is wrong, the token is only not known.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from typing import Any

from kubegate.api.clock import Clock, parse_rfc3339
from kubegate.authentication import Authenticated, UserInfo, with_authenticated
from kubegate.storage import Reader

NAMESPACE = "kube-system"
SECRET_TYPE = "bootstrap.kubernetes.io/token"
DEFAULT_GROUP = "system:bootstrappers"
USER_PREFIX = "system:bootstrap:"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})", re.ASCII)
_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]", re.ASCII)


class BootstrapTokenAuthenticator:
    """Knows the tokens of Secrets as they are now: one that is deleted or changed ends at once."""

    name = "bootstrap-token"

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader, self._clock = reader, clock

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        token_id, token_secret = match.groups()
        secret = self._reader.get("secrets", NAMESPACE, f"bootstrap-token-{token_id}")
        if secret is None or secret.get("type") != SECRET_TYPE or secret["metadata"].get("deletionTimestamp"):
            return None
        data = secret.get("data") or {}
        if not hmac.compare_digest(_value(data, "token-secret").encode(), token_secret.encode()):
            return None
        if _value(data, "token-id") != token_id or self._expired(data):
            return None
        if _value(data, "usage-bootstrap-authentication") != "true":
            return None
        groups = _groups(_value(data, "auth-extra-groups"))
        if groups is None:
            return None
        name = USER_PREFIX + token_id
        return Authenticated(UserInfo(name, groups=with_authenticated(name, groups)), self.name)

    def _expired(self, data: Mapping[str, Any]) -> bool:
        """A time that cannot be read counts as over."""
        text = _value(data, "expiration")
        if not text:
            return False
        try:
            return parse_rfc3339(text) < self._clock.now()
        except ValueError:
            return True


def _groups(extra: str) -> tuple[str, ...] | None:
    """All bootstrappers, and those named; None where a name may not be given this way."""
    named = extra.split(",") if extra else []
    if not all(_GROUP.fullmatch(group) for group in named):
        return None
    return tuple(sorted({DEFAULT_GROUP, *named}))


def _value(data: Mapping[str, Any], key: str) -> str:
    try:
        return base64.b64decode(data.get(key) or "").decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
