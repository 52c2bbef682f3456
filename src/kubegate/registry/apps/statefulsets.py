"""StatefulSets: pods with names, in order, each with claims of its own."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.apps import templates
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import (
    at_most_100_percent,
    dns_label,
    int_or_percent,
    int_or_percent_value,
    listed,
    mapped,
    nonnegative,
)
from kubegate.registry.core import persistentvolumeclaims
from kubegate.registry.core.podspec.defaults import default_template
from kubegate.registry.core.podspec.options import Options
from kubegate.registry.core.podspec.spec import validate_template
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.apps.v1.StatefulSet"
_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_IMMUTABLE = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_COUNTS = (
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "observedGeneration",
    "collisionCount",
)


def _default(obj: Object) -> None:
    spec = obj["spec"]
    default_template(spec["template"])
    for claim in listed(spec, "volumeClaimTemplates"):
        claim.setdefault("kind", "PersistentVolumeClaim")
        claim.setdefault("apiVersion", "v1")
        persistentvolumeclaims.default_claim(claim)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    strategy = spec["updateStrategy"]
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    retention.setdefault("whenDeleted", "Retain")
    retention.setdefault("whenScaled", "Retain")
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    templates.drop_disabled(obj, old, scope)
    # MaxUnavailableStatefulSet is switched off in v1.36; what an object has already is borne with.
    before = {} if old is None else mapped(mapped(old["spec"], "updateStrategy"), "rollingUpdate")
    if "maxUnavailable" not in before:
        mapped(obj["spec"]["updateStrategy"], "rollingUpdate").pop("maxUnavailable", None)


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    before = None if old is None else old["spec"]
    options = templates.options_of(scope, None if before is None else before["template"])
    # What was stored before it was checked is borne with.
    lenient = before is not None and bool(_template(before, options))
    errors = _spec(spec, new=old is None) + _selector(spec)
    errors += [] if lenient else _template(spec, options)
    errors += templates.always_running(spec["template"], "spec.template", "StatefulSet")
    if before is not None:
        changed = {name for name in spec.keys() | before.keys() if spec.get(name) != before.get(name)}
        if changed - set(_MUTABLE):
            errors.append(field.forbidden("spec", _IMMUTABLE))
    return errors


def _spec(spec: Object, *, new: bool) -> list[FieldError]:
    errors = []
    policy = spec["podManagementPolicy"]
    if policy not in ("OrderedReady", "Parallel"):
        errors.append(field.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    errors += _strategy(spec["updateStrategy"])
    for name, value in mapped(spec, "persistentVolumeClaimRetentionPolicy").items():
        if value not in ("Retain", "Delete"):
            path = f"spec.persistentVolumeClaimRetentionPolicy.{name}"
            errors.append(field.not_supported(path, value, ("Retain", "Delete")))
    errors += nonnegative(spec["replicas"], "spec.replicas")
    errors += nonnegative(spec.get("minReadySeconds", 0), "spec.minReadySeconds")
    if "ordinals" in spec:
        errors += nonnegative(mapped(spec, "ordinals").get("start", 0), "spec.ordinals.start")
    if new and spec.get("serviceName"):
        errors += dns_label(spec["serviceName"], "spec.serviceName")
    return errors


def _strategy(strategy: Object) -> list[FieldError]:
    path, kind, rolling = "spec.updateStrategy", strategy["type"], strategy.get("rollingUpdate")
    if kind not in ("RollingUpdate", "OnDelete"):
        shown = goshape.shape(strategy, "StatefulSetUpdateStrategy")
        return [field.invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'")]
    if rolling is None:
        return []
    path += ".rollingUpdate"
    if kind == "OnDelete":
        shown = goshape.shape(rolling, "RollingUpdateStatefulSet")
        return [field.invalid(path, shown, "only allowed for updateStrategy 'RollingUpdate'")]
    errors = nonnegative(rolling.get("partition", 0), f"{path}.partition")
    if "maxUnavailable" in rolling:
        missing, path = rolling["maxUnavailable"], f"{path}.maxUnavailable"
        errors += int_or_percent(missing, path)
        if int_or_percent_value(missing) == 0:
            errors.append(field.invalid(path, missing, "cannot be 0"))
        errors += at_most_100_percent(missing, path)
    return errors


def _selector(spec: Object) -> list[FieldError]:
    found = spec.get("selector")
    errors = templates.selector(found, "spec.selector", "empty selector is invalid for statefulset")
    selects = templates.matcher(found)
    if selects is None:
        errors.append(field.invalid("spec.selector", found, ""))
    elif found is None or selects.requirements:
        errors += templates.matches(selects, spec["template"], "spec.template")
    return errors


def _template(spec: Object, options: Options) -> list[FieldError]:
    """The template as its pods will be: with a volume for each claim, which stands for one of the same name."""
    template = spec["template"]
    claims = [claim["metadata"].get("name", "") for claim in listed(spec, "volumeClaimTemplates")]
    volumes = [volume for volume in listed(template["spec"], "volumes") if volume.get("name") not in claims]
    volumes += [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    filled = {**template, "spec": {**template["spec"], "volumes": volumes}}
    return validate_template(filled, "spec.template", options)


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    assert old is not None
    status = mapped(obj, "status")
    errors = templates.counts(status, _COUNTS)
    within = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    errors += templates.at_most(status, within, "replicas", templates.OVER_REPLICAS)
    text = "cannot be greater than status.readyReplicas"
    errors += templates.at_most(status, ("availableReplicas",), "readyReplicas", text)
    return errors + templates.collisions(status, old)


def _warnings(obj: Object, old: Object | None) -> list[str]:
    found = templates.template_warnings(obj, old)
    limit = obj["spec"].get("revisionHistoryLimit")
    if limit is not None and limit < 0:
        found.append(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
        )
    return found


RULES = Rules(
    default=Defaulted(_TYPE, _default),
    prepare=with_blank_status(_TYPE, _prepare),
    validate=checked(_validate),
    warnings=_warnings,
    name="label",
    status=True,
    generation=True,
    subresources={"status": Rules(validate=checked(_validate_status))},
)
