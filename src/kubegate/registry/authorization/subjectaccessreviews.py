"""SubjectAccessReview: may this user do that?"""

from __future__ import annotations

from kubegate.api import Object
from kubegate.registry import Rules, Scope
from kubegate.registry.authorization import reviews


async def create(namespace: str, name: str, review: Object, scope: Scope) -> Object:
    spec = review.get("spec") or {}
    reviews.refuse(reviews.validate_subject(spec) + reviews.validate_metadata(review, scope, namespaced=False))
    return await reviews.answer(review, reviews.question(spec, reviews.user_of(spec)), scope)


RULES = Rules(connect={"": create})
