"""What each stage of a request decided, why, and how long it took.

The server makes one Trace per request and fills it; admission writes to it as it goes. Audit events and the lines of
`--request-trace-path`, which `kubegate trace` shows, are made from it, so nothing is worked out twice. No secret, token
or object body of a Secret may be written to a trace (law 5).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from kubegate.api.status import StatusError


class Stage(Struct):
    """`name` (authentication, authorization, admission/PLUGIN, store …), who decided, what, and why.

    What the stage changed is read through `changes()`: most requests are never asked for it, so it is worked out
    then, by `difference`, unless `patch` holds it already.
    """

    name: str
    decision: str = ""
    by: str = ""
    reason: str = ""
    patch: list[dict[str, Any]] | None = None
    seconds: float = 0.0
    difference: Callable[[], list[dict[str, Any]]] | None = None

    def changes(self) -> list[dict[str, Any]]:
        """What the stage did to the object, as a JSON patch; empty where it did nothing."""
        if self.patch is None and self.difference is not None:
            self.patch, self.difference = self.difference(), None
        return self.patch or []


MOST_WARNINGS = 4097
"""More are not kept: an answer has room for 4,096 characters of them, and one more."""


class Timing:
    """A stage while it lasts."""

    __slots__ = ("_stage", "_start", "_trace")

    def __init__(self, trace: Trace, stage: Stage) -> None:
        self._trace, self._stage = trace, stage

    def __enter__(self) -> Stage:
        self._start = time.perf_counter()
        return self._stage

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, place: object) -> None:
        stage = self._stage
        stage.seconds = time.perf_counter() - self._start
        if isinstance(error, StatusError):
            stage.decision, stage.reason = "deny", error.message
        elif kind is not None and issubclass(kind, Exception):
            stage.decision = stage.decision or "error"
            stage.reason = stage.reason or kind.__name__
        self._trace.stages.append(stage)


class Trace(Struct):
    """Stages in the order in which they ended; what clients are told beside the answer; what auditors are."""

    stages: list[Stage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    audit_annotations: dict[str, str] = field(default_factory=dict)
    request_annotations: dict[str, str] = field(default_factory=dict)
    """Annotations that tell of the request's body: for audit events that hold it, too (from level Request)."""

    def stage(self, name: str) -> Timing:
        """`with trace.stage("store"): …` times a stage; it is recorded whether it ends well or raises."""
        return Timing(self, Stage(name))

    def warn(self, text: str) -> None:
        """A Warning header for the client; the same text is sent once."""
        if text and len(self.warnings) < MOST_WARNINGS and text not in self.warnings:
            self.warnings.append(text)

    def annotate(self, key: str, value: str) -> None:
        """An annotation of the audit event; the first value of a key stays, as in kube-apiserver."""
        self.audit_annotations.setdefault(key, value)
