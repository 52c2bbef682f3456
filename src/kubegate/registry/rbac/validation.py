"""What roles and bindings may hold. Follows k8s.io/kubernetes/pkg/apis/rbac/validation and its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubegate.api import Object, field
from kubegate.api.field import FieldError, child, index
from kubegate.api.names import is_dns1123_subdomain, path_segment_name
from kubegate.authorization.rbac import GROUP
from kubegate.authorization.rules import Rule


def validate_rule(rule: Rule, path: str, *, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if not rule.get("verbs"):
        errors.append(field.required(child(path, "verbs"), "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs")
    if urls:
        where = child(path, "nonResourceURLs")
        if namespaced:
            errors.append(field.invalid(where, urls, "namespaced rules cannot apply to non-resource URLs"))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            text = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(field.invalid(where, urls, text))
        return errors
    if not rule.get("apiGroups"):
        errors.append(field.required(child(path, "apiGroups"), "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errors.append(field.required(child(path, "resources"), "resource rules must supply at least one resource"))
    return errors


def validate_rules(role: Object, *, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for place, rule in enumerate(role.get("rules") or ()):
        errors += validate_rule(rule, index("rules", place), namespaced=namespaced)
    return errors


def absent_rules_are_null(role: Object) -> None:
    """A role that says nothing of rules has `rules: null`."""
    role.setdefault("rules", None)


def default_binding(binding: Object) -> None:
    """The API group of a reference, and of users and groups, is RBAC's where none is named."""
    reference = binding.setdefault("roleRef", {})
    if not reference.get("apiGroup"):
        reference["apiGroup"] = GROUP
    for subject in binding.get("subjects") or ():
        if subject.get("kind") in ("User", "Group") and not subject.get("apiGroup"):
            subject["apiGroup"] = GROUP


def validate_binding(binding: Object, old: Object | None, *, kinds: tuple[str, ...]) -> list[FieldError]:
    """`kinds`: those that the reference may be to; a binding to a Role among them is one of a namespace."""
    reference = binding.get("roleRef") or {}
    errors: list[FieldError] = []
    group, kind, name = (reference.get(key) or "" for key in ("apiGroup", "kind", "name"))
    if group != GROUP:
        errors.append(field.not_supported("roleRef.apiGroup", group, [GROUP]))
    if kind not in kinds:
        errors.append(field.not_supported("roleRef.kind", kind, kinds))
    if not name:
        errors.append(field.required("roleRef.name"))
    errors += [field.invalid("roleRef.name", name, text) for text in path_segment_name(name)]
    for place, subject in enumerate(binding.get("subjects") or ()):
        errors += _validate_subject(subject, index("subjects", place), namespaced="Role" in kinds)
    if old is not None and _reference(old) != _reference(binding):
        errors.append(field.invalid("roleRef", _reference(binding), "cannot change roleRef"))
    return errors


def _reference(binding: Object) -> dict[str, str]:
    """The reference as error texts print it: with the names of the fields in Go."""
    reference = binding.get("roleRef") or {}
    fields = (("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name"))
    return {label: reference.get(key) or "" for label, key in fields}


def _validate_subject(subject: Mapping[str, Any], path: str, *, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    name, group, kind = (subject.get(key) or "" for key in ("name", "apiGroup", "kind"))
    if not name:
        errors.append(field.required(child(path, "name")))
    match kind:
        case "ServiceAccount":
            if name:
                errors += [field.invalid(child(path, "name"), name, text) for text in is_dns1123_subdomain(name)]
            if group:
                errors.append(field.not_supported(child(path, "apiGroup"), group, [""]))
            if not namespaced and not subject.get("namespace"):
                errors.append(field.required(child(path, "namespace")))
        case "User" | "Group":
            if group != GROUP:
                errors.append(field.not_supported(child(path, "apiGroup"), group, [GROUP]))
        case _:
            errors.append(field.not_supported(child(path, "kind"), kind, ["ServiceAccount", "User", "Group"]))
    return errors
