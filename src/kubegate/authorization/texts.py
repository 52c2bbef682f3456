"""The words in which a refusal is told. Follows k8s.io/apiserver/pkg/endpoints/handlers/responsewriters."""

from __future__ import annotations

from kubegate.api.field import quoted
from kubegate.api.status import StatusError, forbidden
from kubegate.authorization import Attributes, Decision


def refusal(attributes: Attributes) -> str:
    """`User "alice" cannot list resource "pods/log" in API group "" in the namespace "x"`."""
    who = quoted(attributes.user.name)
    if not attributes.resource_request:
        return f"User {who} cannot {attributes.verb} path {quoted(attributes.path)}"
    resource = attributes.resource
    if attributes.subresource:
        resource = f"{resource}/{attributes.subresource}"
    place = f"in the namespace {quoted(attributes.namespace)}" if attributes.namespace else "at the cluster scope"
    group = quoted(attributes.api_group)
    return f"User {who} cannot {attributes.verb} resource {quoted(resource)} in API group {group} {place}"


_SAFE = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def internal_error(uri: str, error: str) -> str:
    """What is answered in plain text where the server itself failed; `uri` is the request's as it was sent."""
    return f"Internal Server Error: {quoted(uri)}: {error}".translate(_SAFE) + "\n"


def forbidden_error(attributes: Attributes, decision: Decision) -> StatusError:
    """The 403 that a request gets that is not allowed; the decision's reason, where there is one, is told.

    Names come from the client and may be shown in a browser, so that markup in them is escaped (the reason is not).
    """
    why = refusal(attributes).translate(_SAFE)
    if decision.reason:
        why = f"{why}: {decision.reason}"
    if attributes.resource_request:
        return forbidden(attributes.api_group, attributes.resource, attributes.name, why)
    return StatusError(403, "Forbidden", f"forbidden: {why}", {})
