"""ServiceCIDRs: ranges that services' addresses come from."""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import listed, wrong
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.networking.v1.ServiceCIDR"
_PATH = "spec.cidrs"
_ONE_OF_EACH = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    cidrs = listed(obj["spec"], "cidrs")
    return _check(cidrs) if old is None else _check_change(cidrs, listed(old["spec"], "cidrs"))


def _check(cidrs: list[str]) -> list[FieldError]:
    if not cidrs:
        return [field.required(_PATH, "at least one CIDR required")]
    if len(cidrs) > 2:
        return [field.invalid(_PATH, {"CIDRs": cidrs}, "may only hold up to 2 values")]
    errors = []
    for position, cidr in enumerate(cidrs):
        errors += _canonical(cidr, field.index(_PATH, position))
    families = [found[1].version for found in map(names.parse_cidr, cidrs) if found is not None]
    if len(families) == 2 and families[0] == families[1]:
        errors.append(field.invalid(_PATH, cidrs, _ONE_OF_EACH))
    return errors


def _check_change(cidrs: list[str], old: list[str]) -> list[FieldError]:
    """A range may be added to the one that is there, of the other family; else they stay as they are."""
    added = len(old) == 1 and len(cidrs) == 2
    if not added and len(cidrs) != len(old):
        return [field.invalid(_PATH, cidrs, field.IMMUTABLE)]
    errors = [
        field.invalid(field.index(_PATH, position), cidr, field.IMMUTABLE)
        for position, (cidr, before) in enumerate(zip(cidrs, old, strict=False))
        if cidr != before
    ]
    return errors + _check(cidrs) if added else errors


def _canonical(cidr: str, path: str) -> list[FieldError]:
    found = names.parse_cidr(cidr)
    errors = wrong(path, cidr, names.is_valid_cidr(cidr))
    if errors or found is None or str(found[1]) == cidr:
        return errors
    return [field.invalid(path, cidr, f'must be in canonical form ("{found[1]}")')]


RULES = Rules(
    default=Defaulted(_TYPE),
    prepare=with_blank_status(_TYPE),
    validate=checked(_validate),
    status=True,
    generation=True,
    subresources={"status": Rules(validate=checked())},
)
