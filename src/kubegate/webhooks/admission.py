"""AdmissionReview: mutate and validate policies. Versions v1 and v1beta1 of admission.k8s.io."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from typing import Any

import orjson

from kubegate.admission.difference import Members, changes, members
from kubegate.api import Object
from kubegate.webhooks.answers import Answer, BadReview, extra, strings, typed
from kubegate.webhooks.calls import Caller, PolicyFailed, failed
from kubegate.webhooks.gate import Deny, Policy, Review


async def answer(caller: Caller, policies: Sequence[Policy], review: Object) -> Answer:
    """Ask the policies one after the other, each about the object as the one before left it.

    The first that denies or fails decides. Raises BadReview.
    """
    request = _request(review)
    shared = Review(request)
    field, uid, user = request.get, request["uid"], request.get("userInfo")
    log: dict[str, Any] = {
        "uid": uid,
        "operation": field("operation"),
        "resource": _resource_text(request),
        "namespace": field("namespace") or "",
        "name": field("name") or "",
        "user": user.get("username") if user else None,
        "dryRun": field("dryRun") is True,
    }
    response: Object = {"uid": uid, "allowed": True}
    outcome: Any = "allowed"
    try:
        patch, operations = await _ask(caller, policies, request, shared, log["resource"].startswith("secrets"))
        if operations:
            log["patched"] = operations
            response["patchType"] = "JSONPatch"
            response["patch"] = b2a_base64(patch, newline=False).decode()
    except Deny as denied:
        outcome, log["reason"] = "denied", denied.message
        response |= {"allowed": False, "status": refusal(denied.code, denied.reason, denied.message)}
    except PolicyFailed as failure:
        outcome, log["reference"], log["policy"] = "failed", failure.reference, failure.policy.name
        response |= {"allowed": False, "status": refusal(500, "InternalError", str(failure))}
    if shared.warnings:
        response["warnings"] = shared.warnings
    if shared.annotations:
        response["auditAnnotations"] = shared.annotations
    return Answer(response, outcome, log)


def refusal(code: int, reason: str, message: str) -> Object:
    """The metav1.Status of a refusal."""
    return {"status": "Failure", "message": message, "reason": reason, "code": code}


def matching(policies: Sequence[Policy], review: Object) -> list[Policy]:
    """Those policies whose rules and object selector speak of a request; all of them for what is no request.

    Of a namespace selector only the label `kubernetes.io/metadata.name` can be known here: the others are taken to
    match. Whoever registers each policy by its own path (as `kubegate manifests` does) has them looked at by the
    API server.
    """
    from kubegate.admission import GroupVersionResource, Operation
    from kubegate.admission.webhooks.matching import rule_matches
    from kubegate.api.selectors import from_object

    request = _request(review)
    gvr = request.get("requestResource") or request.get("resource") or {}
    resource = GroupVersionResource(gvr.get("group") or "", gvr.get("version") or "", gvr.get("resource") or "")
    try:
        operation = Operation(str(request.get("operation")))
    except ValueError:
        raise BadReview("request.operation: wanted is CREATE, UPDATE, DELETE or CONNECT") from None
    namespace, subresource = request.get("namespace") or "", request.get("subResource") or ""
    namespaced = bool(namespace) and (resource.group, resource.resource) != ("", "namespaces")
    found = []
    for policy in policies:
        scope = policy.scope
        if scope is None:
            continue
        if not any(rule_matches(rule, operation, resource, subresource, namespaced) for rule in scope.rules()):
            continue
        if namespace and not _may_match(scope.namespace_selector, namespace):
            continue
        selector = from_object(scope.object_selector)
        shown = [_labels(request.get(name)) for name in ("object", "oldObject")]
        if selector.empty or any(labels is not None and selector.matches(labels) for labels in shown):
            found.append(policy)
    return found


_NAME_LABEL = "kubernetes.io/metadata.name"


def _may_match(selector: Any, namespace: str) -> bool:
    """Whether the part of a namespace selector that speaks of the namespace's name holds."""
    from kubegate.api.selectors import from_object

    labels = {key: value for key, value in (selector.get("matchLabels") or {}).items() if key == _NAME_LABEL}
    rules = [each for each in selector.get("matchExpressions") or () if each.get("key") == _NAME_LABEL]
    known = {"matchLabels": labels, "matchExpressions": rules}
    return not (labels or rules) or from_object(known).matches({_NAME_LABEL: namespace})


def _labels(found: Any) -> dict[str, str] | None:
    """An object's labels; None for what has no metadata."""
    metadata = found.get("metadata") if isinstance(found, dict) else None
    if not isinstance(metadata, dict):
        return None
    labels = metadata.get("labels")
    return {key: value for key, value in labels.items() if isinstance(value, str)} if isinstance(labels, dict) else {}


async def _ask(
    caller: Caller, policies: Sequence[Policy], request: Object, shared: Review, secret: bool
) -> tuple[bytes, int]:
    """The JSON patch that the policies' changes amount to, and its operations' number. Raises Deny and PolicyFailed."""
    current = request.get("object")
    first: Members | None = None
    patch, operations = b"", 0
    for policy in policies:
        if policy.kind == "validate":
            shown = current if current is not None else request.get("oldObject")
            await caller.call(policy, shown, shared, secret=secret)
        elif current is not None:  # there is nothing to change in what is deleted
            try:
                if first is None:
                    first = members(current)
                returned = await caller.call(policy, current, shared, secret=secret)
                current = current if returned is None else returned
                if not isinstance(current, dict):
                    raise TypeError(f"it returned {type(current).__name__}; wanted is the object, or None")
                found = changes(first, current)
                patch, operations = orjson.dumps(found), len(found)
            except TypeError as error:  # it is no JSON, or is nested too deep
                raise failed(policy, error, secret=secret) from None
    return patch, operations


def _request(review: Object) -> Object:
    """The review's request with the fields that are looked at here of their types. Raises BadReview."""
    request = review.get("request")
    if type(request) is not dict:
        typed(review, "request", dict, "AdmissionReview")
        raise BadReview("AdmissionReview.request: there is none")
    for name, value in request.items():
        if name not in _FIELDS or value is None:
            continue
        if type(value) is not _FIELDS[name]:
            typed(request, name, _FIELDS[name], "request")
        elif name in _NAMED:
            for part, text in value.items():
                if type(text) is not str:
                    raise BadReview(f"request.{name}.{part}: wanted is a string")
        elif name == "userInfo":
            _check_user(value)
    if not request.get("uid"):
        raise BadReview("request.uid: there is none")
    checked: Object = request
    return checked


def _check_user(user: Object) -> None:
    for name, value in user.items():
        if name == "username" or name == "uid":
            if type(value) is not str:
                typed(user, name, str, "request.userInfo")
        elif name == "groups":
            strings(user, name, "request.userInfo")
        elif name == "extra":
            extra(user, "request.userInfo")


_FIELDS: dict[str, Any] = {
    "uid": str,
    "operation": str,
    "namespace": str,
    "name": str,
    "subResource": str,
    "object": dict,
    "oldObject": dict,
    "options": dict,
    "resource": dict,
    "requestResource": dict,
    "kind": dict,
    "requestKind": dict,
    "userInfo": dict,
}
"""The fields of a request that are looked at here, and their types."""
_NAMED = frozenset({"resource", "requestResource", "kind", "requestKind"})
"""Those that are names alone."""


def _resource_text(request: Object) -> str:
    """`pods`, `deployments.apps`, `pods/exec`: for the log."""
    found = request.get("resource")
    text: str = found.get("resource") or "" if found else ""
    if found and found.get("group"):
        text = f"{text}.{found['group']}"
    subresource = request.get("subResource")
    return f"{text}/{subresource}" if subresource else text
