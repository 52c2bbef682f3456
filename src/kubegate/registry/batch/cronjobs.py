"""CronJobs: Jobs made of a template at times that a schedule gives."""

from __future__ import annotations

import re
import zoneinfo
from functools import cache

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.apps import templates
from kubegate.registry.batch import cron, jobspec
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import nonnegative
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.batch.v1.CronJob"
# A Job's name is the CronJob's and eleven characters.
_MAX_NAME = 52
_ZONE_PART = re.compile(r"[A-Za-z.\-_0-9+]{1,14}\Z")
_POLICIES = ("Allow", "Forbid", "Replace")
_TZ_REFUSED = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
_TZ_TWICE = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
_TZ_WARNING = (
    "cannot use TZ or CRON_TZ in {}, use timeZone instead, see "
    "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
)


def _default(obj: Object) -> None:
    spec = obj["spec"]
    jobspec.default(spec["jobTemplate"]["spec"])
    spec.setdefault("concurrencyPolicy", "Allow")
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    templates.drop_disabled(obj["spec"]["jobTemplate"], None if old is None else old["spec"]["jobTemplate"], scope)


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    before = None if old is None else old["spec"]
    zone = spec.get("timeZone")
    errors = _schedule(spec.get("schedule", ""), zone, "" if before is None else before.get("schedule", ""))
    if "startingDeadlineSeconds" in spec:
        errors += nonnegative(spec["startingDeadlineSeconds"], "spec.startingDeadlineSeconds")
    if zone is not None and (before is None or before.get("timeZone") != zone):
        errors += _time_zone(zone, "spec.timeZone")
    policy = spec["concurrencyPolicy"]
    if policy not in _POLICIES:
        errors.append(field.not_supported("spec.concurrencyPolicy", policy, _POLICIES))
    errors += _template(spec["jobTemplate"]["spec"], before, scope)
    for name in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        errors += nonnegative(spec[name], f"spec.{name}")
    name = obj["metadata"].get("name", "")
    if old is None and len(name) > _MAX_NAME:
        errors.append(field.invalid("metadata.name", name, f"must be no more than {_MAX_NAME} characters"))
    return errors


def _template(job: Object, before: Object | None, scope: Scope) -> list[FieldError]:
    path = "spec.jobTemplate.spec"
    old_template = None if before is None else before["jobTemplate"]["spec"]["template"]
    errors = jobspec.validate(job, path, templates.options_of(scope, old_template))
    if job.get("selector") is not None:
        errors.append(field.invalid(f"{path}.selector", job["selector"], "`selector` will be auto-generated"))
    if job.get("manualSelector"):
        errors.append(field.not_supported(f"{path}.manualSelector", True, ("nil", "false")))
    return errors


def _schedule(schedule: str, zone: str | None, before: str) -> list[FieldError]:
    path = "spec.schedule"
    if not schedule:
        return [field.required(path)]
    errors = []
    try:
        cron.check(schedule)
    except cron.ScheduleError as error:
        errors.append(field.invalid(path, schedule, str(error)))
    if "TZ" in schedule:
        if "TZ" not in before:
            errors.append(field.invalid(path, schedule, _TZ_REFUSED))
        elif zone is not None:
            errors.append(field.invalid(path, schedule, _TZ_TWICE))
    return errors


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _time_zone(zone: str, path: str) -> list[FieldError]:
    if not zone:
        return [field.invalid(path, zone, "timeZone must be nil or non-empty string")]
    unknown = field.invalid(path, zone, f"unknown time zone {zone}")
    for part in zone.split("/"):
        if part in (".", "..") or part.startswith("-") or not _ZONE_PART.match(part):
            return [unknown]
    if zone.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [field.invalid(path, zone, text)] + ([] if zone == "Local" else [unknown])
    return [] if zone in _zones() or zone == "UTC" else [unknown]


def _warnings(obj: Object, old: Object | None) -> list[str]:
    meta, spec = obj["metadata"], obj["spec"]
    found = []
    texts = names.is_dns1123_label(meta["name"]) if old is None else []
    if texts:
        found.append(f"{templates.POD_NAMES}: [{' '.join(texts)}]")
    if old is None or meta.get("generation") != old["metadata"].get("generation"):
        found += jobspec.warnings_of(spec["jobTemplate"]["spec"], "spec.jobTemplate.spec")
    if old is not None and "TZ" in spec.get("schedule", ""):
        found.append(_TZ_WARNING.format("spec.spec.schedule"))
    return found


RULES = Rules(
    default=Defaulted(_TYPE, _default),
    prepare=with_blank_status(_TYPE, _prepare),
    validate=checked(_validate),
    warnings=_warnings,
    status=True,
    generation=True,
    subresources={"status": Rules(validate=checked())},
)
