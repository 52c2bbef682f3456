"""Ingresses: which paths of which hosts lead to which services."""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import dns_subdomain, ip, listed, mapped, wrong
from kubegate.registry.networking.references import local_reference
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.networking.v1.Ingress"
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDINGS = ("/..", "/.")


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    before = None if old is None else old["spec"]
    errors = _spec(spec, before)
    wanted, said = spec.get("ingressClassName"), mapped(obj["metadata"], "annotations").get(_CLASS_ANNOTATION)
    if old is None and wanted is not None and said is not None and said != wanted:
        text = "must match `ingressClassName` when both are specified"
        errors.append(field.invalid(f"annotations.{_CLASS_ANNOTATION}", said, text))
    return errors


def _spec(spec: Object, before: Object | None) -> list[FieldError]:
    errors = []
    rules, backend = listed(spec, "rules"), spec.get("defaultBackend")
    if not rules and backend is None:
        text = "either `defaultBackend` or `rules` must be specified"
        errors.append(field.invalid("spec", spec.get("rules"), text))
    if backend is not None:
        errors += _backend(backend, "spec.defaultBackend")
    lenient = before is not None and any(
        "*" in rule.get("host", "") and bool(_http(rule, "")) for rule in listed(before, "rules")
    )
    for position, rule in enumerate(rules):
        errors += _rule(rule, field.index("spec.rules", position), lenient)
    errors += _tls(spec, before)
    name = spec.get("ingressClassName")
    return errors if name is None else errors + dns_subdomain(name, "spec.ingressClassName")


def _host(host: str, path: str) -> list[FieldError]:
    check = names.is_wildcard_dns1123_subdomain if "*" in host else names.is_dns1123_subdomain
    return wrong(path, host, check(host))


def _rule(rule: Object, path: str, lenient: bool) -> list[FieldError]:
    host, errors = rule.get("host", ""), []
    if host:
        where = field.child(path, "host")
        if names.parse_ip(host) is not None:
            errors.append(field.invalid(where, host, "must be a DNS name, not an IP address"))
        errors += _host(host, where)
    return errors if "*" in host and lenient else errors + _http(rule, path)


def _http(rule: Object, path: str) -> list[FieldError]:
    http = rule.get("http")
    if http is None:
        return []
    paths, where = listed(http, "paths"), field.child(path, "http.paths")
    errors = [] if paths else [field.required(where)]
    for position, found in enumerate(paths):
        errors += _path(found, field.index(where, position))
    return errors


def _path(found: Object, path: str) -> list[FieldError]:
    kind, text = found.get("pathType"), found.get("path", "")
    where, errors = field.child(path, "path"), []
    if kind is None:
        return [field.required(field.child(path, "pathType"), "pathType must be specified")]
    if kind not in _PATH_TYPES:
        errors.append(field.not_supported(field.child(path, "pathType"), kind, _PATH_TYPES))
    elif (text or kind != "ImplementationSpecific") and not text.startswith("/"):
        errors.append(field.invalid(where, text, "must be an absolute path"))
    if kind in ("Exact", "Prefix"):
        errors += [field.invalid(where, text, f"must not contain '{bad}'") for bad in _BAD_SEQUENCES if bad in text]
        endings = [bad for bad in _BAD_ENDINGS if text.endswith(bad)]
        errors += [field.invalid(where, text, f"cannot end with '{bad}'") for bad in endings]
    return errors + _backend(mapped(found, "backend"), field.child(path, "backend"))


def _backend(backend: Object, path: str) -> list[FieldError]:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [field.invalid(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return local_reference(resource, field.child(path, "resource"))
    if service is None:
        return [field.invalid(path, "", "resource or service backend is required")]
    name, where = service.get("name", ""), field.child(path, "service.name")
    errors = wrong(where, name, names.is_dns1123_label(name)) if name else [field.required(where)]
    port = mapped(service, "port")
    if port.get("name") and port.get("number"):
        errors.append(field.invalid(path, "", "cannot set both port name & port number"))
    elif port.get("name"):
        where = field.child(path, "service.port.name")
        errors += wrong(where, port["name"], names.is_valid_port_name(port["name"]))
    elif port.get("number"):
        where = field.child(path, "service.port.number")
        errors += wrong(where, port["number"], names.is_valid_port_num(port["number"]))
    else:
        errors.append(field.required(path, "port name or number is required"))
    return errors


def _tls(spec: Object, before: Object | None) -> list[FieldError]:
    lenient = before is not None and any(map(_bad_secret, listed(before, "tls")))
    errors = []
    for position, tls in enumerate(listed(spec, "tls")):
        path = field.index("spec.tls", position)
        for place, host in enumerate(listed(tls, "hosts")):
            errors += _host(host, field.index(field.child(path, "hosts"), place))
        if not lenient:
            errors += wrong(field.child(path, "secretName"), tls.get("secretName", ""), _bad_secret(tls))
    return errors


def _bad_secret(tls: Object) -> list[str]:
    name = tls.get("secretName", "")
    return names.is_dns1123_subdomain(name) if name else []


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = []
    for position, one in enumerate(listed(mapped(mapped(obj, "status"), "loadBalancer"), "ingress")):
        path = field.index("status.loadBalancer.ingress", position)
        if one.get("ip"):
            errors += ip(one["ip"], field.child(path, "ip"))
        host, where = one.get("hostname", ""), field.child(path, "hostname")
        if host:
            errors += dns_subdomain(host, where)
            if names.parse_ip(host) is not None:
                errors.append(field.invalid(where, host, "must be a DNS name, not an IP address"))
    return errors


def _warnings(obj: Object, old: Object | None) -> list[str]:
    if old is None and _CLASS_ANNOTATION in mapped(obj["metadata"], "annotations"):
        return [f"annotation \"{_CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"]
    return []


RULES = Rules(
    default=Defaulted(_TYPE),
    prepare=with_blank_status(_TYPE),
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    status=True,
    generation=True,
    subresources={"status": Rules(validate=checked(_validate_status))},
)
