"""TokenReview: whose token is this? Asked by kubelets, webhooks and aggregated servers.

Follows k8s.io/kubernetes/pkg/registry/authentication/tokenreview.
"""

from __future__ import annotations

from kubegate.api import Object, clone, status
from kubegate.authentication import AuthenticationError, Headers, Request, intersect, user_info
from kubegate.registry import Rules, Scope
from kubegate.registry.authorization.reviews import with_managed_fields


def check(review: Object, old: Object | None, scope: Scope) -> None:
    if not (review.get("spec") or {}).get("token"):
        raise status.bad_request("token is required for TokenReview in authentication")


async def create(namespace: str, name: str, review: Object, scope: Scope) -> Object:
    """The review with its status; what the sender had put there stays where nothing better is known."""
    spec = review["spec"]
    token = spec["token"]
    authentication = scope.registry.extensions["authentication"]
    wanted = tuple(spec.get("audiences") or authentication.api_audiences) or None
    # the very way that a request with this token would go, anonymous included
    request = Request("", "", Headers.of([("authorization", f"Bearer {token}")]), audiences=wanted)
    answer = clone(with_managed_fields(review, scope))
    found, error = None, ""
    try:
        found = await authentication.authenticator.authenticate(request)
    except AuthenticationError as refused:
        error = str(refused)
    told = answer.setdefault("status", {})
    told.pop("authenticated", None)
    told.setdefault("user", {})
    if found is not None:
        told["authenticated"] = True
        if wanted and not intersect(wanted, found.audiences or ()):
            raise status.internal("error validating audiences")
        told["user"] = user_info(found.user)
        if found.audiences:
            told["audiences"] = list(found.audiences)
    if error:
        told["error"] = error
    return answer


RULES = Rules(prepare=check, connect={"": create})
