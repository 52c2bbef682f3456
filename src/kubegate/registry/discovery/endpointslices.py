"""EndpointSlices: where a Service leads."""

from __future__ import annotations

from collections.abc import Iterator

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.api.selectors import validate_labels
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import (
    PROTOCOLS,
    dns_label,
    dns_subdomain,
    endpoint_ip,
    ip,
    listed,
    mapped,
    qualified_name,
    wrong,
)
from kubegate.registry.objectmeta import checked

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
# They write addresses as they should be.
_CONTROLLERS = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")
_MAX_ENDPOINTS, _MAX_PORTS, _MAX_ADDRESSES, _MAX_TOPOLOGY, _MAX_HINTS = 1000, 20000, 100, 16, 8


def _default(obj: Object) -> None:
    for port in listed(obj, "ports"):
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    meta = obj["metadata"]
    if old is None:
        meta["generation"] = 1
        return
    labels = mapped(meta, "labels") != mapped(old["metadata"], "labels")
    if labels or any(obj.get(name) != old.get(name) for name in ("endpoints", "ports", "addressType")):
        meta["generation"] = old["metadata"].get("generation", 0) + 1


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    kind = obj.get("addressType", "")
    errors: list[FieldError] = []
    if not kind:
        errors.append(field.required("addressType"))
    elif kind not in _ADDRESS_TYPES:
        errors.append(field.not_supported("addressType", kind, _ADDRESS_TYPES))
    before = set() if old is None else {address for _, address in _addresses(old)}
    errors += _endpoints(listed(obj, "endpoints"), kind, before) + _ports(listed(obj, "ports"))
    return errors if old is None else errors + field.immutable("addressType", kind, old.get("addressType", ""))


def _endpoints(endpoints: list[Object], kind: str, before: set[str]) -> list[FieldError]:
    if len(endpoints) > _MAX_ENDPOINTS:
        return [field.too_many("endpoints", len(endpoints), _MAX_ENDPOINTS)]
    errors = []
    for position, endpoint in enumerate(endpoints):
        errors += _endpoint(endpoint, kind, field.index("endpoints", position), before)
    return errors


def _endpoint(endpoint: Object, kind: str, path: str, before: set[str]) -> list[FieldError]:
    addresses, where, errors = listed(endpoint, "addresses"), field.child(path, "addresses"), []
    if not addresses:
        errors.append(field.required(where, "must contain at least 1 address"))
    elif len(addresses) > _MAX_ADDRESSES:
        errors.append(field.too_many(where, len(addresses), _MAX_ADDRESSES))
    for position, address in enumerate(addresses):
        errors += _address(address, kind, field.index(where, position), before)
    if "nodeName" in endpoint:
        errors += dns_subdomain(endpoint["nodeName"], field.child(path, "nodeName"))
    topology, where = mapped(endpoint, "deprecatedTopology"), field.child(path, "deprecatedTopology")
    if len(topology) > _MAX_TOPOLOGY:
        errors.append(field.too_many(where, len(topology), _MAX_TOPOLOGY))
    errors += validate_labels(topology, where)
    if "hostname" in endpoint:
        errors += dns_label(endpoint["hostname"], field.child(path, "hostname"))
    for name in ("forZones", "forNodes"):
        errors += _hints(listed(endpoint.get("hints"), name), name, field.child(path, f"hints.{name}"))
    return errors


def _address(address: str, kind: str, path: str, before: set[str]) -> list[FieldError]:
    if kind == "FQDN":
        if not address:
            return [field.required(path)]
        return wrong(path, address, names.is_fully_qualified_name(address))
    if kind not in ("IPv4", "IPv6"):
        return []
    errors, found = ip(address, path, before), names.parse_ip(address)
    if errors or found is None:
        return errors
    if f"IPv{found.version}" != kind:
        errors.append(field.invalid(path, address, f"must be an {kind} address"))
    return errors + endpoint_ip(address, path)


def _hints(hints: list[Object], name: str, path: str) -> list[FieldError]:
    if len(hints) > _MAX_HINTS:
        return [field.too_many(path, len(hints), _MAX_HINTS)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, hint in enumerate(hints):
        value, where = hint.get("name", ""), field.child(field.index(path, position), "name")
        if value in seen:
            errors.append(field.duplicate(where, value))
        seen.add(value)
        check = names.is_valid_label_value if name == "forZones" else names.is_dns1123_subdomain
        errors += wrong(where, value, check(value))
    return errors


def _ports(ports: list[Object]) -> list[FieldError]:
    if len(ports) > _MAX_PORTS:
        return [field.too_many("ports", len(ports), _MAX_PORTS)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, port in enumerate(ports):
        here, name = field.index("ports", position), port.get("name", "")
        where = field.child(here, "name")
        if name:
            errors += dns_label(name, where)
        if name in seen:
            errors.append(field.duplicate(where, name))
        seen.add(name)
        protocol = port.get("protocol", "")
        if protocol not in PROTOCOLS:
            errors.append(field.not_supported(field.child(here, "protocol"), protocol, PROTOCOLS))
        if "appProtocol" in port:
            errors += qualified_name(port["appProtocol"], field.child(here, "appProtocol"))
    return errors


def _addresses(obj: Object) -> Iterator[tuple[str, str]]:
    """Paths and addresses."""
    for position, endpoint in enumerate(listed(obj, "endpoints")):
        here = field.child(field.index("endpoints", position), "addresses")
        for number, address in enumerate(listed(endpoint, "addresses")):
            yield field.index(here, number), address


def _warnings(obj: Object, old: Object | None) -> list[str]:
    found = []
    if obj.get("addressType") == "FQDN":
        found.append("spec.addressType: FQDN endpoints are deprecated")
    if mapped(obj["metadata"], "labels").get("endpointslice.kubernetes.io/managed-by") not in _CONTROLLERS:
        found += [text for path, address in _addresses(obj) for text in names.ip_warnings(address, path)]
    return found


RULES = Rules(
    default=Defaulted("io.k8s.api.discovery.v1.EndpointSlice", _default),
    prepare=_prepare,
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
)
