"""NetworkPolicies: which pods may talk to which others."""

from __future__ import annotations

from collections.abc import Iterator

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.api.selectors import validate_selector
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import cidr, listed, mapped, wrong
from kubegate.registry.objectmeta import checked

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_TYPES = ("Ingress", "Egress")


def _default(obj: Object) -> None:
    spec = obj["spec"]
    for side in ("ingress", "egress"):
        for rule in listed(spec, side):
            for port in listed(rule, "ports"):
                port.setdefault("protocol", "TCP")
    if not listed(spec, "policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if listed(spec, "egress") else ["Ingress"]


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec, lenient, before = obj["spec"], False, set[str]()
    if old is not None:
        lenient = bool(validate_selector(old["spec"].get("podSelector"), ""))
        before = _ranges(old["spec"])
    errors = _spec(spec, lenient, before)
    # An update is looked at as a new object and as an update, so that everything is told twice.
    return errors if old is None else errors * 2


def _spec(spec: Object, lenient: bool, before: set[str]) -> list[FieldError]:
    errors = validate_selector(spec.get("podSelector"), "spec.podSelector", allow_invalid_values=lenient)
    for side, peers in (("ingress", "from"), ("egress", "to")):
        for position, rule in enumerate(listed(spec, side)):
            path = field.index(f"spec.{side}", position)
            for place, port in enumerate(listed(rule, "ports")):
                errors += _port(port, field.index(field.child(path, "ports"), place))
            for place, peer in enumerate(listed(rule, peers)):
                errors += _peer(peer, field.index(field.child(path, peers), place), lenient, before)
    types = listed(spec, "policyTypes")
    if len(types) > len(_TYPES):
        errors.append(field.invalid("spec.policyTypes", types, "may not specify more than two policyTypes"))
        return errors
    for position, kind in enumerate(types):
        if kind not in _TYPES:
            errors.append(field.not_supported(field.index("spec.policyTypes", position), kind, _TYPES))
    return errors


def _port(port: Object, path: str) -> list[FieldError]:
    errors = []
    protocol, number, last = port.get("protocol"), port.get("port"), port.get("endPort")
    where, last_path = field.child(path, "port"), field.child(path, "endPort")
    if protocol is not None and protocol not in _PROTOCOLS:
        errors.append(field.not_supported(field.child(path, "protocol"), protocol, _PROTOCOLS))
    if number is None:
        if last is not None:
            errors.append(field.invalid(last_path, last, "may not be specified when `port` is not specified"))
    elif isinstance(number, int):
        errors += wrong(where, number, names.is_valid_port_num(number))
        if last is not None:
            if last < number:
                errors.append(field.invalid(last_path, last, "must be greater than or equal to `port`"))
            errors += wrong(last_path, last, names.is_valid_port_num(last))
    else:
        if last is not None:
            errors.append(field.invalid(last_path, last, "may not be specified when `port` is non-numeric"))
        errors += wrong(where, number, names.is_valid_port_name(number))
    return errors


def _peer(peer: Object, path: str, lenient: bool, before: set[str]) -> list[FieldError]:
    errors, count = [], 0
    for name in ("podSelector", "namespaceSelector"):
        if peer.get(name) is not None:
            count += 1
            errors += validate_selector(peer[name], field.child(path, name), allow_invalid_values=lenient)
    block = peer.get("ipBlock")
    if block is not None:
        count += 1
        errors += _block(block, field.child(path, "ipBlock"), before)
    if count == 0:
        errors.append(field.required(path, "must specify a peer"))
    elif count > 1 and block is not None:
        errors.append(field.forbidden(path, "may not specify both ipBlock and another peer"))
    return errors


def _block(block: Object, path: str, before: set[str]) -> list[FieldError]:
    value, where = block.get("cidr", ""), field.child(path, "cidr")
    if not value:
        return [field.required(where)]
    errors = cidr(value, where, before)
    found = names.parse_cidr(value)
    if found is None:
        return errors
    network = found[1]
    for position, text in enumerate(listed(block, "except")):
        here = field.index(field.child(path, "except"), position)
        errors += cidr(text, here, before)
        inner = names.parse_cidr(text)
        if inner is None:
            continue
        inside = inner[1].version == network.version and inner[1].network_address in network
        if not inside or network.prefixlen >= inner[1].prefixlen:
            errors.append(field.invalid(here, text, "must be a strict subset of `cidr`"))
    return errors


def _blocks(spec: Object) -> Iterator[tuple[str, Object]]:
    """The address blocks of all rules, with their paths."""
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for position, rule in enumerate(listed(spec, direction)):
            here = field.child(field.index(field.child("spec", direction), position), side)
            for number, peer in enumerate(listed(rule, side)):
                if "ipBlock" in peer:
                    yield field.child(field.index(here, number), "ipBlock"), mapped(peer, "ipBlock")


def _ranges(spec: Object) -> set[str]:
    return {text for _, block in _blocks(spec) for text in (block.get("cidr", ""), *listed(block, "except"))}


def _warnings(obj: Object, old: Object | None) -> list[str]:
    found = []
    for path, block in _blocks(obj["spec"]):
        found += names.cidr_warnings(block.get("cidr", ""), field.child(path, "cidr"))
        for position, text in enumerate(listed(block, "except")):
            found += names.cidr_warnings(text, field.index(field.child(path, "except"), position))
    return found


RULES = Rules(
    default=Defaulted("io.k8s.api.networking.v1.NetworkPolicy", _default),
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    generation=True,
)
