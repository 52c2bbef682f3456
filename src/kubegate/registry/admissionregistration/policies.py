"""What validating and mutating admission policies, and their bindings, have in common.

Follows k8s.io/kubernetes/pkg/apis/admissionregistration and pkg/registry/admissionregistration (authorization of
parameters).
"""

from __future__ import annotations

from kubegate.admission.policies import programs
from kubegate.api import Object, field, metadata, names, status
from kubegate.api.codec import split_api_version
from kubegate.api.field import FieldError, child
from kubegate.api.selectors import validate_selector
from kubegate.authentication import MASTERS_GROUP, UserInfo
from kubegate.authorization import Attributes
from kubegate.registry import Check, Guard, Scope
from kubegate.registry.admissionregistration.expressions import Compiler, validate_conditions
from kubegate.registry.admissionregistration.matching import (
    FAILURE_POLICIES,
    default_match_resources,
    supported,
    validate_match_resources,
)

NOT_FOUND_ACTIONS = ("Deny", "Allow")


def default_policy(policy: Object) -> None:
    spec = policy.setdefault("spec", {})
    spec.setdefault("failurePolicy", "Fail")
    default_match_resources(spec.get("matchConstraints"))


def default_binding(binding: Object) -> None:
    default_match_resources(binding.setdefault("spec", {}).get("matchResources"))


def update_metadata(new: Object, old: Object | None) -> list[FieldError]:
    """Updates are checked as new objects are, once more."""
    return [] if old is None else metadata.validate_create(new["metadata"], namespaced=False)


def failure_policy(spec: Object) -> list[FieldError]:
    return supported(spec.get("failurePolicy"), "spec.failurePolicy", FAILURE_POLICIES)


def match_constraints(spec: Object) -> list[FieldError]:
    path = "spec.matchConstraints"
    constraints = spec.get("matchConstraints")
    if constraints is None:
        return [field.required(path)]
    errors = validate_match_resources(constraints, path)
    if not constraints.get("resourceRules"):
        errors.append(field.required(child(path, "resourceRules")))
    return errors


def match_conditions(new: Object, old: Object | None) -> list[FieldError]:
    """Not looked at again where nothing changed that they depend on."""
    spec, before = new["spec"], (old or {}).get("spec")
    if before is not None and all(before.get(name) == spec.get(name) for name in ("paramKind", "matchConditions")):
        return []
    variables = programs.declared(spec.get("paramKind") is not None)
    return validate_conditions(spec.get("matchConditions"), "spec.matchConditions", variables)


def variables(spec: Object, compiler: Compiler) -> list[FieldError]:
    errors: list[FieldError] = []
    for position, variable in enumerate(spec.get("variables") or ()):
        errors += compiler.variable(variable, field.index("spec.variables", position))
    return errors


def param_kind(spec: Object) -> list[FieldError]:
    kind = spec.get("paramKind")
    if kind is None:
        return []
    api_version, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    errors = _api_version(api_version, "spec.paramKind.apiVersion")
    if not name:
        errors.append(field.required("spec.paramKind.kind"))
    else:
        problems = names.is_dns1035_label(name.lower())
        if problems:
            text = "may have mixed case, but should otherwise match: " + ",".join(problems)
            errors.append(field.invalid("spec.paramKind.kind", name, text))
    return errors


def _api_version(api_version: str, path: str) -> list[FieldError]:
    if not api_version:
        return [field.required(path)]
    if api_version.count("/") > 1:
        return [field.invalid(path, api_version, f"unexpected GroupVersion string: {api_version}")]
    group, version = ("", "") if api_version == "/" else split_api_version(api_version)
    errors: list[FieldError] = []
    problems = names.is_dns1123_subdomain(group) if group else []
    if problems:
        errors.append(field.invalid(path, group, ",".join(problems)))
    if not version:
        errors.append(field.invalid(path, api_version, "version must be specified"))
    elif problems := names.is_dns1035_label(version):
        errors.append(field.invalid(path, version, ",".join(problems)))
    return errors


def policy_name(spec: Object) -> list[FieldError]:
    name = spec.get("policyName") or ""
    if not name:
        return [field.required("spec.policyName")]
    return [field.invalid("spec.policyName", name, text) for text in names.is_dns1123_subdomain(name)]


def param_ref(spec: Object) -> list[FieldError]:
    reference, path = spec.get("paramRef"), "spec.paramRef"
    if reference is None:
        return []
    name, selector = reference.get("name") or "", reference.get("selector")
    errors: list[FieldError] = []
    exclusive = "name and selector are mutually exclusive"
    if name:
        errors += [field.invalid(child(path, "name"), name, text) for text in names.path_segment_name(name)]
        if selector is not None:
            errors.append(field.forbidden(child(path, "name"), exclusive))
    if selector is not None:
        errors += validate_selector(selector, child(path, "selector"))
        if name:
            errors.append(field.forbidden(child(path, "selector"), exclusive))
    if not name and selector is None:
        errors.append(field.required(path, "one of name or selector must be specified"))
    action = reference.get("parameterNotFoundAction")
    where = child(path, "parameterNotFoundAction")
    if not action:
        errors.append(field.required(where))
    elif action not in NOT_FOUND_ACTIONS:
        errors.append(field.not_supported(where, action, NOT_FOUND_ACTIONS))
    return errors


# --- may the writer read what the policy will read for them?


def guard_policy(validate: Check) -> Guard:
    """Who names a paramKind must be allowed to get all its objects. Asked only about what is well-formed otherwise."""

    async def guard(new: Object, old: Object | None, scope: Scope) -> None:
        kind = new.get("spec", {}).get("paramKind")
        user = scope.context.user
        if kind is None or MASTERS_GROUP in user.groups or (old or {}).get("spec", {}).get("paramKind") == kind:
            return
        if validate(new, old, scope):
            return
        question = _about(kind, user, "get", "*", "*", scope)
        if not (await scope.registry.authorizer.authorize(question)).allowed:
            raise _forbidden(
                new,
                scope,
                "spec.paramKind",
                f'user {_shown(user)} must have "get" permission on all objects of the referenced paramKind'
                f" (kind={kind.get('kind', '')}, apiVersion={kind.get('apiVersion', '')})",
            )

    return guard


def guard_binding(validate: Check, policies: str) -> Guard:
    """Who names parameters must be allowed to read them. `policies` is the resource that policyName is of."""

    async def guard(new: Object, old: Object | None, scope: Scope) -> None:
        spec = new.get("spec", {})
        reference, user = spec.get("paramRef"), scope.context.user
        before = (old or {}).get("spec", {})
        unchanged = before.get("paramRef") == reference and before.get("policyName") == spec.get("policyName")
        if reference is None or MASTERS_GROUP in user.groups or unchanged or validate(new, old, scope):
            return
        policy = scope.reader.get(policies, "", spec.get("policyName") or "")
        kind = ((policy or {}).get("spec") or {}).get("paramKind")
        verb = "get" if reference.get("name") else "list"
        namespace = reference.get("namespace") or "*"
        question = _about(kind or {}, user, verb, namespace, reference.get("name") or "", scope)
        if (await scope.registry.authorizer.authorize(question)).allowed:
            return
        lacks = f'user {_shown(user)} does not have "{verb}" permission'
        everywhere = f"to determine minimum required permissions and {lacks} for all groups, versions and resources"
        if policy is None:
            why = f"unable to get policy {spec.get('policyName')} {everywhere}"
        elif kind is not None and question.resource == "*":
            why = f"unable to resolve paramKind {_kind_shown(kind)} {everywhere}"
        else:
            why = f"{lacks} on the object being referenced by paramRef"
        raise _forbidden(new, scope, "spec.paramRef", why)

    return guard


def _about(kind: Object, user: UserInfo, verb: str, namespace: str, name: str, scope: Scope) -> Attributes:
    group, version, resource = "*", "*", "*"
    if kind.get("apiVersion"):
        group, version = split_api_version(kind["apiVersion"])
        found = scope.registry.resources.by_kind(group, version, kind.get("kind") or "")
        resource = found.resource if found is not None else "*"
    return Attributes(
        user, verb, api_group=group, api_version=version, resource=resource, namespace=namespace, name=name
    )


def _forbidden(obj: Object, scope: Scope, path: str, why: str) -> status.StatusError:
    name = obj["metadata"].get("name") or ""
    return status.invalid(scope.resource.group, scope.resource.kind, name, [field.forbidden(path, why)])


def _shown(user: UserInfo) -> str:
    """Go's %v of a *user.DefaultInfo."""
    extra = " ".join(f"{key}:[{' '.join(values)}]" for key, values in sorted(user.extra.items()))
    return f"&{{{user.name} {user.uid} [{' '.join(user.groups)}] map[{extra}]}}"


def _kind_shown(kind: Object) -> str:
    return f"&ParamKind{{APIVersion:{kind.get('apiVersion', '')},Kind:{kind.get('kind', '')},}}"
