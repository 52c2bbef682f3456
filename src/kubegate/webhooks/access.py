"""SubjectAccessReview: authorize policies. Versions v1 and v1beta1 of authorization.k8s.io."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubegate.api import Object
from kubegate.authentication import UserInfo
from kubegate.authorization import NO_OPINION, Attributes, Decision, Verdict
from kubegate.webhooks.answers import Answer, BadReview, extra, strings, typed
from kubegate.webhooks.calls import Caller, PolicyFailed, failed
from kubegate.webhooks.gate import Deny, Policy, Review


async def answer(caller: Caller, policies: Sequence[Policy], review: Object) -> Answer:
    """The first policy with an opinion decides. Raises BadReview."""
    spec = typed(review, "spec", dict, "SubjectAccessReview", {})
    attributes = _attributes(spec)
    log = {
        "user": attributes.user.name,
        "verb": attributes.verb,
        "resource": f"{attributes.resource}.{attributes.api_group}" if attributes.api_group else attributes.resource,
        "namespace": attributes.namespace,
        "name": attributes.name,
        "path": attributes.path,
    }
    log = {name: value for name, value in log.items() if value}
    try:
        decision = await decide(caller, policies, attributes, Review(spec))
    except PolicyFailed as failure:
        text = str(failure)
        log |= {"reference": failure.reference, "policy": failure.policy.name}
        status = {"allowed": False, "denied": True, "reason": text, "evaluationError": text}
        return Answer(status, "failed", log)
    if decision.allowed:
        return Answer(_status(True, False, decision.reason), "allowed", log)
    if decision.verdict is Verdict.DENY:
        return Answer(_status(False, True, decision.reason), "denied", log | {"reason": decision.reason})
    return Answer(_status(False, False, decision.reason), "no opinion", log)


async def decide(caller: Caller, policies: Sequence[Policy], attributes: Attributes, review: Review) -> Decision:
    """The first opinion. Raises PolicyFailed."""
    for policy in policies:
        try:
            found = await caller.call(policy, attributes, review)
        except Deny as denied:
            return Decision(Verdict.DENY, denied.message, authorizer=policy.name)
        if found is True:
            return Decision(Verdict.ALLOW, f"allowed by policy {policy.name}", authorizer=policy.name)
        if found is False:
            return Decision(Verdict.DENY, f"denied by policy {policy.name}", authorizer=policy.name)
        if found is not None:
            error = TypeError(f"it returned {type(found).__name__}; wanted is True, False or None")
            raise failed(policy, error)
    return NO_OPINION


def _status(allowed: bool, denied: bool, reason: str) -> Object:
    status: Object = {"allowed": allowed}
    if denied:
        status["denied"] = True
    if reason:
        status["reason"] = reason
    return status


def _attributes(spec: Object) -> Attributes:
    """The question that a review asks. Raises BadReview."""
    # v1beta1 called it `group`
    groups = strings(spec, "groups", "spec") or strings(spec, "group", "spec")
    name, uid = typed(spec, "user", str, "spec", ""), typed(spec, "uid", str, "spec", "")
    user = UserInfo(name, uid, groups, extra(spec, "spec"))
    resource = typed(spec, "resourceAttributes", dict, "spec")
    path = typed(spec, "nonResourceAttributes", dict, "spec")
    if (resource is None) == (path is None):
        raise BadReview("spec: wanted is one of resourceAttributes and nonResourceAttributes")
    if path is not None:
        where = "spec.nonResourceAttributes"
        verb = typed(path, "verb", str, where, "")
        return Attributes(user, verb, resource_request=False, path=typed(path, "path", str, where, ""))
    where = "spec.resourceAttributes"

    def text(field: str) -> str:
        found: str = typed(resource, field, str, where, "")
        return found

    return Attributes(
        user,
        text("verb"),
        api_group=text("group"),
        api_version=text("version"),
        resource=text("resource"),
        subresource=text("subresource"),
        namespace=text("namespace"),
        name=text("name"),
        field_requirements=_requirements(resource, "fieldSelector"),
        label_requirements=_requirements(resource, "labelSelector"),
    )


def _requirements(resource: Object, name: str) -> list[dict[str, Any]] | None:
    selector = typed(resource, name, dict, "spec.resourceAttributes", {})
    found: list[dict[str, Any]] | None = typed(selector, "requirements", list, f"spec.resourceAttributes.{name}")
    if found is not None and not all(isinstance(each, dict) for each in found):
        raise BadReview(f"spec.resourceAttributes.{name}.requirements: wanted is a list of objects")
    return found
