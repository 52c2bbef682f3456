"""Endpoints: where a Service leads, in the old form."""

from __future__ import annotations

from collections.abc import Iterator

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
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


def _default(obj: Object) -> None:
    for subset in listed(obj, "subsets"):
        for port in listed(subset, "ports"):
            port.setdefault("protocol", "TCP")


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    subsets = listed(obj, "subsets")
    errors = [error for position, one in enumerate(subsets) for error in _subset(one, field.index("subsets", position))]
    # What was stored before it was checked is borne with.
    return [] if errors and old is not None and subsets == listed(old, "subsets") else errors


def _subset(subset: Object, path: str) -> list[FieldError]:
    errors = []
    if not listed(subset, "addresses") and not listed(subset, "notReadyAddresses"):
        errors.append(field.required(path, "must specify `addresses` or `notReadyAddresses`"))
    for name in ("addresses", "notReadyAddresses"):
        for position, address in enumerate(listed(subset, name)):
            errors += _address(address, field.index(field.child(path, name), position))
    ports = listed(subset, "ports")
    for position, port in enumerate(ports):
        errors += _port(port, len(ports) > 1, field.index(field.child(path, "ports"), position))
    return errors


def _address(address: Object, path: str) -> list[FieldError]:
    where, found = field.child(path, "ip"), address.get("ip", "")
    errors = ip(found, where)
    if address.get("hostname"):
        errors += dns_label(address["hostname"], field.child(path, "hostname"))
    if "nodeName" in address:
        errors += dns_subdomain(address["nodeName"], field.child(path, "nodeName"))
    return errors + endpoint_ip(found, where)


def _port(port: Object, name_wanted: bool, path: str) -> list[FieldError]:
    errors = []
    name, where = port.get("name", ""), field.child(path, "name")
    if name:
        errors += dns_label(name, where)
    elif name_wanted:
        errors.append(field.required(where))
    number = port.get("port", 0)
    errors += wrong(field.child(path, "port"), number, names.is_valid_port_num(number))
    protocol = port.get("protocol", "")
    if protocol not in PROTOCOLS:
        errors.append(field.not_supported(field.child(path, "protocol"), protocol, PROTOCOLS))
    if "appProtocol" in port:
        errors += qualified_name(port["appProtocol"], field.child(path, "appProtocol"))
    return errors


def _addresses(obj: Object) -> Iterator[tuple[str, str]]:
    """Paths and addresses."""
    for position, subset in enumerate(listed(obj, "subsets")):
        for name in ("addresses", "notReadyAddresses"):
            here = field.child(field.index("subsets", position), name)
            for number, address in enumerate(listed(subset, name)):
                yield field.child(field.index(here, number), "ip"), address.get("ip", "")


def _warnings(obj: Object, old: Object | None) -> list[str]:
    if mapped(obj["metadata"], "labels").get("endpoints.kubernetes.io/managed-by") == "endpoint-controller":
        return []
    return [text for path, address in _addresses(obj) for text in names.ip_warnings(address, path)]


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.Endpoints", _default),
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    create_on_update=True,
)
