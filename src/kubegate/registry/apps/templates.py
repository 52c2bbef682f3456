"""What the workload kinds of apps/v1 have in common: a selector, and a template of pods that it must match."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kubegate.api import Object, field, names, selectors
from kubegate.api.field import FieldError
from kubegate.registry import Scope, goshape
from kubegate.registry.checks import mapped, nonnegative
from kubegate.registry.core.podspec import features, warnings
from kubegate.registry.core.podspec.options import Options
from kubegate.registry.core.podspec.spec import validate_template

NO_MATCH = "`selector` does not match template `labels`"
POD_NAMES = (
    "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
    "a DNS label is recommended"
)
OVER_REPLICAS = "cannot be greater than status.replicas"


def options_of(scope: Scope, old_template: Any = None) -> Options:
    """`old_template`: the template of the stored object; what it has already is borne with."""
    privileged = bool(scope.registry.extensions.get("allow_privileged", True))
    bears = old_template is not None
    return Options(allow_privileged=privileged, allow_invalid_label_values_in_selector=bears)


def drop_disabled(obj: Object, old: Object | None, scope: Scope) -> None:
    """`prepare`, or a part of it, of kinds with `spec.template`."""
    template = obj["spec"].get("template")
    if template is not None:
        before = None if old is None else mapped(old["spec"].get("template"), "spec")
        features.drop_disabled(template["spec"], before)


def labels_of(template: Any) -> Any:
    return mapped(mapped(template, "metadata"), "labels")


def matcher(selector: Any) -> selectors.LabelSelector | None:
    """None for a selector that cannot be understood."""
    try:
        return selectors.from_object(selector)
    except selectors.SelectorError:
        return None


def selector(found: Any, path: str, empty: str) -> list[FieldError]:
    """A selector that must be there and select something; `empty` says so."""
    if found is None:
        return [field.required(path)]
    errors = selectors.validate_selector(found, path)
    if not mapped(found, "matchLabels") and not found.get("matchExpressions"):
        errors.append(field.invalid(path, found, empty))
    return errors


def matches(selects: selectors.LabelSelector, template: Object, path: str) -> list[FieldError]:
    labels = labels_of(template)
    if selects.matches(labels):
        return []
    return [field.invalid(field.child(path, "metadata.labels"), goshape.plain(labels) or None, NO_MATCH)]


def fixed_selector(new: Any, old: Any) -> list[FieldError]:
    """The selector of a stored object, which does not change."""
    return [] if new == old else [field.invalid("spec.selector", goshape.plain(new), field.IMMUTABLE)]


def always_running(template: Object, path: str, kind: str) -> list[FieldError]:
    """Pods that are replaced when they end must be meant to run on."""
    spec, errors = mapped(template, "spec"), []
    policy = spec.get("restartPolicy", "")
    if policy != "Always":
        errors.append(field.not_supported(field.child(path, "spec.restartPolicy"), policy, ("Always",)))
    if "activeDeadlineSeconds" in spec:
        text = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(field.forbidden(field.child(path, "spec.activeDeadlineSeconds"), text))
    return errors


def of_replica_set(template: Object, found: Any, options: Options) -> list[FieldError]:
    """The selector (checked already) and template of a ReplicaSet or Deployment."""
    selects = matcher(found)
    if selects is None:
        return [field.invalid("spec.selector", goshape.plain(found), "invalid label selector")]
    empty = found is not None and not selects.requirements  # none at all selects nothing
    errors = [] if empty else matches(selects, template, "spec.template")
    errors += validate_template(template, "spec.template", options)
    return errors + always_running(template, "spec.template", "ReplicaSet")


def template_warnings(obj: Object, old: Object | None, path: str = "spec.template") -> list[str]:
    """On updates only where the generation moves on."""
    if old is not None and obj["metadata"].get("generation") == old["metadata"].get("generation"):
        return []
    return warnings.of_template(obj["spec"]["template"], path)


def pod_name_warnings(obj: Object, old: Object | None, path: str = "spec.template") -> list[str]:
    """For kinds whose name is part of their pods': a label is better than a subdomain."""
    found = []
    texts = names.is_dns1123_label(obj["metadata"]["name"]) if old is None else []
    if texts:
        found.append(f"{POD_NAMES}: [{' '.join(texts)}]")
    return found + template_warnings(obj, old, path)


def counts(status: Object, fields: Iterable[str]) -> list[FieldError]:
    """Numbers of a status, none below zero."""
    errors = []
    for name in fields:
        errors += nonnegative(status.get(name) or 0, f"status.{name}")
    return errors


def at_most(status: Object, fields: Iterable[str], limit: str, text: str) -> list[FieldError]:
    errors = []
    for name in fields:
        value = status.get(name) or 0
        if value > (status.get(limit) or 0):
            errors.append(field.invalid(f"status.{name}", value, text))
    return errors


def collisions(status: Object, old: Object) -> list[FieldError]:
    """collisionCount only grows."""
    before, value = mapped(old, "status").get("collisionCount"), status.get("collisionCount")
    if before is not None and (value is None or value < before):
        return [field.invalid("status.collisionCount", value or 0, "cannot be decremented")]
    return []


def replicas_field(name: str) -> Callable[[Object], dict[str, str]]:
    def fields(obj: Object) -> dict[str, str]:
        return {f"status.{name}": str(mapped(obj, "status").get(name) or 0)}

    return fields
