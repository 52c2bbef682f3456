"""Checks that the rules of many resources share, each giving field errors in kube-apiserver's words."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from kubegate.api import field, names, quantity
from kubegate.api.field import FieldError

NEGATIVE = "must be greater than or equal to 0"
NOT_POSITIVE = "must be greater than zero"
NOT_INTEGER = "must be an integer"

PROTOCOLS = ("SCTP", "TCP", "UDP")
"""What a port may be spoken to with."""

Names = Callable[[str], list[str]]
"""A check of `api.names`: a value to the texts of what is wrong with it."""


def repeated(values: Sequence[Any]) -> set[int]:
    """The positions of values that stand before them already."""
    seen: set[Any] = set()
    found: set[int] = set()
    for position, value in enumerate(values):
        token = orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if isinstance(value, dict) else value
        if token in seen:
            found.add(position)
        seen.add(token)
    return found


def listed(obj: Mapping[str, Any] | None, name: str) -> list[Any]:
    """A list field that may be absent."""
    found = obj.get(name) if obj else None
    return found if isinstance(found, list) else []


def mapped(obj: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """A map or struct field that may be absent."""
    found = obj.get(name) if obj else None
    return found if isinstance(found, dict) else {}


def wrong(path: str, value: Any, texts: Iterable[str]) -> list[FieldError]:
    """One Invalid for each text."""
    return [field.invalid(path, value, text) for text in texts]


def named(check: Names, value: Any, path: str) -> list[FieldError]:
    return wrong(path, value, check(value))


def dns_label(value: str, path: str) -> list[FieldError]:
    return wrong(path, value, names.is_dns1123_label(value))


def dns_subdomain(value: str, path: str) -> list[FieldError]:
    return wrong(path, value, names.is_dns1123_subdomain(value))


def qualified_name(value: str, path: str) -> list[FieldError]:
    return wrong(path, value, names.is_qualified_name(value))


def nonnegative(value: int, path: str) -> list[FieldError]:
    return [] if value >= 0 else [field.invalid(path, value, NEGATIVE)]


def positive(value: int, path: str) -> list[FieldError]:
    return [] if value > 0 else [field.invalid(path, value, NOT_POSITIVE)]


def port_number(value: int, path: str) -> list[FieldError]:
    return wrong(path, value, names.is_valid_port_num(value))


def port_number_or_name(value: int | str, path: str) -> list[FieldError]:
    texts = names.is_valid_port_num(value) if isinstance(value, int) else names.is_valid_port_name(value)
    return wrong(path, value, texts)


def one_of(value: str, path: str, supported: Iterable[str], *, required: bool = True) -> list[FieldError]:
    """Required where empty (or nothing, where that is allowed), NotSupported where none of `supported`."""
    choices = tuple(supported)
    if not value:
        return [field.required(path)] if required else []
    return [] if value in choices else [field.not_supported(path, value, choices)]


def ip(value: str, path: str, before: Iterable[str] = ()) -> list[FieldError]:
    """Addresses that were there `before` need not be unmistakable."""
    return wrong(path, value, names.is_valid_ip(value, borne=value in before))


def cidr(value: str, path: str, before: Iterable[str] = ()) -> list[FieldError]:
    return wrong(path, value, names.is_valid_cidr(value, borne=value in before))


def endpoint_ip(value: str, path: str) -> list[FieldError]:
    """Addresses that make no sense as an endpoint."""
    address = names.parse_ip(value)
    if address is None:
        return [field.invalid(path, value, "must be a valid IP address")]
    errors = []
    if address.is_unspecified:
        errors.append(field.invalid(path, value, f"may not be unspecified ({value})"))
    if address.is_loopback:
        errors.append(field.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if _link_local_unicast(address):
        text = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        errors.append(field.invalid(path, value, text))
    if _link_local_multicast(address):
        text = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        errors.append(field.invalid(path, value, text))
    return errors


def _link_local_unicast(address: names.IPAddress) -> bool:
    return address.is_link_local


def _link_local_multicast(address: names.IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address in ipaddress.IPv4Network("224.0.0.0/24")
    return address in ipaddress.IPv6Network("ff02::/16")


def is_dual_stack(addresses: Iterable[str]) -> bool:
    """Whether there is at least one address of each family."""
    versions = {address.version for address in map(names.parse_ip, addresses) if address is not None}
    return len(versions) == 2


def amount(text: Any) -> quantity.Quantity:
    """A quantity that decoding has already found well formed; zero where it is absent."""
    return quantity.parse(str(text)) if text not in (None, "") else quantity.parse("0")


def nonnegative_quantity(value: Any, path: str) -> list[FieldError]:
    found = amount(value)
    return [] if found.sign() >= 0 else [field.invalid(path, str(found), NEGATIVE)]


def positive_quantity(value: Any, path: str) -> list[FieldError]:
    found = amount(value)
    return [] if found.sign() > 0 else [field.invalid(path, str(found), NOT_POSITIVE)]


def basic_quantity(value: Any, path: str) -> list[FieldError]:
    """At least zero, shown as a whole number."""
    found = amount(value).value()
    return [] if found >= 0 else [field.invalid(path, found, "must be a valid resource quantity")]


def absolute(path: str) -> bool:
    return path.startswith("/")


def no_backsteps(value: str, path: str) -> list[FieldError]:
    if ".." in value.split("/"):
        return [field.invalid(path, value, "must not contain '..'")]
    return []


def descending_path(value: str, path: str) -> list[FieldError]:
    """A relative path that stays below where it starts."""
    errors = [field.invalid(path, value, "must be a relative path")] if absolute(value) else []
    return errors + no_backsteps(value, path)


def local_path(value: str, path: str) -> list[FieldError]:
    """A descending path that does not begin with two dots either."""
    errors = descending_path(value, path)
    if value.startswith("..") and not value.startswith("../"):
        errors.append(field.invalid(path, value, "must not start with '..'"))
    return errors


def int_or_percent(value: int | str, path: str) -> list[FieldError]:
    """A count, or a percentage as text."""
    if isinstance(value, str):
        return wrong(path, value, names.is_valid_percent(value))
    return nonnegative(value, path)


def int_or_percent_value(value: int | str) -> int:
    """The number before the percent sign, or the number; 0 for any other text."""
    text = str(value).removesuffix("%")
    return int(text) if len(text) < 19 and text.isascii() and text.lstrip("-").isdigit() else 0


def at_most_100_percent(value: int | str, path: str) -> list[FieldError]:
    if isinstance(value, str) and not names.is_valid_percent(value) and int_or_percent_value(value) > 100:
        return [field.invalid(path, value, "must not be greater than 100%")]
    return []


FILE_MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def file_mode(value: int | None, path: str) -> list[FieldError]:
    if value is not None and not 0 <= value <= 0o777:
        return [field.invalid(path, value, FILE_MODE)]
    return []
