"""LocalSubjectAccessReview: may this user do that in this namespace?"""

from __future__ import annotations

from kubegate.api import Object
from kubegate.registry import Rules, Scope
from kubegate.registry.authorization import reviews


def check(review: Object, old: Object | None, scope: Scope) -> None:
    spec = review.get("spec") or {}
    errors = reviews.validate_subject(spec) + reviews.validate_metadata(review, scope, namespaced=True)
    reviews.refuse(errors + reviews.validate_local(spec, review["metadata"].get("namespace") or ""))


async def create(namespace: str, name: str, review: Object, scope: Scope) -> Object:
    spec = review["spec"]
    return await reviews.answer(review, reviews.question(spec, reviews.user_of(spec)), scope)


RULES = Rules(prepare=check, connect={"": create})
