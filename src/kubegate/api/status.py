"""Status errors: every refusal that a client sees, with kube-apiserver's own texts.

Follows k8s.io/apimachinery/pkg/api/errors. One exception type, `StatusError`, carries the metav1.Status
that is sent; the functions below make the usual ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from kubegate.api.field import FieldError, aggregate, quoted


class StatusError(Exception):
    """An answer other than success. `status()` is the metav1.Status body; `code` the HTTP status.

    `list_metadata` is its metadata: how to go on with a list that came to its end early.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        *,
        headers: dict[str, str] | None = None,
        list_metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details
        self.headers = headers or {}
        self.list_metadata = list_metadata or {}

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.list_metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


def qualified(group: str, resource: str) -> str:
    """GroupResource's text: `pods`, `deployments.apps`."""
    return f"{resource}.{group}" if group else resource


def details(group: str, kind: str, name: str = "", **more: Any) -> dict[str, Any]:
    """`details` of a Status: name, group and kind (often the resource's name), empty ones left out."""
    found = {"name": name, "group": group, "kind": kind, **more}
    return {key: value for key, value in found.items() if value}


def not_found(group: str, resource: str, name: str) -> StatusError:
    return StatusError(
        404, "NotFound", f"{qualified(group, resource)} {quoted(name)} not found", details(group, resource, name)
    )


def already_exists(group: str, resource: str, name: str) -> StatusError:
    text = f"{qualified(group, resource)} {quoted(name)} already exists"
    return StatusError(409, "AlreadyExists", text, details(group, resource, name))


def conflict(group: str, resource: str, name: str, why: str) -> StatusError:
    text = f"Operation cannot be fulfilled on {qualified(group, resource)} {quoted(name)}: {why}"
    return StatusError(409, "Conflict", text, details(group, resource, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def forbidden(group: str, resource: str, name: str, why: str) -> StatusError:
    """What admission and escalation checks say: `pods "p" is forbidden: WHY` (`pods is forbidden` without name)."""
    text = f"forbidden: {why}"
    if group or resource:
        subject = f"{qualified(group, resource)} {quoted(name)}" if name else qualified(group, resource)
        text = f"{subject} is {text}"
    return StatusError(403, "Forbidden", text, details(group, resource, name))


def invalid(group: str, kind: str, name: str, errors: Sequence[FieldError]) -> StatusError:
    """422 with the aggregated field errors, each a cause. `group` and `kind` are those of the object."""
    text = f"{qualified(group, kind)} {quoted(name)} is invalid"
    told = list(_told(errors))
    text = f"{text}: {aggregate(map(str, told))}" if told else text
    causes = [{"reason": e.reason, "message": e.body(), "field": e.field} for e in told]
    return StatusError(422, "Invalid", text, details(group, kind, name, causes=causes))


def _told(errors: Sequence[FieldError]) -> Iterator[FieldError]:
    """The first errors, as many as anybody takes: each may show a value of a megabyte."""
    size = 0
    for error in errors:
        yield error
        size += len(error.text) + len(error.field)
        if size > _MOST_TOLD:
            return


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def method_not_supported(group: str, resource: str, verb: str) -> StatusError:
    text = f"{verb} is not supported on resources of kind {quoted(qualified(group, resource))}"
    return StatusError(405, "MethodNotAllowed", text, details(group, resource))


def expired(message: str) -> StatusError:
    """410: a resourceVersion or continue token that is too old."""
    return StatusError(410, "Expired", message)


def too_large_resource_version(wanted: int, current: int) -> StatusError:
    text = f"Timeout: Too large resource version: {wanted}, current: {current}"
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    return StatusError(504, "Timeout", text, {"causes": causes, "retryAfterSeconds": 1})


def too_many_requests(message: str, retry_after: int = 1) -> StatusError:
    return StatusError(
        429,
        "TooManyRequests",
        message,
        {"retryAfterSeconds": retry_after} if retry_after else None,
        headers={"Retry-After": str(retry_after)} if retry_after else None,
    )


_MOST_TOLD: Final = 4 * 1024 * 1024

LARGEST_OBJECT: Final = 3 * 1024 * 1024
"""Bytes that an object may have in the store, unless larger ones may be sent: as many as may be sent by default.

Patches and defaults add to what was sent. With etcd as it comes a kube-apiserver stores half as much.
"""


def too_large(limit: int) -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def internal(message: str) -> StatusError:
    """500: `message` reaches the client, so no secrets and no stack traces in it."""
    text = f"Internal error occurred: {message}"
    return StatusError(500, "InternalError", text, {"causes": [{"message": message}]})


def generic(code: int, reason: str, message: str, kind: str = "", group: str = "") -> StatusError:
    return StatusError(code, reason, message, details(group, kind))


def not_acceptable(media_types: Iterable[str]) -> StatusError:
    text = "only the following media types are accepted: " + ", ".join(media_types)
    return StatusError(406, "NotAcceptable", text)


def unsupported_media_type(media_types: Iterable[str]) -> StatusError:
    text = "the body of the request was in an unknown format - accepted media types include: "
    return StatusError(415, "UnsupportedMediaType", text + ", ".join(media_types))
