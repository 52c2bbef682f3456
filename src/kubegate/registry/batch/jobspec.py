"""The spec of a Job, in a Job or in a CronJob's template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import goshape
from kubegate.registry.batch.indexes import BadIndexes, parse
from kubegate.registry.checks import listed, mapped, nonnegative, qualified_name, repeated
from kubegate.registry.core.podspec import warnings
from kubegate.registry.core.podspec.defaults import default_template
from kubegate.registry.core.podspec.options import Options
from kubegate.registry.core.podspec.spec import validate_template

_MAX_MANAGED_BY = 63
_MAX_INDEXED_PARALLELISM = _MAX_FAILED_INDEXES = 100_000
_MANY_COMPLETIONS = 100_000
_MANY_PARALLELISM = _MANY_FAILED_INDEXES = 10_000
_MAX_FAILURE_RULES = 20
_MAX_PATTERNS = 20
_MAX_EXIT_CODES = 255
_MAX_SUCCESS_RULES = 20
_MAX_SUCCEEDED_INDEXES = 64 * 1024
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATUSES = ("False", "True", "Unknown")
_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
)


def default(spec: Object) -> None:
    """A CronJob's template gets no more than this; a Job's own defaults are in `jobs`."""
    default_template(spec["template"])
    for rule in mapped(spec, "podFailurePolicy").get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            pattern["status"] = pattern.get("status") or "True"  # the canonical form has an empty one


def validate(spec: Object, path: str, options: Options) -> list[FieldError]:
    """Everything but the selector."""
    errors = []
    for name in _COUNTS:
        if name in spec:
            errors += nonnegative(spec[name], field.child(path, name))
    if "maxFailedIndexes" in spec:
        errors += nonnegative(spec["maxFailedIndexes"], field.child(path, "maxFailedIndexes"))
        if "backoffLimitPerIndex" not in spec:
            where = field.child(path, "backoffLimitPerIndex")
            errors.append(field.required(where, "when maxFailedIndexes is specified"))
    if "managedBy" in spec:
        errors += _managed_by(spec["managedBy"], field.child(path, "managedBy"))
    errors += _completion_mode(spec, path)
    failure, success = spec.get("podFailurePolicy"), spec.get("successPolicy")
    if failure is not None:
        errors += _failure_policy(spec, failure, field.child(path, "podFailurePolicy.rules"))
    if success is not None:
        where = field.child(path, "successPolicy")
        if not _indexed(spec):
            errors.append(
                field.invalid(where, goshape.shape(success, "SuccessPolicy"), "requires indexed completion mode")
            )
        else:
            errors += _success_policy(spec, success, field.child(where, "rules"))
    errors += _replacement(spec, failure is not None, field.child(path, "podReplacementPolicy"))
    errors += validate_template(spec["template"], field.child(path, "template"), options)
    return errors + _restart_policy(spec, failure is not None, field.child(path, "template.spec.restartPolicy"))


def _indexed(spec: Object) -> bool:
    return spec.get("completionMode") == "Indexed"


def _managed_by(value: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not value:
        errors.append(field.required(path))
    else:
        errors += [field.invalid(path, shown, text) for shown, text in names.is_domain_prefixed_path(value)]
    if len(value) > _MAX_MANAGED_BY:
        errors.append(field.too_long(path, _MAX_MANAGED_BY))
    return errors


def _completion_mode(spec: Object, path: str) -> list[FieldError]:
    errors = []
    mode = spec.get("completionMode")
    if mode is not None and mode not in ("NonIndexed", "Indexed"):
        errors.append(field.not_supported(field.child(path, "completionMode"), mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed":
        errors += _indexed_limits(spec, path)
    if mode is None or mode == "NonIndexed":
        for name in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if name in spec:
                errors.append(field.invalid(field.child(path, name), spec[name], "requires indexed completion mode"))
    return errors


def _indexed_limits(spec: Object, path: str) -> list[FieldError]:
    errors = []
    completions, parallelism = spec.get("completions"), spec.get("parallelism")
    failed = spec.get("maxFailedIndexes")
    parallel_path, failed_path = field.child(path, "parallelism"), field.child(path, "maxFailedIndexes")
    if completions is None:
        errors.append(field.required(field.child(path, "completions"), "when completion mode is Indexed"))
    if parallelism is not None and parallelism > _MAX_INDEXED_PARALLELISM:
        text = f"must be less than or equal to {_MAX_INDEXED_PARALLELISM} when completion mode is Indexed"
        errors.append(field.invalid(parallel_path, parallelism, text))
    if completions is not None and failed is not None and failed > completions:
        errors.append(field.invalid(failed_path, failed, "must be less than or equal to completions"))
    if failed is not None and failed > _MAX_FAILED_INDEXES:
        errors.append(field.invalid(failed_path, failed, f"must be less than or equal to {_MAX_FAILED_INDEXES}"))
    if completions is None or completions <= _MANY_COMPLETIONS or "backoffLimitPerIndex" not in spec:
        return errors
    if failed is None:
        text = f"must be specified when completions is above {_MANY_COMPLETIONS}"
        errors.append(field.required(failed_path, text))
    for where, value, limit in (
        (parallel_path, parallelism, _MANY_PARALLELISM),
        (failed_path, failed, _MANY_FAILED_INDEXES),
    ):
        if value is not None and value > limit:
            text = (
                f"must be less than or equal to {limit} when completions are above {_MANY_COMPLETIONS} "
                "and used with backoff limit per index"
            )
            errors.append(field.invalid(where, value, text))
    return errors


def _replacement(spec: Object, has_failure_policy: bool, path: str) -> list[FieldError]:
    value = spec.get("podReplacementPolicy")
    supported = ("Failed",) if has_failure_policy else ("Failed", "TerminatingOrFailed")
    return [] if value is None or value in supported else [field.not_supported(path, value, supported)]


def _restart_policy(spec: Object, has_failure_policy: bool, path: str) -> list[FieldError]:
    policy = spec["template"]["spec"].get("restartPolicy", "")
    if policy in ("", "Always"):
        return [field.required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [field.not_supported(path, policy, ("OnFailure", "Never"))]
    if has_failure_policy and policy != "Never":
        return [field.invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


# ---------------------------------------------------------------------- failure and success
def _failure_policy(spec: Object, policy: Object, path: str) -> list[FieldError]:
    rules, errors = listed(policy, "rules"), []
    if len(rules) > _MAX_FAILURE_RULES:
        errors.append(field.too_many(path, len(rules), _MAX_FAILURE_RULES))
    pod = spec["template"]["spec"]
    containers = {one.get("name") for one in listed(pod, "containers") + listed(pod, "initContainers")}
    for position, rule in enumerate(rules):
        errors += _failure_rule(spec, rule, field.index(path, position), containers)
    return errors


def _valid_values(supported: Iterable[str]) -> str:
    return "valid values: [" + " ".join(f'"{value}"' for value in supported) + "]"


def _failure_rule(spec: Object, rule: Object, path: str, containers: set[Any]) -> list[FieldError]:
    errors = []
    action, where = rule.get("action", ""), field.child(path, "action")
    if not action:
        errors.append(field.required(where, _valid_values(_ACTIONS)))
    elif action == "FailIndex":
        if "backoffLimitPerIndex" not in spec:
            errors.append(field.invalid(where, action, "requires the backoffLimitPerIndex to be set"))
    elif action not in _ACTIONS:
        errors.append(field.not_supported(where, action, _ACTIONS))
    codes, conditions = rule.get("onExitCodes"), listed(rule, "onPodConditions")
    if codes is not None:
        errors += _exit_codes(codes, field.child(path, "onExitCodes"), containers)
    if conditions:
        errors += _conditions(conditions, field.child(path, "onPodConditions"))
    if codes is not None and conditions:
        errors.append(_bare(path, "specifying both OnExitCodes and OnPodConditions is not supported"))
    if codes is None and not conditions:
        errors.append(_bare(path, "specifying one of OnExitCodes and OnPodConditions is required"))
    return errors


def _bare(path: str, detail: str) -> FieldError:
    """An Invalid that shows no value."""
    return FieldError("FieldValueInvalid", path, f"Invalid value: {detail}")


def _conditions(patterns: list[Object], path: str) -> list[FieldError]:
    errors = []
    if len(patterns) > _MAX_PATTERNS:
        errors.append(field.too_many(path, len(patterns), _MAX_PATTERNS))
    for position, pattern in enumerate(patterns):
        here = field.index(path, position)
        errors += qualified_name(pattern.get("type", ""), field.child(here, "type"))
        found, where = pattern.get("status", ""), field.child(here, "status")
        if not found:
            errors.append(field.required(where, _valid_values(_STATUSES)))
        elif found not in _STATUSES:
            errors.append(field.not_supported(where, found, _STATUSES))
    return errors


def _exit_codes(codes: Object, path: str, containers: set[Any]) -> list[FieldError]:
    errors = []
    operator, where = codes.get("operator", ""), field.child(path, "operator")
    if not operator:
        errors.append(field.required(where, _valid_values(_OPERATORS)))
    elif operator not in _OPERATORS:
        errors.append(field.not_supported(where, operator, _OPERATORS))
    name = codes.get("containerName")
    if name is not None and name not in containers:
        text = "must be one of the container or initContainer names in the pod template"
        errors.append(field.invalid(field.child(path, "containerName"), name, text))
    values, where = codes.get("values") or [], field.child(path, "values")
    if not values:
        errors.append(field.invalid(where, codes.get("values"), "at least one value is required"))
    elif len(values) > _MAX_EXIT_CODES:
        errors.append(field.too_many(where, len(values), _MAX_EXIT_CODES))
    twice = repeated(values)
    for position, value in enumerate(values):
        here = field.index(where, position)
        if operator == "In" and value == 0:
            errors.append(field.invalid(here, value, "must not be 0 for the In operator"))
        if position in twice:
            errors.append(field.duplicate(here, value))
    if values != sorted(values):
        errors.append(field.invalid(where, values, "must be ordered"))
    return errors


def _success_policy(spec: Object, policy: Object, path: str) -> list[FieldError]:
    rules, errors = listed(policy, "rules"), []
    if not rules:
        text = "at least one rules must be specified when the successPolicy is specified"
        errors.append(field.required(path, text))
    if len(rules) > _MAX_SUCCESS_RULES:
        errors.append(field.too_many(path, len(rules), _MAX_SUCCESS_RULES))
    for position, rule in enumerate(rules):
        errors += _success_rule(spec.get("completions") or 0, rule, field.index(path, position))
    return errors


def _success_rule(completions: int, rule: Object, path: str) -> list[FieldError]:
    errors = []
    count, indexes = rule.get("succeededCount"), rule.get("succeededIndexes")
    if count is None and indexes is None:
        text = "at least one of succeededCount or succeededIndexes must be specified"
        errors.append(field.required(path, text))
    total = 0
    if indexes is not None:
        where = field.child(path, "succeededIndexes")
        if len(indexes) > _MAX_SUCCEEDED_INDEXES:
            errors.append(field.too_long(where, _MAX_SUCCEEDED_INDEXES))
        try:
            total = parse(indexes, completions)
        except BadIndexes as error:
            errors.append(field.invalid(where, indexes, f"error parsing succeededIndexes: {error}"))
    if count is not None:
        where = field.child(path, "succeededCount")
        errors += nonnegative(count, where)
        if count > completions:
            text = f"must be less than or equal to {completions} (the number of specified completions)"
            errors.append(field.invalid(where, count, text))
        if indexes is not None and count > total:
            text = (
                f"must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            )
            errors.append(field.invalid(where, count, text))
    return errors


def warnings_of(spec: Object, path: str) -> list[str]:
    found = []
    many = (spec.get("completions") or 0) > _MANY_COMPLETIONS
    if _indexed(spec) and many and (spec.get("parallelism") or 0) > _MANY_PARALLELISM:
        found.append(
            f"{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than "
            "10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )
    return found + warnings.of_template(spec["template"], field.child(path, "template"))
