"""Every kind of review: from a decoded body and a path to the body of the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubegate.api import Object
from kubegate.webhooks import access, admission, images, tokens
from kubegate.webhooks.answers import Answer, BadReview
from kubegate.webhooks.calls import Caller
from kubegate.webhooks.gate import Gate, Kind, Policy

_Answerer = Callable[[Caller, Sequence[Policy], Object], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Sort:
    """One kind of review: the versions spoken, and who answers it."""

    kind: str
    api_versions: tuple[str, ...]
    answer: _Answerer


_ADMISSION = Sort("AdmissionReview", ("admission.k8s.io/v1", "admission.k8s.io/v1beta1"), admission.answer)
_TOKEN_VERSIONS = ("authentication.k8s.io/v1", "authentication.k8s.io/v1beta1")
_ACCESS_VERSIONS = ("authorization.k8s.io/v1", "authorization.k8s.io/v1beta1")
SORTS: Mapping[Kind, Sort] = {
    "mutate": _ADMISSION,
    "validate": _ADMISSION,
    "authenticate": Sort("TokenReview", _TOKEN_VERSIONS, tokens.answer),
    "authorize": Sort("SubjectAccessReview", _ACCESS_VERSIONS, access.answer),
    "images": Sort("ImageReview", ("imagepolicy.k8s.io/v1alpha1",), images.answer),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path and the policies behind it. `by_rules`: those of them are asked whose rules speak of the request."""

    path: str
    kind: Kind
    policies: tuple[Policy, ...]
    by_rules: bool = False


def endpoints(gate: Gate) -> dict[str, Endpoint]:
    """By path: `/mutate` and `/validate` for all policies by their rules, `/mutate/NAME` for one whatever its rules
    say, `/authenticate`, `/authorize`, `/images`. A kind without policies has no path."""
    found: dict[str, Endpoint] = {}
    for kind, sort in SORTS.items():
        policies = gate.of(kind)
        if not policies:
            continue
        by_rules = sort is _ADMISSION
        found[f"/{kind}"] = Endpoint(f"/{kind}", kind, policies, by_rules)
        if by_rules:
            for policy in policies:
                path = f"/{kind}/{policy.name}"
                found[path] = Endpoint(path, kind, (policy,))
    return found


async def answer(caller: Caller, endpoint: Endpoint, review: Any) -> tuple[Object, Answer]:
    """The review to send back (it carries apiVersion, kind and uid), and what was decided. Raises BadReview."""
    sort = SORTS[endpoint.kind]
    if not isinstance(review, dict):
        raise BadReview(f"the body is a JSON {type(review).__name__}; wanted is a {sort.kind}")
    kind, api_version = review.get("kind"), review.get("apiVersion")
    if kind != sort.kind or not isinstance(api_version, str):
        raise BadReview(f"{endpoint.path} answers {sort.kind}; the body's kind and apiVersion are of something else")
    if api_version not in sort.api_versions:
        raise BadReview(f"a {sort.kind} of another apiVersion than {' and '.join(sort.api_versions)}")
    policies: Sequence[Policy] = endpoint.policies
    if endpoint.by_rules:
        policies = admission.matching(policies, review)
    decided = await sort.answer(caller, policies, review)
    if sort is _ADMISSION:
        return {"apiVersion": api_version, "kind": kind, "response": decided.response}, decided
    metadata = review.get("metadata")
    uid = metadata.get("uid") if isinstance(metadata, dict) else None
    about = {"uid": uid} if isinstance(uid, str) else {}
    return {"apiVersion": api_version, "kind": kind, "metadata": about, "status": decided.response}, decided
