"""DaemonSets: one pod of a template on each node that it selects."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.api.selectors import validate_selector
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.apps import templates
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import at_most_100_percent, int_or_percent, int_or_percent_value, mapped, nonnegative
from kubegate.registry.core.podspec.defaults import default_template
from kubegate.registry.core.podspec.spec import validate_template
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.apps.v1.DaemonSet"
_GENERATION = "deprecated.daemonset.template.generation"
_COUNTS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
)


def _default(obj: Object) -> None:
    spec = obj["spec"]
    default_template(spec["template"])
    strategy = spec["updateStrategy"]
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    templates.drop_disabled(obj, old, scope)
    annotations = obj["metadata"].setdefault("annotations", {})
    if old is None:
        generation = max(1, _number(annotations.get(_GENERATION, "")))
    else:
        generation = _number(mapped(old["metadata"], "annotations").get(_GENERATION, ""))
        if obj["spec"]["template"] != old["spec"]["template"]:
            generation += 1
    # Kept as an annotation since the field went from the API.
    annotations[_GENERATION] = str(generation)


def _number(text: str) -> int:
    return int(text) if len(text) < 19 and text.isascii() and text.isdigit() else 0


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    template, found = spec["template"], spec.get("selector")
    errors = validate_selector(found, "spec.selector")
    selects = templates.matcher(found)
    if selects is not None:
        errors += templates.matches(selects, template, "spec.template")
    if found is not None and not mapped(found, "matchLabels") and not found.get("matchExpressions"):
        errors.append(field.invalid("spec.selector", found, "empty selector is invalid for daemonset"))
    before = None if old is None else old["spec"]["template"]
    errors += validate_template(template, "spec.template", templates.options_of(scope, before))
    errors += templates.always_running(template, "spec.template", "DaemonSet")
    errors += nonnegative(spec.get("minReadySeconds", 0), "spec.minReadySeconds")
    errors += _strategy(spec["updateStrategy"])
    errors += nonnegative(spec["revisionHistoryLimit"], "spec.revisionHistoryLimit")
    if old is not None:
        # An update is looked at as a new object and as an update, so that everything is told twice.
        errors += errors
        errors += templates.fixed_selector(found, old["spec"].get("selector"))
    return errors


def _strategy(strategy: Object) -> list[FieldError]:
    path, kind = "spec.updateStrategy", strategy["type"]
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        shown = goshape.shape(strategy, "DaemonSetUpdateStrategy")
        return [field.not_supported(path, shown, ("RollingUpdate", "OnDelete"))]
    rolling = mapped(strategy, "rollingUpdate")
    missing, surge = rolling["maxUnavailable"], rolling["maxSurge"]
    missing_path, surge_path = f"{path}.rollingUpdate.maxUnavailable", f"{path}.rollingUpdate.maxSurge"
    errors = int_or_percent(missing, missing_path) + int_or_percent(surge, surge_path)
    errors += at_most_100_percent(missing, missing_path) + at_most_100_percent(surge, surge_path)
    if int_or_percent_value(missing) and int_or_percent_value(surge):
        errors.append(field.invalid(surge_path, surge, "may not be set when maxUnavailable is non-zero"))
    elif not int_or_percent_value(missing) and not int_or_percent_value(surge):
        errors.append(field.required(missing_path, "cannot be 0 when maxSurge is 0"))
    return errors


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    assert old is not None
    status = mapped(obj, "status")
    return templates.counts(status, _COUNTS) + templates.collisions(status, old)


RULES = Rules(
    default=Defaulted(_TYPE, _default),
    prepare=with_blank_status(_TYPE, _prepare),
    validate=checked(_validate, again="subdomain"),
    warnings=templates.template_warnings,
    status=True,
    generation=True,
    subresources={"status": Rules(validate=checked(_validate_status))},
)
