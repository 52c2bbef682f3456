"""The status of a Job: whoever runs it may not say what cannot be. Only what an update changes is looked at."""

from __future__ import annotations

from typing import Any

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Scope
from kubegate.registry.batch.indexes import BadIndexes, overlap, parse
from kubegate.registry.checks import listed, mapped, nonnegative

_CONDITIONS = "status.conditions"


def validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    assert old is not None
    new, before = _View(obj), _View(old)
    return (
        _counts(new)
        + _contradictions(new, before)
        + _finished(new, before)
        + _indexes(new, before)
        + _success(new)
        + _transitions(new, before)
    )


class _View:
    """A Job's status and what its conditions say."""

    def __init__(self, job: Object) -> None:
        self.spec, self.status = job["spec"], mapped(job, "status")
        self.conditions = {one.get("type") for one in listed(self.status, "conditions") if one.get("status") == "True"}
        self.complete, self.failed = "Complete" in self.conditions, "Failed" in self.conditions
        self.finished = self.complete or self.failed
        self.success_met = "SuccessCriteriaMet" in self.conditions
        self.failure_target = "FailureTarget" in self.conditions

    def __getitem__(self, name: str) -> Any:
        return self.status.get(name)


def _bare(path: str, detail: str) -> FieldError:
    """An Invalid that shows no value."""
    return FieldError("FieldValueInvalid", path, f"Invalid value: {detail}")


def _counts(new: _View) -> list[FieldError]:
    errors = []
    for name in ("active", "succeeded", "failed", "ready", "terminating"):
        errors += nonnegative(new[name] or 0, f"status.{name}")
    seen: set[str] = set()
    for name in ("succeeded", "failed"):
        for position, uid in enumerate(listed(mapped(new.status, "uncountedTerminatedPods"), name)):
            path = field.index(f"status.uncountedTerminatedPods.{name}", position)
            if not uid:
                errors.append(field.invalid(path, uid, "must not be empty"))
            elif uid in seen:
                errors.append(field.duplicate(path, uid))
            seen.add(uid)
    return errors


def _contradictions(new: _View, old: _View) -> list[FieldError]:
    errors = []
    complete_changed, time_changed = new.complete != old.complete, new["completionTime"] != old["completionTime"]
    if (complete_changed or new.failed != old.failed) and new.complete and new.failed:
        errors.append(_bare(_CONDITIONS, "cannot set Complete=True and Failed=true conditions"))
    if (complete_changed or new.failure_target != old.failure_target) and new.complete and new.failure_target:
        errors.append(_bare(_CONDITIONS, "cannot set Complete=True and FailureTarget=true conditions"))
    ended, started = new["completionTime"], new["startTime"]
    where = "status.completionTime"
    if complete_changed or time_changed:
        if ended is not None and not new.complete:
            text = "cannot set completionTime when there is no Complete=True condition"
            errors.append(field.invalid(where, ended, text))
        if ended is None and new.complete:
            errors.append(field.required(where, "completionTime is required for Complete jobs"))
    if (time_changed or started != old["startTime"]) and ended and started and ended < started:
        errors.append(field.invalid(where, ended, "completionTime cannot be set before startTime"))
    if new.failed != old.failed and new.failed and not new.failure_target:
        text = "cannot set Failed=True condition without the FailureTarget=true condition"
        errors.append(_bare(_CONDITIONS, text))
    if complete_changed and new.complete and not new.success_met:
        text = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
        errors.append(_bare(_CONDITIONS, text))
    return errors


def _finished(new: _View, old: _View) -> list[FieldError]:
    if not new.finished:
        return []
    errors, just = [], new.finished != old.finished
    active, pods = new["active"] or 0, mapped(new.status, "uncountedTerminatedPods")
    if (just or new["active"] != old["active"]) and active > 0:
        errors.append(field.invalid("status.active", active, "active>0 is invalid for finished job"))
    if (just or new["startTime"] != old["startTime"]) and new["startTime"] is None:
        errors.append(field.required("status.startTime", "startTime is required for finished job"))
    changed = pods != mapped(old.status, "uncountedTerminatedPods")
    if (just or changed) and (listed(pods, "failed") or listed(pods, "succeeded")):
        text = "uncountedTerminatedPods needs to be empty for finished job"
        errors.append(field.invalid("status.uncountedTerminatedPods", pods, text))
    return errors


def _indexes(new: _View, old: _View) -> list[FieldError]:
    errors = []
    completions, indexed = new.spec.get("completions"), new.spec.get("completionMode") == "Indexed"
    completed, failed = new["completedIndexes"] or "", new["failedIndexes"]
    limited = "backoffLimitPerIndex" in new.spec
    completed_changed = completed != (old["completedIndexes"] or "")
    failed_changed = failed != old["failedIndexes"]
    done, bad = "status.completedIndexes", "status.failedIndexes"
    if completed_changed and completions is not None:
        errors += _readable("completedIndexes", done, completed, completions)
    if failed_changed and completions is not None and limited and failed is not None:
        errors += _readable("failedIndexes", bad, failed, completions)
    if completed_changed and completed and not indexed:
        text = "cannot set non-empty completedIndexes when non-indexed completion mode"
        errors.append(field.invalid(done, completed, text))
    if failed_changed and not limited and failed is not None:
        text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        errors.append(field.invalid(bad, failed, text))
    if (failed_changed or completed_changed) and completions is not None and failed is not None:
        shared = overlap(completed, failed, completions)
        if shared is not None:
            text = f"failedIndexes and completedIndexes overlap at index: {shared}"
            errors.append(field.invalid(bad, failed, text))
    terminating, ready = new["terminating"], new["ready"]
    just_finished = new.finished != old.finished
    if (just_finished or terminating != old["terminating"]) and new.finished and (terminating or 0) > 0:
        errors.append(field.invalid("status.terminating", terminating, "terminating>0 is invalid for finished job"))
    if (ready != old["ready"] or new["active"] != old["active"]) and (ready or 0) > (new["active"] or 0):
        errors.append(field.invalid("status.ready", ready, "cannot set more ready pods than active"))
    return errors


def _readable(name: str, path: str, text: str, completions: int) -> list[FieldError]:
    try:
        parse(text, completions)
    except BadIndexes as error:
        return [field.invalid(path, text, f"error parsing {name}: {error}")]
    return []


def _success(new: _View) -> list[FieldError]:
    errors = []
    if new.success_met and new.failed:
        errors.append(_bare(_CONDITIONS, "cannot set SuccessCriteriaMet=True and Failed=true conditions"))
    if new.success_met and new.failure_target:
        errors.append(_bare(_CONDITIONS, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"))
    if new.spec.get("successPolicy") is not None and not new.success_met and new.complete:
        text = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"
        errors.append(_bare(_CONDITIONS, text))
    return errors


def _transitions(new: _View, old: _View) -> list[FieldError]:
    errors = []
    for kind in ("Failed", "Complete", "FailureTarget"):
        if kind in old.conditions and kind not in new.conditions:
            errors.append(_bare(_CONDITIONS, f"cannot disable the terminal {kind}=True condition"))
    scales = new.spec.get("completionMode") == "Indexed" and new.spec.get("completions") == new.spec.get("parallelism")
    for name in ("failed", "succeeded"):
        value = new[name] or 0
        if value < (old[name] or 0) and not (name == "succeeded" and scales):
            errors.append(field.invalid(f"status.{name}", value, f"cannot decrease the {name} counter"))
    ended = new["completionTime"]
    if ended is not None and old["completionTime"] not in (None, ended):
        errors.append(field.invalid("status.completionTime", ended, "completionTime cannot be mutated"))
    if old["startTime"] not in (None, new["startTime"]) and not new.spec.get("suspend"):
        errors.append(field.required("status.startTime", "startTime cannot be removed for unsuspended job"))
    if old.success_met and not new.success_met:
        errors.append(_bare(_CONDITIONS, "cannot disable the SuccessCriteriaMet=True condition"))
    if old.complete and not old.success_met and new.success_met:
        text = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"
        errors.append(_bare(_CONDITIONS, text))
    return errors
