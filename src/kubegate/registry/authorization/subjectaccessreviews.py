"""SubjectAccessReview: may this user do that?"""

from __future__ import annotations

from kubegate.api import Object
from kubegate.registry import Rules, Scope
from kubegate.registry.authorization import reviews


def check(review: Object, old: Object | None, scope: Scope) -> None:
    errors = reviews.validate_subject(review.get("spec") or {})
    reviews.refuse(errors + reviews.validate_metadata(review, scope, namespaced=False))


async def create(namespace: str, name: str, review: Object, scope: Scope) -> Object:
    spec = review["spec"]
    return await reviews.answer(review, reviews.question(spec, reviews.user_of(spec)), scope)


RULES = Rules(prepare=check, connect={"": create})
