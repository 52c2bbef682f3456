"""Rules and match resources: which requests a webhook or a policy is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError, child, index
from kubegate.api.selectors import validate_selector

FAILURE_POLICIES = ("Fail", "Ignore")
MATCH_POLICIES = ("Equivalent", "Exact")
OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
SCOPES = ("*", "Cluster", "Namespaced")


def default_rules(rules: Iterable[Object] | None) -> None:
    for rule in rules or ():
        rule.setdefault("scope", "*")


def default_match_resources(resources: Object | None) -> None:
    if resources is None:
        return
    resources.setdefault("matchPolicy", "Equivalent")
    resources.setdefault("namespaceSelector", {})
    resources.setdefault("objectSelector", {})
    default_rules(resources.get("resourceRules"))
    default_rules(resources.get("excludeResourceRules"))


def supported(value: Any, path: str, choices: Sequence[str], *, required: bool = True) -> list[FieldError]:
    """NotSupported, also for the empty text; Required where the field is not there, if it must be."""
    if value is None:
        return [field.required(path)] if required else []
    return [] if value in choices else [field.not_supported(path, value, choices)]


def validate_match_resources(resources: Object | None, path: str) -> list[FieldError]:
    if resources is None:
        return []
    errors = supported(resources.get("matchPolicy"), child(path, "matchPolicy"), MATCH_POLICIES)
    for name in ("namespaceSelector", "objectSelector"):
        if resources.get(name) is None:
            errors.append(field.required(child(path, name)))
        else:
            errors += validate_selector(resources[name], child(path, name))
    for name in ("resourceRules", "excludeResourceRules"):
        for position, rule in enumerate(resources.get(name) or ()):
            errors += _validate_named_rule(rule, index(child(path, name), position))
    return errors


def _validate_named_rule(rule: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, name in enumerate(rule.get("resourceNames") or ()):
        where = index(child(path, "resourceNames"), position)
        errors += [field.invalid(where, name, text) for text in names.path_segment_name(name)]
        if name in seen:
            errors.append(field.duplicate(where, name))
        seen.add(name)
    return errors + validate_rule(rule, path)


def validate_rule(rule: Object, path: str) -> list[FieldError]:
    """A RuleWithOperations."""
    errors: list[FieldError] = []
    operations, where = rule.get("operations") or [], child(path, "operations")
    errors += _listed(operations, where, "operations")
    for position, operation in enumerate(operations):
        if operation not in OPERATIONS:
            errors.append(field.not_supported(index(where, position), operation, OPERATIONS))
    errors += _listed(rule.get("apiGroups") or [], child(path, "apiGroups"), "API groups")
    versions, where = rule.get("apiVersions") or [], child(path, "apiVersions")
    errors += _listed(versions, where, "API versions")
    errors += [field.required(index(where, p)) for p, version in enumerate(versions) if version == ""]
    errors += _validate_resources(rule.get("resources") or [], child(path, "resources"))
    return errors + supported(rule.get("scope"), child(path, "scope"), SCOPES, required=False)


def _listed(values: Sequence[str], path: str, what: str) -> list[FieldError]:
    if not values:
        return [field.required(path)]
    if len(values) > 1 and "*" in values:
        return [field.invalid(path, values, f"if '*' is present, must not specify other {what}")]
    return []


def _validate_resources(resources: Sequence[str], path: str) -> list[FieldError]:
    errors = [] if resources else [field.required(path)]
    all_subresources_of: set[str] = set()
    of_all_resources: set[str] = set()
    plain = False
    for position, entry in enumerate(resources):
        where = index(path, position)
        if not entry:
            errors.append(field.required(where))
            continue
        resource, slash, subresource = entry.partition("/")
        if not slash:
            # as in kube-apiserver, the last entry without a subresource decides
            plain = entry != "*"
            continue
        if resource in all_subresources_of:
            text = f"if '{resource}/*' is present, must not specify {entry}"
            errors.append(field.invalid(where, entry, text))
        if subresource in of_all_resources:
            text = f"if '*/{subresource}' is present, must not specify {entry}"
            errors.append(field.invalid(where, entry, text))
        if subresource == "*":
            all_subresources_of.add(resource)
        if resource == "*":
            of_all_resources.add(subresource)
    if len(resources) > 1 and "*/*" in resources:
        errors.append(field.invalid(path, resources, "if '*/*' is present, must not specify other resources"))
    if "*" in resources and plain:
        text = "if '*' is present, must not specify other resources without subresources"
        errors.append(field.invalid(path, resources, text))
    return errors
