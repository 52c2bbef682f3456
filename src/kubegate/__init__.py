"""kubegate: Kubernetes access control (authentication, authorization, admission), whole, in Python.

Policy files import `Gate`, `Deny`, `User`, `Review` and `token_sources` from here; they are loaded when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubegate.webhooks.gate import Deny, Gate, Review, User
    from kubegate.webhooks.sources import token_sources

__version__ = "0.1.0"
KUBERNETES_VERSION = "v1.36.2"
__all__ = ["KUBERNETES_VERSION", "Deny", "Gate", "Review", "User", "__version__", "token_sources"]

_POLICY_NAMES = frozenset({"Deny", "Gate", "Review", "User"})


def __getattr__(name: str) -> Any:
    if name in _POLICY_NAMES:
        from kubegate.webhooks import gate

        return getattr(gate, name)
    if name == "token_sources":
        from kubegate.webhooks.sources import token_sources

        return token_sources
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
