"""Services: their types, ports and addresses. What is allocated (cluster IPs, node ports) is in `serviceaddresses`."""

from __future__ import annotations

from typing import Any, Final

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.api.selectors import validate_labels
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import (
    PROTOCOLS,
    cidr,
    dns_label,
    dns_subdomain,
    endpoint_ip,
    ip,
    listed,
    mapped,
    port_number,
    port_number_or_name,
    qualified_name,
)
from kubegate.registry.core import serviceaddresses
from kubegate.registry.core.serviceaddresses import (
    NONE,
    is_headless,
    needs_health_check_port,
    related_fields,
)
from kubegate.registry.objectmeta import checked

_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_HINTS: Final = "service.kubernetes.io/topology-aware-hints"
_MODE: Final = "service.kubernetes.io/topology-mode"
_SOURCE_RANGES: Final = "service.beta.kubernetes.io/load-balancer-source-ranges"
_AFFINITY_SECONDS: Final = 10800
_MAX_AFFINITY_SECONDS: Final = 86400
_DISTRIBUTIONS: Final = ("PreferClose", "PreferSameZone", "PreferSameNode")


def externally_accessible(spec: Object) -> bool:
    kind = spec.get("type")
    return kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and bool(listed(spec, "externalIPs")))


def _default(obj: Object) -> None:
    spec = obj["spec"]
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = mapped(mapped(spec, "sessionAffinityConfig"), "clientIP")
        if client.get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _AFFINITY_SECONDS}}
    spec.setdefault("type", "ClusterIP")
    for port in listed(spec, "ports"):
        port["protocol"] = port.get("protocol") or "TCP"
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if externally_accessible(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer", "ClusterIP"):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in listed(mapped(obj["status"], "loadBalancer"), "ingress"):
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    if old is None:
        obj["status"] = {"loadBalancer": {}}
    serviceaddresses.allocate(obj, old, scope)


# ---------------------------------------------------------------------- validation
def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    errors = []
    if old is not None:
        errors += serviceaddresses.changes(spec, old["spec"])
        errors += _load_balancer_class(spec, old["spec"])
        if needs_health_check_port(spec) and needs_health_check_port(old["spec"]):
            port, before = spec.get("healthCheckNodePort", 0), old["spec"].get("healthCheckNodePort", 0)
            if port != before:
                errors.append(field.forbidden("spec.healthCheckNodePort", "field is immutable"))
    return errors + _validate_service(obj, {} if old is None else old["spec"])


def _validate_service(obj: Object, before: Object) -> list[FieldError]:
    """`before` is the stored spec."""
    spec, annotations = obj["spec"], mapped(obj["metadata"], "annotations")
    errors = []
    if _HINTS in annotations and _MODE in annotations and annotations[_HINTS] != annotations[_MODE]:
        text = f"must match annotations[{_HINTS}] when both are specified"
        errors.append(field.invalid(field.key("metadata.annotations", _MODE), annotations[_MODE], text))
    ports, kind, headless = listed(spec, "ports"), spec.get("type", ""), is_headless(spec)
    if not ports and not headless and kind != "ExternalName":
        errors.append(field.required("spec.ports"))
    if kind in ("LoadBalancer", "NodePort") and headless:
        text = f"may not be set to 'None' for {kind} services"
        errors.append(field.invalid("spec.clusterIPs[0]", NONE, text))
    elif kind == "ExternalName":
        errors += _external_name(spec)
    seen: set[str] = set()
    for position, port in enumerate(ports):
        errors += _port(port, field.index("spec.ports", position), len(ports) > 1, seen)
    errors += validate_labels(spec.get("selector"), "spec.selector")
    errors += _session_affinity(spec)
    errors += related_fields(spec, listed(before, "clusterIPs"))
    for position, address in enumerate(listed(spec, "externalIPs")):
        here = field.index("spec.externalIPs", position)
        errors += ip(address, here, listed(before, "externalIPs")) or endpoint_ip(address, here)
    if not kind:
        errors.append(field.required("spec.type"))
    elif kind not in _TYPES:
        errors.append(field.not_supported("spec.type", kind, _TYPES))
    errors += _node_ports(ports, kind) + _duplicate_ports(ports)
    errors += _source_ranges(spec, annotations, listed(before, "loadBalancerSourceRanges"))
    allocates = spec.get("allocateLoadBalancerNodePorts")
    only_load_balancer = "may only be used when `type` is 'LoadBalancer'"
    if allocates is not None and kind != "LoadBalancer":
        errors.append(field.forbidden("spec.allocateLoadBalancerNodePorts", only_load_balancer))
    if allocates is None and kind == "LoadBalancer":
        errors.append(field.required("allocateLoadBalancerNodePorts"))
    errors += _load_balancer_class(spec, None)
    return errors + _traffic(spec)


def _external_name(spec: Object) -> list[FieldError]:
    text = "may not be set for ExternalName services"
    errors = [
        field.forbidden(field.child("spec", name), text)
        for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if spec.get(name)
    ]
    name = spec.get("externalName", "").removesuffix(".")
    return errors + (dns_subdomain(name, "spec.externalName") if name else [field.required("spec.externalName")])


def _port(port: Object, path: str, needs_name: bool, seen: set[str]) -> list[FieldError]:
    errors = []
    name, name_path = port.get("name", ""), field.child(path, "name")
    if not name:
        if needs_name:
            errors.append(field.required(name_path))
    else:
        errors += dns_label(name, name_path)
        if name in seen:
            errors.append(field.duplicate(name_path, name))
        seen.add(name)
    errors += port_number(port.get("port", 0), field.child(path, "port"))
    protocol, protocol_path = port.get("protocol", ""), field.child(path, "protocol")
    if not protocol:
        errors.append(field.required(protocol_path))
    elif protocol not in PROTOCOLS:
        errors.append(field.not_supported(protocol_path, protocol, PROTOCOLS))
    errors += port_number_or_name(port.get("targetPort", 0), field.child(path, "targetPort"))
    if "appProtocol" in port:
        errors += qualified_name(port["appProtocol"], field.child(path, "appProtocol"))
    return errors


def _session_affinity(spec: Object) -> list[FieldError]:
    affinity, path = spec.get("sessionAffinity", ""), "spec.sessionAffinityConfig"
    if not affinity:
        return [field.required("spec.sessionAffinity")]
    if affinity not in ("ClientIP", "None"):
        return [field.not_supported("spec.sessionAffinity", affinity, ("ClientIP", "None"))]
    config = spec.get("sessionAffinityConfig")
    if affinity == "None":
        if config is None:
            return []
        return [field.forbidden(path, "must not be set when session affinity is None")]
    needed = "when session affinity type is ClientIP"
    if not isinstance(config, dict):
        return [field.required(path, needed)]
    if not isinstance(config.get("clientIP"), dict):
        return [field.required(f"{path}.clientIP", needed)]
    seconds = config["clientIP"].get("timeoutSeconds")
    here = f"{path}.clientIP.timeoutSeconds"
    if seconds is None:
        return [field.required(here, needed)]
    if 0 < seconds <= _MAX_AFFINITY_SECONDS:
        return []
    return [field.invalid(here, seconds, f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}")]


def _node_ports(ports: list[Object], kind: str) -> list[FieldError]:
    errors = []
    if kind == "ClusterIP":
        for position, port in enumerate(ports):
            if port.get("nodePort"):
                here = field.child(field.index("spec.ports", position), "nodePort")
                errors.append(field.forbidden(here, "may not be used when `type` is 'ClusterIP'"))
    seen: set[tuple[str, int]] = set()
    for position, port in enumerate(ports):
        number = port.get("nodePort", 0)
        if not number:
            continue
        key = (port.get("protocol", ""), number)
        if key in seen:
            here = field.child(field.index("spec.ports", position), "nodePort")
            errors.append(field.duplicate(here, number))
        seen.add(key)
    return errors


def _duplicate_ports(ports: list[Object]) -> list[FieldError]:
    errors = []
    seen: set[tuple[str, int]] = set()
    for position, port in enumerate(ports):
        key = (port.get("protocol", ""), port.get("port", 0))
        if key in seen:
            shown = goshape.shape({"protocol": key[0], "port": key[1]}, "ServicePort")
            errors.append(field.duplicate(field.index("spec.ports", position), shown))
        seen.add(key)
    return errors


def _source_ranges(spec: Object, annotations: dict[str, Any], before: list[str]) -> list[FieldError]:
    ranges = listed(spec, "loadBalancerSourceRanges")
    forbidden = "may only be used when `type` is 'LoadBalancer'"
    errors = []
    if ranges:
        path = "spec.LoadBalancerSourceRanges"
        if spec.get("type") != "LoadBalancer":
            errors.append(field.forbidden(path, forbidden))
        for position, value in enumerate(ranges):
            errors += cidr(value.strip(), field.index(path, position), before)
    elif _SOURCE_RANGES in annotations:
        path = field.key("metadata.annotations", _SOURCE_RANGES)
        if spec.get("type") != "LoadBalancer":
            errors.append(field.forbidden(path, forbidden))
        if annotations[_SOURCE_RANGES].strip():
            for value in annotations[_SOURCE_RANGES].strip().split(","):
                errors += cidr(value.strip(), path)
    return errors


def _load_balancer_class(spec: Object, old: Object | None) -> list[FieldError]:
    path, found = "spec.loadBalancerClass", spec.get("loadBalancerClass")
    errors = []
    balancer = spec.get("type") == "LoadBalancer"
    if old is not None and balancer and old.get("type") == "LoadBalancer" and found != old.get("loadBalancerClass"):
        errors.append(field.invalid(path, found, "may not change once set"))
    if found is None:
        return errors
    if balancer:
        return errors + qualified_name(found, path)
    errors.append(field.forbidden(path, "may only be used when `type` is 'LoadBalancer'"))
    return errors


def _traffic(spec: Object) -> list[FieldError]:
    errors = []
    policy, path = spec.get("externalTrafficPolicy", ""), "spec.externalTrafficPolicy"
    if not externally_accessible(spec):
        if policy:
            errors.append(field.invalid(path, policy, "may only be set for externally-accessible services"))
    elif not policy:
        errors.append(field.required(path))
    elif policy not in ("Cluster", "Local"):
        errors.append(field.not_supported(path, policy, ("Cluster", "Local")))
    port, path = spec.get("healthCheckNodePort", 0), "spec.healthCheckNodePort"
    if not needs_health_check_port(spec):
        if port:
            text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            errors.append(field.invalid(path, port, text))
    elif not port:
        errors.append(field.required(path))
    else:
        errors += port_number(port, path)
    policy, path = spec.get("internalTrafficPolicy"), "spec.internalTrafficPolicy"
    if policy is None and spec.get("type") in ("NodePort", "LoadBalancer", "ClusterIP"):
        errors.append(field.required(path))
    if policy is not None and policy not in ("Cluster", "Local"):
        errors.append(field.not_supported(path, policy, ("Cluster", "Local")))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        errors.append(field.not_supported("spec.trafficDistribution", distribution, _DISTRIBUTIONS))
    return errors


# ---------------------------------------------------------------------- status
def load_balancer_status(status: Object, path: str, kind: str) -> list[FieldError]:
    """A Service's status.loadBalancer."""
    here, ingress = field.child(path, "ingress"), listed(status, "ingress")
    if kind != "LoadBalancer" and ingress:
        return [field.forbidden(here, "may only be used when `spec.type` is 'LoadBalancer'")]
    errors = []
    for position, point in enumerate(ingress):
        where = field.index(here, position)
        address, mode, host = point.get("ip", ""), point.get("ipMode"), point.get("hostname", "")
        mode_path = field.child(where, "ipMode")
        if address:
            errors += ip(address, field.child(where, "ip"))
        if mode is None:
            if address:
                errors.append(field.required(mode_path, "must be specified when `ip` is set"))
        elif not address:
            errors.append(field.forbidden(mode_path, "may not be specified when `ip` is not set"))
        elif mode not in ("Proxy", "VIP"):
            errors.append(field.not_supported(mode_path, mode, ("Proxy", "VIP")))
        if host:
            errors += dns_subdomain(host, field.child(where, "hostname"))
            if names.parse_ip(host) is not None:
                text = "must be a DNS name, not an IP address"
                errors.append(field.invalid(field.child(where, "hostname"), host, text))
    return errors


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    balancer = mapped(obj.get("status"), "loadBalancer")
    return load_balancer_status(balancer, "status.loadBalancer", obj["spec"].get("type", ""))


# ---------------------------------------------------------------------- warnings and selection
def _warnings(obj: Object, old: Object | None) -> list[str]:
    spec, kind = obj["spec"], obj["spec"].get("type")
    found = []
    headless, outside = is_headless(spec), listed(spec, "externalIPs")
    if _HINTS in mapped(obj["metadata"], "annotations"):
        found.append(f"annotation {_HINTS} is deprecated, please use {_MODE} instead")
    if not headless:
        for position, address in enumerate(listed(spec, "clusterIPs")):
            found += names.ip_warnings(address, field.index("spec.clusterIPs", position))
    else:
        if spec.get("loadBalancerIP"):
            found.append("spec.loadBalancerIP is ignored for headless services")
        if outside:
            found.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity") != "None":
            found.append("spec.SessionAffinity is ignored for headless services")
    for position, address in enumerate(outside):
        found += names.ip_warnings(address, field.index("spec.externalIPs", position))
    if spec.get("loadBalancerIP"):
        found += names.ip_warnings(spec["loadBalancerIP"], "spec.loadBalancerIP")
    for position, value in enumerate(listed(spec, "loadBalancerSourceRanges")):
        found += names.cidr_warnings(value, field.index("spec.loadBalancerSourceRanges", position))
    if kind == "ExternalName":
        if outside:
            found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    else:
        if outside and not headless:
            found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
        if spec.get("externalName"):
            found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found


def _status_warnings(obj: Object, old: Object | None) -> list[str]:
    found = []
    for position, point in enumerate(listed(mapped(obj.get("status"), "loadBalancer"), "ingress")):
        found += names.ip_warnings(point.get("ip", ""), field.index("status.loadBalancer.ingress", position))
    return found


def _fields(obj: Object) -> dict[str, str]:
    spec = obj.get("spec") or {}
    return {"spec.clusterIP": spec.get("clusterIP", ""), "spec.type": spec.get("type", "")}


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.Service", _default),
    prepare=_prepare,
    validate=checked(_validate, again="label"),
    warnings=_warnings,
    fields=_fields,
    field_labels=("spec.clusterIP", "spec.type"),
    name="label",
    status=True,
    create_on_update=True,
    returns_deleted=True,
    subresources={"status": Rules(validate=checked(_validate_status), warnings=_status_warnings)},
)
