"""SelfSubjectReview: who am I? What `kubectl auth whoami` asks."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.clock import rfc3339
from kubegate.authentication import user_info
from kubegate.registry import Rules, Scope


async def create(namespace: str, name: str, review: Object, scope: Scope) -> Object:
    """Nothing of what was sent comes back: the answer is the server's alone."""
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": review.get("apiVersion") or scope.resource.api_version,
        "metadata": {"creationTimestamp": rfc3339(scope.clock.now())},
        "status": {"userInfo": user_info(scope.context.user)},
    }


RULES = Rules(connect={"": create})
