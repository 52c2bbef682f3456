"""What the access reviews share: how they are checked, read as attributes, and answered.

Follows k8s.io/kubernetes/pkg/apis/authorization/validation and pkg/registry/authorization/util.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from kubegate.api import Object, field, status
from kubegate.api.field import FieldError, child, index
from kubegate.api.names import is_qualified_name, is_valid_label_value
from kubegate.api.selectors import SelectorError, parse_fields, parse_labels, requirement
from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes, Decision, Verdict
from kubegate.registry import Scope

GROUP = "authorization.k8s.io"
_SELECTORS = ("fieldSelector", "labelSelector")
_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
# The order in which Go prints an ObjectMeta.
_METADATA = (
    "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
    "managedFields",
)  # fmt: skip


class Question(Struct, frozen=True):
    """A review's attributes, and what of its selectors could not be read (told in evaluationError)."""

    attributes: Attributes
    unread: tuple[str, ...] = ()


def validate_subject(spec: Mapping[str, Any]) -> list[FieldError]:
    """The spec of a SubjectAccessReview or its local kin."""
    errors = _validate_kinds(spec)
    if not spec.get("user") and not spec.get("groups"):
        errors.append(field.invalid("spec.user", "", "at least one of user or group must be specified"))
    return errors + _validate_resource(spec.get("resourceAttributes"))


def validate_self(spec: Mapping[str, Any]) -> list[FieldError]:
    return _validate_kinds(spec) + _validate_resource(spec.get("resourceAttributes"))


def validate_local(spec: Mapping[str, Any], namespace: str) -> list[FieldError]:
    """What a LocalSubjectAccessReview needs beyond `validate_subject` and its metadata."""
    errors: list[FieldError] = []
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and (resource.get("namespace") or "") != namespace:
        path = "spec.resourceAttributes.namespace"
        errors.append(field.invalid(path, resource.get("namespace") or "", "must match metadata.namespace"))
    if other is not None:
        path = "spec.nonResourceAttributes"
        errors.append(field.invalid(path, _shown(other), "disallowed on this kind of request"))
    return errors


def validate_metadata(review: Object, scope: Scope, *, namespaced: bool) -> list[FieldError]:
    metadata = review.get("metadata")
    if not metadata:
        return []
    free = {"managedFields", "namespace"} if namespaced else {"managedFields"}
    if not any(value for key, value in metadata.items() if key not in free):
        return []
    shown = with_managed_fields(review, scope)["metadata"]
    ordered = {key: shown[key] for key in _METADATA if shown.get(key)}
    text = "must be empty except for namespace" if namespaced else "must be empty"
    return [field.invalid("metadata", ordered, text)]


def with_managed_fields(review: Object, scope: Scope) -> Object:
    """A review is written to nowhere, yet answered with the managedFields of whoever sent it."""
    if review["metadata"].get("managedFields"):
        return review
    return scope.registry.managed.created(scope.resource, review, scope.context)


def refuse(errors: list[FieldError]) -> None:
    if errors:
        # kube-apiserver gives the internal object's kind here, which is empty.
        raise status.invalid(GROUP, "", "", errors)


def _validate_kinds(spec: Mapping[str, Any]) -> list[FieldError]:
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and other is not None:
        text = "cannot be specified in combination with resourceAttributes"
        return [field.invalid("spec.nonResourceAttributes", _shown(other), text)]
    if resource is None and other is None:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        return [field.invalid("spec.resourceAttributes", None, text)]
    return []


def _shown(other: Mapping[str, Any]) -> dict[str, str]:
    """Non-resource attributes as error texts print them: with the names of the fields in Go."""
    return {"Path": other.get("path") or "", "Verb": other.get("verb") or ""}


def _validate_resource(resource: Mapping[str, Any] | None) -> list[FieldError]:
    errors: list[FieldError] = []
    if resource is None:
        return errors
    for name in _SELECTORS:
        selector = resource.get(name)
        if selector is not None:
            errors += _validate_selector(selector, f"spec.resourceAttributes.{name}", labels=name == "labelSelector")
    return errors


def _validate_selector(selector: Mapping[str, Any], path: str, *, labels: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    raw, requirements = selector.get("rawSelector") or "", selector.get("requirements") or ()
    if raw and requirements:
        text = "may not specified at the same time as requirements"
        errors.append(field.invalid(child(path, "rawSelector"), raw, text))
    if not raw and not requirements:
        text = f"when {path} is specified, requirements or rawSelector is required"
        errors.append(field.required(child(path, "requirements"), text))
    for place, each in enumerate(requirements):
        errors += _validate_requirement(each, index(child(path, "requirements"), place), labels=labels)
    return errors


def _validate_requirement(each: Mapping[str, Any], path: str, *, labels: bool) -> list[FieldError]:
    """Operators that are not known are let through: they may be a newer client's."""
    errors: list[FieldError] = []
    key, operator, values = each.get("key") or "", each.get("operator") or "", each.get("values") or ()
    if not labels and not key:
        errors.append(field.required(child(path, "key"), "must be specified"))
    if operator in ("In", "NotIn") and not values:
        errors.append(field.required(child(path, "values"), "must be specified when `operator` is 'In' or 'NotIn'"))
    if operator in ("Exists", "DoesNotExist") and values:
        text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        errors.append(field.forbidden(child(path, "values"), text))
    if labels:
        errors += [field.invalid(child(path, "key"), key, text) for text in is_qualified_name(key)]
        for place, value in enumerate(values):
            where = index(child(path, "values"), place)
            errors += [field.invalid(where, value, text) for text in is_valid_label_value(value)]
    return errors


def user_of(spec: Mapping[str, Any]) -> UserInfo:
    extra = {key: tuple(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return UserInfo(spec.get("user") or "", spec.get("uid") or "", tuple(spec.get("groups") or ()), extra)


def question(spec: Mapping[str, Any], user: UserInfo) -> Question:
    """What a (valid) review asks about `user`."""
    resource = spec.get("resourceAttributes")
    if resource is None:
        other = spec["nonResourceAttributes"]
        return Question(Attributes(user, other.get("verb") or "", False, path=other.get("path") or ""))
    fields, fields_failed = _read(resource.get("fieldSelector"), _read_raw_fields, _read_field)
    labels, labels_failed = _read(resource.get("labelSelector"), _read_raw_labels, _read_label)
    attributes = Attributes(
        user=user,
        verb=resource.get("verb") or "",
        api_group=resource.get("group") or "",
        api_version=resource.get("version") or "*",
        resource=resource.get("resource") or "",
        subresource=resource.get("subresource") or "",
        namespace=resource.get("namespace") or "",
        name=resource.get("name") or "",
        field_requirements=fields,
        label_requirements=labels,
    )
    if not fields_failed and not labels_failed:
        return Question(attributes)
    found = ((_SELECTORS[0], fields, fields_failed), (_SELECTORS[1], labels, labels_failed))
    unread = tuple(
        f"spec.resourceAttributes.{name} {'partially ignored' if read else 'ignored'} due to parse error"
        for name, read, failed in found
        if failed
    )
    return Question(attributes, unread)


Requirements = list[dict[str, Any]]


def _read(
    selector: Mapping[str, Any] | None,
    read_raw: Callable[[str], Requirements],
    read_one: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> tuple[Requirements | None, bool]:
    """The requirements that could be read, and whether any could not."""
    if not selector:
        return None, False
    if not selector.get("requirements"):
        try:
            return read_raw(selector.get("rawSelector") or ""), False
        except SelectorError:
            return None, True
    read: Requirements = []
    failed = False
    for each in selector["requirements"]:
        try:
            read.append(read_one(each))
        except SelectorError:
            failed = True
    return read, failed


def _read_raw_fields(text: str) -> Requirements:
    return parse_fields(text).attributes()


def _read_raw_labels(text: str) -> Requirements:
    return parse_labels(text).attributes()


def _read_field(each: Mapping[str, Any]) -> dict[str, Any]:
    values = each.get("values") or ()
    if each.get("operator") not in ("In", "NotIn") or len(values) != 1:
        raise SelectorError("field selectors know In and NotIn of one value")
    return {"key": each["key"], "operator": each["operator"], "values": list(values)}


def _read_label(each: Mapping[str, Any]) -> dict[str, Any]:
    operator = _OPERATORS.get(each.get("operator") or "")
    if operator is None:
        raise SelectorError(f"{each.get('operator')!r} is not a valid label selector operator")
    values = each.get("values") or ()
    read = requirement(each["key"], operator, values)
    found: dict[str, Any] = {"key": read.key, "operator": each["operator"]}
    if values:
        found["values"] = list(values)  # as they were asked: authorizers see them so
    return found


async def answer(review: Object, asked: Question, scope: Scope) -> Object:
    """The review with its status."""
    decision = await scope.registry.authorizer.authorize(asked.attributes)
    return {**with_managed_fields(review, scope), "status": status_of(decision, asked.unread)}


def status_of(decision: Decision, unread: tuple[str, ...] = ()) -> Object:
    found: Object = {"allowed": decision.allowed}
    if decision.verdict is Verdict.DENY:
        found["denied"] = True
    if decision.reason:
        found["reason"] = decision.reason
    errors = [*([decision.error] if decision.error else []), *unread]
    if errors:
        found["evaluationError"] = "; ".join(errors)
    return found
