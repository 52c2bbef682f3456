"""Events of core/v1: what happened to an object, told by whoever made it happen."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import dns_subdomain, mapped, qualified_name

INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_MAX_INSTANCE = _MAX_ACTION = _MAX_REASON = 128
_MAX_MESSAGE = 1024
_ELSEWHERE = "does not match event.namespace"


def validate_form(event: Object, controller: str) -> list[FieldError]:
    """An event in the form of core/v1. `controller` is what the version asked for calls its reportingComponent."""
    namespace = event["metadata"].get("namespace", "")
    involved = mapped(event, "involvedObject").get("namespace", "")
    elsewhere = field.invalid("involvedObject.namespace", involved, _ELSEWHERE)
    errors = []
    if not event.get("eventTime"):
        if namespace not in ({involved} if involved else {"", "default"}):
            errors.append(elsewhere)
    else:
        if not involved and namespace not in ("default", "kube-system"):
            errors.append(elsewhere)
        errors += _new(event, controller)
    return errors + dns_subdomain(namespace, "namespace")


def _new(event: Object, controller: str) -> list[FieldError]:
    """What an event with an eventTime must say."""
    errors = []
    component = event.get("reportingComponent", "")
    if not component:
        errors.append(field.required(controller))
    errors += qualified_name(component, controller)
    for name, limit in (("reportingInstance", _MAX_INSTANCE), ("action", _MAX_ACTION), ("reason", _MAX_REASON)):
        value = event.get(name, "")
        if not value:
            errors.append(field.required(name))
        errors += _at_most(value, limit, name)
    return errors + _at_most(event.get("message", ""), _MAX_MESSAGE, "message")


def _at_most(value: str, limit: int, path: str) -> list[FieldError]:
    if len(value.encode()) <= limit:
        return []
    return [field.invalid(path, "", f"can have at most {limit} characters")]


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    return validate_form(obj, "reportingComponent")


def fields(event: Object) -> dict[str, str]:
    """By the names of both groups, since what is stored is asked for through both."""
    involved = mapped(event, "involvedObject")
    found = {f"{part}.{name}": involved.get(name, "") for part in ("involvedObject", "regarding") for name in INVOLVED}
    component = event.get("reportingComponent", "")
    found["reason"], found["type"] = event.get("reason", ""), event.get("type", "")
    found["reportingComponent"] = found["reportingController"] = component
    found["source"] = mapped(event, "source").get("component", "") or component
    return found


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.Event"),
    validate=_validate,
    fields=fields,
    field_labels=(
        *(f"involvedObject.{name}" for name in INVOLVED),
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    name="path",
    create_on_update=True,
    owns_nothing=True,
)
