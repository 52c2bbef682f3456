"""Deployments: replicas that are replaced step by step when their template changes."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.apps import templates
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import at_most_100_percent, int_or_percent, int_or_percent_value, mapped, nonnegative
from kubegate.registry.core.podspec.defaults import default_template
from kubegate.registry.objectmeta import checked, keeping

_TYPE = "io.k8s.api.apps.v1.Deployment"
_QUARTER = "25%"
_COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def _default(obj: Object) -> None:
    spec = obj["spec"]
    default_template(spec["template"])
    spec.setdefault("replicas", 1)
    strategy = spec["strategy"]
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", _QUARTER)
        rolling.setdefault("maxSurge", _QUARTER)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    templates.drop_disabled(obj, old, scope)
    if old is not None and mapped(obj["metadata"], "annotations") != mapped(old["metadata"], "annotations"):
        # The controller copies annotations to replica sets, so they count.
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    errors = nonnegative(spec["replicas"], "spec.replicas")
    found = spec.get("selector")
    errors += templates.selector(found, "spec.selector", "empty selector is invalid for deployment")
    before = None if old is None else old["spec"]["template"]
    errors += templates.of_replica_set(spec["template"], found, templates.options_of(scope, before))
    errors += _strategy(spec["strategy"])
    ready = spec.get("minReadySeconds", 0)
    errors += nonnegative(ready, "spec.minReadySeconds")
    errors += nonnegative(spec["revisionHistoryLimit"], "spec.revisionHistoryLimit")
    deadline = spec["progressDeadlineSeconds"]
    errors += nonnegative(deadline, "spec.progressDeadlineSeconds")
    if deadline <= ready:
        errors.append(field.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    if old is not None:
        errors += templates.fixed_selector(found, old["spec"].get("selector"))
    return errors


def _strategy(strategy: Object) -> list[FieldError]:
    path, kind, rolling = "spec.strategy", strategy["type"], strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is None:
            return []
        text = "may not be specified when strategy `type` is 'Recreate'"
        return [field.forbidden(f"{path}.rollingUpdate", text)]
    if kind != "RollingUpdate":
        shown = goshape.shape(strategy, "DeploymentStrategy")
        return [field.not_supported(path, shown, ("Recreate", "RollingUpdate"))]
    assert rolling is not None
    where, missing, surge = f"{path}.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], rolling["maxSurge"]
    errors = int_or_percent(missing, where) + int_or_percent(surge, f"{path}.rollingUpdate.maxSurge")
    if int_or_percent_value(missing) == 0 and int_or_percent_value(surge) == 0:
        errors.append(field.invalid(where, missing, "may not be 0 when `maxSurge` is 0"))
    return errors + at_most_100_percent(missing, where)


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    assert old is not None
    status = mapped(obj, "status")
    errors = templates.counts(status, ("observedGeneration", *_COUNTS, "collisionCount"))
    errors += templates.at_most(
        status, ("updatedReplicas", "readyReplicas", "availableReplicas"), "replicas", templates.OVER_REPLICAS
    )
    text = "cannot be greater than readyReplicas"
    errors += templates.at_most(status, ("availableReplicas",), "readyReplicas", text)
    return errors + templates.collisions(status, old)


RULES = Rules(
    default=Defaulted(_TYPE, _default),
    prepare=with_blank_status(_TYPE, _prepare),
    validate=checked(_validate),
    warnings=templates.template_warnings,
    status=True,
    generation=True,
    subresources={"status": Rules(prepare=keeping("labels"), validate=checked(_validate_status))},
)
