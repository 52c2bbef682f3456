"""Audit logs read back: audit.k8s.io/v1 events, one JSON object a line, plain or gzipped, of any size."""

from __future__ import annotations

import gzip
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson

from kubegate.analysis.sources import Progress, SourceError
from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes

DECISION = "authorization.k8s.io/decision"
REASON = "authorization.k8s.io/reason"
_STARTED_KEPT = 100_000
_PROGRESS_LINES = 20_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request: what was asked, and what was decided (`allowed` None: the log does not say) and why."""

    attributes: Attributes
    allowed: bool | None
    reason: str
    audit_id: str


def read(path: Path, progress: Progress | None = None) -> Iterator[Recorded]:
    """Each request once, in the order of the file. Raises SourceError, naming the line.

    Of a request's stages the last is taken; a long-running one counts when it started. `progress` is told bytes.
    """
    started: OrderedDict[str, None] = OrderedDict()
    for event in _events(path, progress):
        stage = event.get("stage")
        audit_id = event.get("auditID") or ""
        if stage == "RequestReceived":
            continue
        if stage == "ResponseStarted":
            started[audit_id] = None
            if len(started) > _STARTED_KEPT:
                started.popitem(last=False)
        elif audit_id in started:
            del started[audit_id]
            continue
        yield _recorded(event, audit_id)


def find(path: Path, audit_id: str) -> Recorded | None:
    """The request with this audit ID."""
    return next((each for each in read(path) if each.audit_id == audit_id), None)


def _events(path: Path, progress: Progress | None) -> Iterator[dict[str, Any]]:
    try:
        size = path.stat().st_size
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            for number, line in enumerate(gzip.GzipFile(fileobj=raw) if zipped else raw, 1):
                if progress is not None and not number % _PROGRESS_LINES:
                    progress(raw.tell(), size)
                if not line.strip():
                    continue
                try:
                    event = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise SourceError(f"{path}, line {number}: {error.msg}") from None
                if isinstance(event, dict) and event.get("kind") == "EventList":
                    yield from event.get("items") or ()
                elif isinstance(event, dict):
                    yield event
                else:
                    raise SourceError(f"{path}, line {number}: an audit event is an object")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from None


def _recorded(event: dict[str, Any], audit_id: str) -> Recorded:
    annotations = event.get("annotations") or {}
    decision = annotations.get(DECISION)
    return Recorded(
        attributes=attributes_of(event),
        allowed=None if decision is None else decision == "allow",
        reason=annotations.get(REASON) or "",
        audit_id=audit_id,
    )


def attributes_of(event: dict[str, Any]) -> Attributes:
    """The question that the authorizers were asked; of an impersonated request, that about the impersonated user."""
    who = event.get("impersonatedUser") or event.get("user") or {}
    user = UserInfo(who.get("username") or "", who.get("uid") or "", tuple(who.get("groups") or ()))
    about = event.get("objectRef")
    verb = event.get("verb") or ""
    if not about or not about.get("resource"):
        path, _, _ = (event.get("requestURI") or "").partition("?")
        return Attributes(user, verb, False, path=unquote(path))
    return Attributes(
        user,
        verb,
        True,
        about.get("apiGroup") or "",
        about.get("apiVersion") or "",
        about["resource"],
        about.get("subresource") or "",
        about.get("namespace") or "",
        about.get("name") or "",
    )
