"""What controllers ask of objects and do to them again and again: keys, owners, readiness, conditions, writes."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from kubegate.api import Object
from kubegate.api.clock import parse_rfc3339
from kubegate.api.status import StatusError

Result = TypeVar("Result")


def key_of(obj: Object) -> str:
    """`NAMESPACE/NAME`, or `NAME` of what is in no namespace."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace", "")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def split_key(key: str) -> tuple[str, str]:
    """(namespace, name) of a key."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def ending(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def controller_of(obj: Object) -> Object | None:
    """The one owner reference that says `controller`."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Object = reference
            return found
    return None


def controller_reference(api_version: str, kind: str, owner: Object) -> Object:
    metadata = owner["metadata"]
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def reference_to(api_version: str, kind: str, obj: Object) -> Object:
    """A v1 ObjectReference to an object of a namespace, as it is now."""
    metadata = obj["metadata"]
    return {
        "kind": kind,
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": api_version,
        "resourceVersion": metadata["resourceVersion"],
    }


def controlled_by(owner: Object, objects: Iterable[Object]) -> list[Object]:
    uid = owner["metadata"]["uid"]
    return [obj for obj in objects if (controller_of(obj) or {}).get("uid") == uid]


def controller_keys(kind: str, obj: Object, previous: Object | None) -> list[str]:
    """The keys of the owners of this kind that control an object now, or did before it changed."""
    references = (controller_of(state) for state in (obj, previous) if state is not None)
    namespace = obj["metadata"]["namespace"]
    return [f"{namespace}/{found['name']}" for found in references if found is not None and found["kind"] == kind]


def created_at(obj: Object) -> float:
    """Seconds since 1970."""
    return parse_rfc3339(obj["metadata"]["creationTimestamp"])


def condition(obj: Object, sort: str) -> Object | None:
    for found in (obj.get("status") or {}).get("conditions") or ():
        if found.get("type") == sort:
            each: Object = found
            return each
    return None


def is_true(obj: Object, sort: str) -> bool:
    return (condition(obj, sort) or {}).get("status") == "True"


def pod_phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def pod_active(pod: Object) -> bool:
    """Neither ended nor about to end."""
    return pod_phase(pod) not in ("Succeeded", "Failed") and not ending(pod)


def pod_ready(pod: Object) -> bool:
    return is_true(pod, "Ready")


def pod_available(pod: Object, seconds: int, now: float) -> bool:
    """Ready for at least `seconds`."""
    if not pod_ready(pod):
        return False
    since = (condition(pod, "Ready") or {}).get("lastTransitionTime")
    return seconds == 0 or (since is not None and parse_rfc3339(since) + seconds <= now)


def without_empty(status: dict[str, Any]) -> Object:
    """As Go's omitempty writes it: no zero, nothing empty."""
    return {name: value for name, value in status.items() if value not in (None, 0, "", [], {})}


def namespace_ends(error: StatusError) -> bool:
    """Whether something could not be made because its namespace is about to go."""
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


async def tolerant(write: Awaitable[Result], *reasons: str) -> Result | None:
    """Await a write; None where it failed for one of these reasons (NotFound where none is named)."""
    try:
        return await write
    except StatusError as error:
        if error.reason in (reasons or ("NotFound",)):
            return None
        raise
