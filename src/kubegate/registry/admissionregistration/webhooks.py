"""Webhook configurations, mutating and validating alike.

Follows k8s.io/kubernetes/pkg/apis/admissionregistration (validation, v1 defaults) and apiserver/pkg/util/webhook.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kubegate.admission.webhooks.expressions import WEBHOOK_VARIABLES
from kubegate.admission.webhooks.review import VERSIONS
from kubegate.api import Object, field, metadata, names
from kubegate.api.field import FieldError, child, index
from kubegate.api.selectors import validate_selector
from kubegate.registry import Check, Rules, Scope, clientconfig
from kubegate.registry.admissionregistration.expressions import validate_conditions
from kubegate.registry.admissionregistration.matching import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    default_rules,
    supported,
    validate_rule,
)
from kubegate.registry.canonical import Defaulted

REINVOCATION_POLICIES = ("IfNeeded", "Never")
SIDE_EFFECTS = ("None", "NoneOnDryRun", "Some", "Unknown")
NO_SIDE_EFFECTS = ("None", "NoneOnDryRun")


def rules(kind: str, *, mutating: bool) -> Rules:
    """The rules of MutatingWebhookConfigurations or of ValidatingWebhookConfigurations."""
    return Rules(
        default=Defaulted(f"io.k8s.api.admissionregistration.v1.{kind}", _default(mutating)),
        validate=_validate(mutating),
        generation=True,
        unconditional_update=False,
    )


def _default(mutating: bool) -> Callable[[Object], None]:
    def default(configuration: Object) -> None:
        for webhook in configuration.get("webhooks") or ():
            webhook.setdefault("failurePolicy", "Fail")
            webhook.setdefault("matchPolicy", "Equivalent")
            webhook.setdefault("namespaceSelector", {})
            webhook.setdefault("objectSelector", {})
            webhook.setdefault("timeoutSeconds", 10)
            if mutating:
                webhook.setdefault("reinvocationPolicy", "Never")
            default_rules(webhook.get("rules"))
            service = (webhook.get("clientConfig") or {}).get("service")
            if service is not None:
                service.setdefault("port", 443)

    return default


def _validate(mutating: bool) -> Check:
    def validate(new: Object, old: Object | None, scope: Scope) -> list[FieldError]:
        webhooks = new.get("webhooks") or []
        before = None if old is None else old.get("webhooks") or []
        errors = [] if old is None else metadata.validate_create(new["metadata"], namespaced=False)
        # what an old configuration already gets wrong may stay wrong
        side_effects = NO_SIDE_EFFECTS if _all(before, _has_no_side_effects) else SIDE_EFFECTS
        recognized = _all(before, _accepts_known_version)
        unique = before is None or len({hook.get("name") for hook in before}) == len(before)
        lenient = before is not None and not _all(before, _has_valid_selectors)
        same = before is not None and _conditions(before) == _conditions(webhooks)
        seen: set[str] = set()
        for position, webhook in enumerate(webhooks):
            path = index("webhooks", position)
            errors += _validate_webhook(webhook, path, mutating, side_effects, lenient)
            errors += clientconfig.validate(webhook.get("clientConfig") or {}, child(path, "clientConfig"))
            if not same:
                where = child(path, "matchConditions")
                errors += validate_conditions(webhook.get("matchConditions"), where, WEBHOOK_VARIABLES)
            where = child(path, "admissionReviewVersions")
            errors += _validate_versions(webhook.get("admissionReviewVersions") or [], where, recognized)
            name = webhook.get("name") or ""
            if unique and name:
                if name in seen:
                    errors.append(field.duplicate(child(path, "name"), name))
                seen.add(name)
        return errors

    return validate


def _all(webhooks: Sequence[Object] | None, test: Callable[[Object], bool]) -> bool:
    return webhooks is None or all(map(test, webhooks))


def _has_no_side_effects(webhook: Object) -> bool:
    return webhook.get("sideEffects") in NO_SIDE_EFFECTS


def _accepts_known_version(webhook: Object) -> bool:
    versions = webhook.get("admissionReviewVersions") or []
    return not versions or any(version in VERSIONS for version in versions)


def _has_valid_selectors(webhook: Object) -> bool:
    return not any(validate_selector(webhook.get(name), "") for name in ("namespaceSelector", "objectSelector"))


def _conditions(webhooks: Sequence[Object]) -> list[Any]:
    return [webhook.get("matchConditions") or [] for webhook in webhooks]


def _validate_webhook(
    webhook: Object, path: str, mutating: bool, side_effects: Sequence[str], lenient: bool
) -> list[FieldError]:
    errors: list[FieldError] = []
    name = webhook.get("name") or ""
    if not name:
        errors.append(field.required(child(path, "name")))
    else:
        errors += [field.invalid(child(path, "name"), name, text) for text in names.is_fully_qualified_name(name)]
    for position, rule in enumerate(webhook.get("rules") or ()):
        errors += validate_rule(rule, index(child(path, "rules"), position))
    errors += supported(webhook.get("failurePolicy"), child(path, "failurePolicy"), FAILURE_POLICIES, required=False)
    errors += supported(webhook.get("matchPolicy"), child(path, "matchPolicy"), MATCH_POLICIES, required=False)
    where, effects = child(path, "sideEffects"), webhook.get("sideEffects")
    if effects is None:
        errors.append(field.required(where, f"must specify one of {', '.join(side_effects)}"))
    else:
        errors += supported(effects, where, side_effects)
    timeout = webhook.get("timeoutSeconds")
    if timeout is not None and not 1 <= timeout <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        errors.append(field.invalid(child(path, "timeoutSeconds"), timeout, text))
    for selector in ("namespaceSelector", "objectSelector"):
        where = child(path, selector)
        errors += validate_selector(webhook.get(selector), where, allow_invalid_values=lenient)
    if mutating:
        where = child(path, "reinvocationPolicy")
        errors += supported(webhook.get("reinvocationPolicy"), where, REINVOCATION_POLICIES, required=False)
    return errors


def _validate_versions(versions: Sequence[str], path: str, recognized: bool) -> list[FieldError]:
    known = ", ".join(VERSIONS)
    if not versions:
        return [field.required(path, f"must specify one of {known}")]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, version in enumerate(versions):
        where = index(path, position)
        if version in seen:
            errors.append(field.invalid(where, version, "duplicate version"))
            continue
        seen.add(version)
        errors += [field.invalid(where, version, text) for text in names.is_dns1035_label(version)]
    if recognized and not seen & set(VERSIONS):
        errors.append(field.invalid(path, versions, f"must include at least one of {known}"))
    return errors
