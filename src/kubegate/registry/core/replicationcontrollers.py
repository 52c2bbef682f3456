"""ReplicationControllers: ReplicaSets of the first days, with a selector of plain labels."""

from __future__ import annotations

from kubegate.api import Object, field, selectors
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.apps import templates
from kubegate.registry.apps.replicasets import replica_status
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import mapped, nonnegative
from kubegate.registry.core.podspec.defaults import default_template
from kubegate.registry.core.podspec.spec import validate_template
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.core.v1.ReplicationController"


def _default(obj: Object) -> None:
    spec = obj["spec"]
    template = spec.get("template")
    if template is not None:
        default_template(template)
    labels = templates.labels_of(template)
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        if not mapped(obj["metadata"], "labels"):
            obj["metadata"]["labels"] = dict(labels)
    spec.setdefault("replicas", 1)


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    errors = nonnegative(spec.get("minReadySeconds", 0), "spec.minReadySeconds")
    labels = mapped(spec, "selector")
    if not labels:
        errors.append(field.required("spec.selector"))
    errors += nonnegative(spec["replicas"], "spec.replicas")
    template = spec.get("template")
    if template is None:
        errors.append(field.required("spec.template"))
    else:
        if labels:
            errors += templates.matches(selectors.from_set(labels), template, "spec.template")
        before = None if old is None else old["spec"].get("template")
        errors += validate_template(template, "spec.template", templates.options_of(scope, before))
        errors += templates.always_running(template, "spec.template", "ReplicationController")
    # An update is looked at as a new object and as an update, so that everything is told twice.
    return errors if old is None else errors * 2


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    return replica_status(mapped(obj, "status"))


def _warnings(obj: Object, old: Object | None) -> list[str]:
    return templates.pod_name_warnings(obj, old) if obj["spec"].get("template") is not None else []


RULES = Rules(
    default=Defaulted(_TYPE, _default),
    prepare=with_blank_status(_TYPE, templates.drop_disabled),
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    fields=templates.replicas_field("replicas"),
    field_labels=("status.replicas",),
    status=True,
    generation=True,
    orphans=True,
    subresources={"status": Rules(validate=checked(_validate_status))},
)
