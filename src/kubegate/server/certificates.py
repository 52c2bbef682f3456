"""The client certificate chain that TLS handed over, as DER."""

from __future__ import annotations

import base64
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

_NONE: tuple[bytes, ...] = ()


def client_chain(scope: MutableMapping[str, Any]) -> tuple[bytes, ...]:
    """From ASGI's `tls` extension, leaf first; empty where the client showed none."""
    tls = scope["extensions"].get("tls")
    chain = tls["client_cert_chain"] if tls is not None else None
    return _der(tuple(chain)) if chain else _NONE


@lru_cache(1024)
def _der(chain: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(base64.b64decode("".join(pem.strip().splitlines()[1:-1])) for pem in chain)
