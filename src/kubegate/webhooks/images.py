"""ImageReview: images policies. Version v1alpha1 of imagepolicy.k8s.io."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubegate.api import Object
from kubegate.webhooks.answers import Answer, BadReview, typed
from kubegate.webhooks.calls import Caller, PolicyFailed, failed
from kubegate.webhooks.gate import Deny, Policy, Review


async def answer(caller: Caller, policies: Sequence[Policy], review: Object) -> Answer:
    """All images must be trusted. Raises BadReview."""
    spec = typed(review, "spec", dict, "ImageReview", {})
    names = []
    for position, container in enumerate(typed(spec, "containers", list, "spec", ())):
        if not isinstance(container, dict):
            raise BadReview(f"spec.containers[{position}]: wanted is an object")
        names.append(typed(container, "image", str, f"spec.containers[{position}]", ""))
    typed(spec, "annotations", dict, "spec")
    typed(spec, "namespace", str, "spec")
    shared = Review(spec)
    log: dict[str, Any] = {"images": names, "namespace": shared.namespace}
    status: Object = {"allowed": True}
    outcome: Any = "allowed"
    try:
        await check(caller, policies, names, shared)
    except Deny as denied:
        outcome, log["reason"] = "denied", denied.message
        status = {"allowed": False, "reason": denied.message}
    except PolicyFailed as failure:
        outcome, log["reference"], log["policy"] = "failed", failure.reference, failure.policy.name
        status = {"allowed": False, "reason": str(failure)}
    if shared.annotations:
        status["auditAnnotations"] = shared.annotations
    return Answer(status, outcome, log)


async def check(caller: Caller, policies: Sequence[Policy], images: Sequence[str], review: Review) -> None:
    """Raises Deny for the first image that is refused or that nobody knows, and PolicyFailed."""
    for image in dict.fromkeys(images):
        for policy in policies:
            found = await caller.call(policy, image, review)
            if found is True:
                break
            if found is False:
                raise Deny(f"image {image} is refused by policy {policy.name}")
            if found is not None:
                error = TypeError(f"it returned {type(found).__name__}; wanted is True, False or None")
                raise failed(policy, error)
        else:
            raise Deny(f"image {image} is trusted by no policy")
