"""Events of events.k8s.io/v1: the same objects as those of core/v1, checked more strictly."""

from __future__ import annotations

from kubegate.api import Object, clone, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, conversion, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import mapped
from kubegate.registry.core import events
from kubegate.registry.objectmeta import checked

_VERSION = "events.k8s.io/v1"
_IMMUTABLE = (
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "reason",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
)
_SHAPES = {"involvedObject": "ObjectReference", "related": "ObjectReference", "source": "EventSource"}
_UNSET = "needs to be unset"


def _as_core(obj: Object) -> Object:
    return conversion.convert(clone(obj), _VERSION, "v1") if obj.get("apiVersion", _VERSION) == _VERSION else obj


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    event = _as_core(obj)
    errors = events.validate_form(event, "reportingController")
    return errors + (_new(event) if old is None else _update(event, _as_core(old)))


def _series(event: Object) -> list[FieldError]:
    series = event.get("series")
    if series is None:
        return []
    errors = []
    if (series.get("count") or 0) < 2:
        errors.append(field.invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        errors.append(field.required("series.lastObservedTime"))
    return errors


def _new(event: Object) -> list[FieldError]:
    errors = _series(event)
    if not event.get("eventTime"):
        errors.append(field.required("eventTime"))
    kind = event.get("type", "")
    if kind not in ("Normal", "Warning"):
        errors.append(field.invalid("type", "", f"has invalid value: {kind}"))
    for name in ("firstTimestamp", "lastTimestamp", "count"):
        if event.get(name):
            errors.append(field.invalid(name, "", _UNSET))
    source = mapped(event, "source")
    if source.get("component") or source.get("host"):
        errors.append(field.invalid("source", "", _UNSET))
    return errors


def _update(event: Object, before: Object) -> list[FieldError]:
    errors = [] if event.get("series") == before.get("series") else _series(event)
    for name in _IMMUTABLE:
        path = "reportingController" if name == "reportingComponent" else name
        errors += field.immutable(path, _shown(event, name), _shown(before, name))
    return errors


def _shown(event: Object, name: str) -> object:
    found = event.get(name)
    if name in _SHAPES and (found or name != "related"):  # the one that may be missing
        return goshape.shape(found or {}, _SHAPES[name])
    if found:
        return found
    if name in ("reason", "message", "type", "action", "reportingComponent", "reportingInstance"):
        return ""
    return 0 if name == "count" else None


def _fields(obj: Object) -> dict[str, str]:
    return events.fields(_as_core(obj))


RULES = Rules(
    default=Defaulted("io.k8s.api.events.v1.Event"),
    validate=checked(_validate),
    fields=_fields,
    field_labels=(*(f"regarding.{name}" for name in events.INVOLVED), "reason", "reportingController", "type"),
    create_on_update=True,
    owns_nothing=True,
)
