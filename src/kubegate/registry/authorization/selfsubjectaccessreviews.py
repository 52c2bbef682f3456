"""SelfSubjectAccessReview: may I do that? What `kubectl auth can-i` asks."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.registry import Rules, Scope
from kubegate.registry.authorization import reviews


def check(review: Object, old: Object | None, scope: Scope) -> None:
    errors = reviews.validate_self(review.get("spec") or {})
    reviews.refuse(errors + reviews.validate_metadata(review, scope, namespaced=False))


async def create(namespace: str, name: str, review: Object, scope: Scope) -> Object:
    return await reviews.answer(review, reviews.question(review["spec"], scope.context.user), scope)


RULES = Rules(prepare=check, connect={"": create})
