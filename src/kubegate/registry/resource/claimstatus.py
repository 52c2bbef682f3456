"""What is said of a claim that has been allocated: the devices it got, who has reserved it, and what drivers tell.

Follows pkg/apis/resource of Kubernetes v1.36.
"""

from __future__ import annotations

from typing import Any, Final

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Scope, goshape
from kubegate.registry.checks import dns_label, listed, mapped, one_of, repeated
from kubegate.registry.conditions import conditions
from kubegate.registry.core.podspec.scheduling import node_selector
from kubegate.registry.core.podspec.volumes import csi_driver_name
from kubegate.registry.objectmeta import SAID_OF_IT, keeping
from kubegate.registry.resource import devices

_MOST_CONSUMERS: Final = 256
_MOST_CONDITIONS: Final = 8
_MOST_ADDRESSES: Final = 16
_LONGEST_INTERFACE, _LONGEST_HARDWARE_ADDRESS = 256, 128
_SOURCES: Final = ("FromClaim", "FromClass")
_UUID: Final = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase " + (
    "hexadecimal characters"
)

_keep_metadata = keeping(*SAID_OF_IT)


def prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    """What was told of devices that are no longer the claim's goes with them."""
    assert old is not None
    _keep_metadata(obj, old, scope)
    status = mapped(obj, "status")
    gone = _allocated(mapped(old, "status")) - _allocated(status)
    if gone and "devices" in status:
        status["devices"] = [one for one in listed(status, "devices") if devices.identity(one) not in gone]
        if not status["devices"]:
            del status["devices"]


def validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    status, before = mapped(obj, "status"), mapped(old, "status")
    users = listed(status, "reservedFor")
    errors = devices.unique(users, "status.reservedFor", _MOST_CONSUMERS, _consumer, key="uid")
    errors += _devices(status)
    allocation = status.get("allocation")
    if users and allocation is None:
        errors.append(field.forbidden("status.reservedFor", "may not be specified when `allocated` is not set"))
    elif users and obj["metadata"].get("deletionTimestamp"):
        known = [_user(one) for one in listed(before, "reservedFor")]
        if any(_user(one) not in known for one in users):
            text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
            errors.append(field.forbidden("status.reservedFor", text))
    if allocation is None:
        return errors
    if before.get("allocation") is None:
        return errors + _allocation(allocation, "status.allocation", devices.known_requests(obj["spec"]))
    if allocation != before["allocation"]:
        shown = goshape.shape(allocation, "AllocationResult")
        errors.append(field.invalid("status.allocation", shown, field.IMMUTABLE))
    return errors


def _consumer(found: Object, path: str) -> list[FieldError]:
    return [field.required(field.child(path, name)) for name in ("resource", "name", "uid") if not found.get(name)]


def _user(found: Object) -> tuple[Any, ...]:
    return tuple(found.get(name, "") for name in ("apiGroup", "resource", "name", "uid"))


def _allocated(status: Object) -> set[devices.Identity]:
    results = listed(mapped(mapped(status, "allocation"), "devices"), "results")
    return {devices.identity(one) for one in results}


def _devices(status: Object) -> list[FieldError]:
    """What drivers tell of them."""
    allocated, told = _allocated(status), listed(status, "devices")
    errors: list[FieldError] = []
    for position, one in enumerate(told):
        errors += _told(one, field.index("status.devices", position), allocated)
    identities = list(map(devices.identity, told))
    for position in sorted(repeated(identities)):
        errors.append(field.duplicate(field.index("status.devices", position), _shown(identities[position])))
    return errors


def _shown(device: devices.Identity) -> dict[str, str]:
    return dict(zip(("Driver", "Pool", "Device", "ShareID"), device, strict=True))


def _told(found: Object, path: str, allocated: set[devices.Identity]) -> list[FieldError]:
    errors = _identity(found, path) + _share(found, path)
    if devices.identity(found) not in allocated:
        errors.append(field.invalid(path, _shown(devices.identity(found)), "must be an allocated device in the claim"))
    where, said = field.child(path, "conditions"), listed(found, "conditions")
    if len(said) > _MOST_CONDITIONS:
        errors.append(field.too_many(where, len(said), _MOST_CONDITIONS))
    errors += conditions(found, where)
    if found.get("data") is not None:
        errors += devices.raw_object(found["data"], field.child(path, "data"))
    return errors + _network(mapped(found, "networkData"), field.child(path, "networkData"))


def _identity(found: Object, path: str) -> list[FieldError]:
    errors = csi_driver_name(found.get("driver", ""), field.child(path, "driver"))
    errors += devices.pool_name(found.get("pool", ""), field.child(path, "pool"))
    return errors + dns_label(found.get("device", ""), field.child(path, "device"))


def _network(found: Object, path: str) -> list[FieldError]:
    errors = [
        field.too_long(field.child(path, name), most)
        for name, most in (("interfaceName", _LONGEST_INTERFACE), ("hardwareAddress", _LONGEST_HARDWARE_ADDRESS))
        if len(found.get(name, "").encode()) > most
    ]
    where, addresses = field.child(path, "ips"), listed(found, "ips")
    errors += devices.each(addresses, where, _interface_address, _MOST_ADDRESSES)
    return errors + (devices.twice(addresses, where) if len(addresses) <= _MOST_ADDRESSES else [])


def _interface_address(value: str, path: str) -> list[FieldError]:
    """A whole address, and how long the prefix of its network is."""
    parsed = names.parse_cidr(value)
    if parsed is None:
        text = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"
        return [field.invalid(path, value, text)]
    address, network = parsed
    size = network.prefixlen
    mapped_address = getattr(address, "ipv4_mapped", None)
    if mapped_address is not None:
        address, size = mapped_address, size - 96 if size > 32 else size
    canonical = f"{address}/{size}"
    return [] if value == canonical else [field.invalid(path, value, f'must be in canonical form ("{canonical}")')]


def _share(found: Object, path: str) -> list[FieldError]:
    """A device that many claims may have is told apart by a UUID for each."""
    value, where = found.get("shareID"), field.child(path, "shareID")
    if value is None:
        return []
    if problem := _uuid_problem(value):
        return [field.invalid(where, value, f"error validating uid: {problem}")]
    return [] if len(value) == 36 and value == value.lower() else [field.invalid(where, value, _UUID)]


def _uuid_problem(value: str) -> str:
    """In which way it is none, as Go's parser tells it."""
    size = len(value.encode())
    if size == 32:
        return "" if _hexadecimal(value) else "invalid UUID format"
    if size == 45:
        if value[:9].lower() != "urn:uuid:":
            return f"invalid urn prefix: {field.quoted(value[:9])}"
        value = value[9:]
    elif size == 38:
        if value[0] != "{" or value[-1] != "}":
            return "invalid bracketed UUID format"
        value = value[1:-1]
    elif size != 36:
        return f"invalid UUID length: {size}"
    parts = value.split("-")
    good = [len(part) for part in parts] == [8, 4, 4, 4, 12] and all(map(_hexadecimal, parts))
    return "" if good else "invalid UUID format"


def _hexadecimal(text: str) -> bool:
    return all(char in "0123456789abcdefABCDEF" for char in text)


def _allocation(found: Object, path: str, known: set[str]) -> list[FieldError]:
    given, here = mapped(found, "devices"), field.child(path, "devices")
    errors = devices.each(
        listed(given, "results"), field.child(here, "results"), lambda one, at: _result(one, at, known)
    )
    errors += devices.each(
        listed(given, "config"),
        field.child(here, "config"),
        lambda one, at: _configuration(one, at, known),
        2 * devices.MOST,  # those of the class and those of the claim
    )
    if isinstance(found.get("nodeSelector"), dict):
        errors += node_selector(found["nodeSelector"], field.child(path, "nodeSelector"))
    return errors


def _result(found: Object, path: str, known: set[str]) -> list[FieldError]:
    errors = devices.reference(found.get("request", ""), field.child(path, "request"), known)
    return errors + _identity(found, path) + devices.binding_conditions(found, path) + _share(found, path)


def _configuration(found: Object, path: str, known: set[str]) -> list[FieldError]:
    errors = one_of(found.get("source", ""), field.child(path, "source"), _SOURCES)
    return errors + devices.references(found, path, known) + devices.configuration(found, path)
