"""TokenReview: authenticate policies. Versions v1 and v1beta1 of authentication.k8s.io."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubegate.api import Object
from kubegate.authentication import UserInfo, intersect, user_info
from kubegate.webhooks.answers import Answer, BadReview, strings, typed
from kubegate.webhooks.calls import Caller, PolicyFailed, failed
from kubegate.webhooks.gate import Deny, Policy, Review, User


async def answer(caller: Caller, policies: Sequence[Policy], review: Object) -> Answer:
    """The first policy that knows the token answers. Raises BadReview."""
    spec = typed(review, "spec", dict, "TokenReview", {})
    token = typed(spec, "token", str, "spec")
    wanted = strings(spec, "audiences", "spec")
    if not token:
        raise BadReview("spec.token: there is none")
    shared = Review({name: value for name, value in spec.items() if name != "token"})
    try:
        user = await identify(caller, policies, token, shared)
    except Deny as denied:
        return Answer({"authenticated": False, "error": denied.message}, "denied")  # its text may quote the token
    except PolicyFailed as failure:
        log = {"reference": failure.reference, "policy": failure.policy.name}
        return Answer({"authenticated": False, "error": str(failure)}, "failed", log)
    if user is None:
        return Answer({"authenticated": False}, "no opinion")
    status: Object = {"authenticated": True, "user": user_info(info(user))}
    if user.audiences is not None and wanted:
        good = intersect(user.audiences, wanted)
        if not good:
            text = "the token is not for the audiences wanted"
            return Answer({"authenticated": False, "error": text}, "denied", {"user": user.name, "reason": text})
        status["audiences"] = list(good)
    return Answer(status, "allowed", {"user": user.name})


async def identify(caller: Caller, policies: Sequence[Policy], token: str, review: Review) -> User | None:
    """Whose token it is, its fields of their types. Raises Deny and PolicyFailed."""
    for policy in policies:
        found = await caller.call(policy, token, review, secret=True)
        if found is None:
            continue
        try:
            return _checked(found)
        except TypeError as error:
            raise failed(policy, error) from None
    return None


def info(user: User) -> UserInfo:
    """The user as authentication has it."""
    extra = {name: tuple(values) for name, values in user.extra.items()}
    return UserInfo(user.name, user.uid, tuple(user.groups), extra)


def _checked(found: Any) -> User:
    """Raises TypeError for what is no User, or one without a name; the text never holds what was given."""
    if not isinstance(found, User):
        raise TypeError(f"it returned {type(found).__name__}; wanted is a User, or None")
    if not isinstance(found.name, str) or not found.name:
        raise TypeError("it returned a User without a name")
    groups = _texts(found.groups, "groups")
    extra = {name: _texts(values, "extra") for name, values in found.extra.items() if isinstance(name, str)}
    audiences = None if found.audiences is None else _texts(found.audiences, "audiences")
    return User(found.name, str(found.uid or ""), groups, extra, audiences)


def _texts(values: Any, name: str) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"it returned a User whose {name} are not a list of strings")
    return tuple(values)
