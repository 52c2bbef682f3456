"""FlowSchemas: which requests belong together, and to which priority level."""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import dns_label, dns_subdomain, listed, mapped
from kubegate.registry.flowcontrol.conditions import fixed_spec, validate_status
from kubegate.registry.objectmeta import SAID_OF_IT, checked, keeping

_TYPE = "io.k8s.api.flowcontrol.v1.FlowSchema"
_LOWEST = 10000
_METHODS = ("ByNamespace", "ByUser")
# kind -> the field that goes with it
_SUBJECTS = {"ServiceAccount": "serviceAccount", "User": "user", "Group": "group"}
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_NAMESPACES = "each member of this list must be '*' or a DNS-1123 label; "


def _default(obj: Object) -> None:
    if not obj["spec"].get("matchingPrecedence"):
        obj["spec"]["matchingPrecedence"] = 1000


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec, errors = obj["spec"], []
    precedence, path = spec["matchingPrecedence"], "spec.matchingPrecedence"
    if precedence <= 0:
        errors.append(field.invalid(path, precedence, "must be a positive value"))
    if precedence > _LOWEST:
        errors.append(field.invalid(path, precedence, f"must not be greater than {_LOWEST}"))
    if precedence == 1 and obj["metadata"].get("name") != "exempt":
        text = "only the schema named 'exempt' may have matchingPrecedence 1"
        errors.append(field.invalid(path, precedence, text))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in _METHODS:
        shown = {"Type": method.get("type", "")}
        errors.append(field.not_supported("spec.distinguisherMethod.type", shown, _METHODS))
    level, path = mapped(spec, "priorityLevelConfiguration").get("name", ""), "spec.priorityLevelConfiguration.name"
    errors += dns_subdomain(level, path) if level else [field.required(path, "must reference a priority level")]
    for position, rule in enumerate(listed(spec, "rules")):
        errors += _rule(rule, field.index("spec.rules", position))
    return errors + fixed_spec(obj, "FlowSchema")


def _rule(rule: Object, path: str) -> list[FieldError]:
    subjects, errors = listed(rule, "subjects"), []
    if not subjects:
        errors.append(field.required(field.child(path, "subjects"), "subjects must contain at least one value"))
    for position, subject in enumerate(subjects):
        errors += _subject(subject, field.index(field.child(path, "subjects"), position))
    resources, others = listed(rule, "resourceRules"), listed(rule, "nonResourceRules")
    if not resources and not others:
        text = "at least one of resourceRules and nonResourceRules has to be non-empty"
        errors.append(field.required(path, text))
    for position, one in enumerate(resources):
        errors += _resource_rule(one, field.index(field.child(path, "resourceRules"), position))
    for position, one in enumerate(others):
        errors += _other_rule(one, field.index(field.child(path, "nonResourceRules"), position))
    return errors


def _subject(subject: Object, path: str) -> list[FieldError]:
    kind = subject.get("kind", "")
    if kind not in _SUBJECTS:
        return [field.not_supported(field.child(path, "kind"), kind, sorted(_SUBJECTS))]
    own = _SUBJECTS[kind]
    found, where = subject.get(own), field.child(path, own)
    errors = []
    if found is None:
        errors.append(field.required(where, f"{own} is required when subject kind is '{kind}'"))
    else:
        errors += _named_subject(found, kind, where)
    for other, name in _SUBJECTS.items():
        if other != kind and subject.get(name) is not None:
            text = f"{name} is forbidden when subject kind is not '{other}'"
            errors.append(field.forbidden(field.child(path, name), text))
    return errors


def _named_subject(found: Object, kind: str, path: str) -> list[FieldError]:
    name, where = found.get("name", ""), field.child(path, "name")
    errors = [] if name else [field.required(where)]
    if kind != "ServiceAccount":
        return errors
    if name and name != "*":
        errors += dns_subdomain(name, where)
    namespace, where = found.get("namespace", ""), field.child(path, "namespace")
    if not namespace:
        return [*errors, field.required(where, "must specify namespace for service account")]
    return errors + dns_label(namespace, where)


def _alone(rule: Object, name: str, path: str, what: str) -> list[FieldError]:
    values = listed(rule, name)
    if "*" in values and len(values) > 1:
        return [field.invalid(field.child(path, name), values, f"if '*' is present, must not specify other {what}")]
    return []


def _verbs(rule: Object, path: str) -> list[FieldError]:
    verbs, where = listed(rule, "verbs"), field.child(path, "verbs")
    if not verbs:
        return [field.required(where, "verbs must contain at least one value")]
    if "*" not in verbs and not set(verbs) <= set(_VERBS):
        return [field.not_supported(where, verbs, _VERBS)]
    return _alone(rule, "verbs", path, "verbs")


def _resource_rule(rule: Object, path: str) -> list[FieldError]:
    errors = _verbs(rule, path)
    for name, one, many in (("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")):
        if not listed(rule, name):
            text = f"resource rules must supply at least one {one}"
            errors.append(field.required(field.child(path, name), text))
        errors += _alone(rule, name, path, many)
    namespaces, where = listed(rule, "namespaces"), field.child(path, "namespaces")
    if not namespaces and not rule.get("clusterScope"):
        text = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(field.required(where, text))
    elif "*" in namespaces:
        errors += _alone(rule, "namespaces", path, "namespaces")
    else:
        for position, namespace in enumerate(namespaces):
            here = field.index(where, position)
            texts = names.is_dns1123_label(namespace)
            errors += [field.invalid(here, namespace, _NAMESPACES + text) for text in texts]
    return errors


def _other_rule(rule: Object, path: str) -> list[FieldError]:
    errors = _verbs(rule, path)
    urls, where = listed(rule, "nonResourceURLs"), field.child(path, "nonResourceURLs")
    if not urls:
        errors.append(field.required(where, "nonResourceURLs must contain at least one value"))
    elif "*" in urls:
        errors += _alone(rule, "nonResourceURLs", path, "non-resource URLs")
    else:
        for position, url in enumerate(urls):
            text = _bad_url(url)
            errors += [field.invalid(field.index(where, position), url, text)] if text else []
    return errors


def _bad_url(url: str) -> str:
    if not url:
        return "must not be empty"
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    stars = url.count("*")
    return "wildcard can only do suffix matching" if stars > 1 or (stars == 1 and not url.endswith("/*")) else ""


RULES = Rules(
    default=Defaulted(_TYPE, _default),
    prepare=with_blank_status(_TYPE),
    validate=checked(_validate, again="subdomain"),
    status=True,
    generation=True,
    subresources={"status": Rules(prepare=keeping(*SAID_OF_IT), validate=validate_status)},
)
