"""ServiceCIDRs: ranges that services' addresses come from."""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import defaulted, with_blank_status
from kubegate.registry.checks import listed
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.networking.v1.ServiceCIDR"
_ONE_OF_EACH = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    path, cidrs = "spec.cidrs", listed(obj["spec"], "cidrs")
    if old is not None:
        return field.immutable(path, cidrs, listed(old["spec"], "cidrs"))
    if not cidrs:
        return [field.required(path, "at least one CIDR required")]
    shown = {"CIDRs": cidrs}
    if len(cidrs) > 2:
        return [field.invalid(path, shown, "may only hold up to 2 values")]
    found = [names.parse_cidr(cidr) for cidr in cidrs]
    if len(cidrs) == 2 and len({one[1].version for one in found if one is not None}) < 2:
        return [field.invalid(path, shown, _ONE_OF_EACH)]
    errors = []
    for position, cidr in enumerate(cidrs):
        errors += _canonical(cidr, field.index(path, position))
    return errors


def _canonical(cidr: str, path: str) -> list[FieldError]:
    found = names.parse_cidr(cidr)
    if found is None:
        return [field.invalid(path, cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")]
    if str(found[1]) == cidr:
        return []
    return [field.invalid(path, cidr, f'must be in canonical form ("{found[1]}")')]


RULES = Rules(
    default=defaulted(_TYPE),
    prepare=with_blank_status(_TYPE),
    validate=checked(_validate),
    status=True,
    generation=True,
    subresources={"status": Rules(validate=checked())},
)
