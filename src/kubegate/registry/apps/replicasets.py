"""ReplicaSets: so many pods of one template."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.apps import templates
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import mapped, nonnegative
from kubegate.registry.core.podspec.defaults import default_template
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.apps.v1.ReplicaSet"
_COUNTS = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")


def _default(obj: Object) -> None:
    obj["spec"].setdefault("replicas", 1)
    default_template(obj["spec"]["template"])


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    errors = nonnegative(spec["replicas"], "spec.replicas")
    errors += nonnegative(spec.get("minReadySeconds", 0), "spec.minReadySeconds")
    found = spec.get("selector")
    errors += templates.selector(found, "spec.selector", "empty selector is invalid for deployment")
    before = None if old is None else old["spec"]["template"]
    errors += templates.of_replica_set(spec["template"], found, templates.options_of(scope, before))
    if old is not None:
        # An update is looked at as a new object and as an update, so that everything is told twice.
        errors += errors
        errors += templates.fixed_selector(found, old["spec"].get("selector"))
    return errors


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    return replica_status(mapped(obj, "status"))


def replica_status(status: Object) -> list[FieldError]:
    """Also a ReplicationController's."""
    errors = templates.counts(status, _COUNTS)
    within = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    errors += templates.at_most(status, within, "replicas", templates.OVER_REPLICAS)
    text = "cannot be greater than readyReplicas"
    return errors + templates.at_most(status, ("availableReplicas",), "readyReplicas", text)


RULES = Rules(
    default=Defaulted(_TYPE, _default),
    prepare=with_blank_status(_TYPE, templates.drop_disabled),
    validate=checked(_validate, again="subdomain"),
    warnings=templates.pod_name_warnings,
    status=True,
    generation=True,
    subresources={"status": Rules(validate=checked(_validate_status))},
)
