"""How a plugin says no. Follows k8s.io/apiserver/pkg/admission/errors."""

from __future__ import annotations

from kubegate.admission import Attributes
from kubegate.api.status import StatusError
from kubegate.api.status import forbidden as _forbidden
from kubegate.api.status import not_found as _not_found


def subject(attributes: Attributes) -> str:
    """The name that a refusal is about; before a name is generated, what it will be generated from."""
    if attributes.name:
        return attributes.name
    metadata = (attributes.object or {}).get("metadata") or {}
    return metadata.get("name") or metadata.get("generateName") or "Unknown"


def forbidden(attributes: Attributes, why: str) -> StatusError:
    """403: `pods "p" is forbidden: WHY`."""
    return _forbidden(attributes.resource.group, attributes.resource.resource, subject(attributes), why)


def not_found(attributes: Attributes) -> StatusError:
    """404 about the object itself."""
    return _not_found(attributes.resource.group, attributes.resource.resource, subject(attributes))


def unexpected(text: str) -> StatusError:
    """500 without a reason: what kube-apiserver answers where a plugin gives back a plain error."""
    return StatusError(500, "", text)
