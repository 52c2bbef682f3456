"""IP addresses and networks: `ip('10.0.0.1')`, `cidr('10.0.0.0/8')`. What parses, and why not, follows Go's netip."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import ClassVar

from kubegate.api.field import quoted
from kubegate.cel import types
from kubegate.cel.functions import Library
from kubegate.cel.types import CelType
from kubegate.cel.values import EvaluationError, no_such_overload

library = Library()
overload = library.overload

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class IP:
    cel_type: ClassVar[CelType] = types.parse("ip")
    address: Address

    @property
    def cost_size(self) -> int:
        return -(-self.address.max_prefixlen // 8)


@dataclass(frozen=True, slots=True)
class CIDR:
    """`address` keeps the bits after the prefix."""

    cel_type: ClassVar[CelType] = types.parse("cidr")
    address: Address
    bits: int

    @property
    def cost_size(self) -> int:
        return -(-self.bits // 8)

    def masked(self) -> Address:
        shift = self.address.max_prefixlen - self.bits
        return type(self.address)(int(self.address) >> shift << shift)


class _Problem(Exception):
    pass


def _parse_address(text: str) -> tuple[Address, str]:
    """netip.ParseAddr: the address and its zone."""

    def problem(why: str, at: str = "") -> _Problem:
        return _Problem(f"ParseAddr({quoted(text)}): {why}" + (f" (at {quoted(at)})" if at else ""))

    for letter in text:
        if letter == ".":
            return ipaddress.IPv4Address(_v4(text, text, problem)), ""
        if letter == ":":
            return _v6(text, problem)
        if letter == "%":
            raise problem("missing IPv6 address")
    raise problem("unable to parse IP")


def _v4(text: str, whole: str, problem: type | object) -> int:
    make = problem
    assert callable(make)
    value, digits, octet, octets = 0, 0, 0, 0
    for position, letter in enumerate(text):
        if "0" <= letter <= "9":
            if digits == 1 and octet == 0:
                raise make("IPv4 field has octet with leading zero")
            octet = octet * 10 + int(letter)
            digits += 1
            if octet > 255:
                raise make("IPv4 field has value >255")
        elif letter == ".":
            if position == 0 or position == len(text) - 1 or text[position - 1] == ".":
                raise make("IPv4 field must have at least one digit", text[position:])
            if octets == 3:
                raise make("IPv4 address too long")
            value, octet, digits, octets = value << 8 | octet, 0, 0, octets + 1
        else:
            raise make("unexpected character", text[position:])
    if octets < 3:
        raise make("IPv4 address too short")
    return value << 8 | octet


def _v6(text: str, make: object) -> tuple[ipaddress.IPv6Address, str]:
    assert callable(make)
    rest, percent, zone = text.partition("%")
    if percent and not zone:
        raise make("zone must be a non-empty string")
    groups: list[int] = []
    ellipsis = -1
    if rest.startswith("::"):
        ellipsis, rest = 0, rest[2:]
    while len(groups) < 8 and rest:
        digits = 0
        while digits < len(rest) and rest[digits] in "0123456789abcdefABCDEF":
            digits += 1
            if digits > 4:
                raise make("each group must have 4 or fewer digits", rest)
        if digits == 0:
            raise make("each colon-separated field must have at least one digit", rest)
        if digits < len(rest) and rest[digits] == ".":
            if ellipsis < 0 and len(groups) != 6:
                raise make("embedded IPv4 address must replace the final 2 fields of the address", rest)
            if len(groups) + 2 > 8:
                raise make("too many hex fields to fit an embedded IPv4 at the end of the address", rest)
            embedded = _v4(rest, text, make)
            groups += [embedded >> 16, embedded & 0xFFFF]
            rest = ""
            break
        groups.append(int(rest[:digits], 16))
        rest = rest[digits:]
        if not rest:
            break
        if rest[0] != ":":
            raise make("unexpected character, want colon", rest)
        if len(rest) == 1:
            raise make("colon must be followed by more characters", rest)
        rest = rest[1:]
        if rest[0] == ":":
            if ellipsis >= 0:
                raise make("multiple :: in address", rest)
            ellipsis, rest = len(groups), rest[1:]
            if not rest:
                break
    if rest:
        raise make("trailing garbage after address", rest)
    if len(groups) < 8:
        if ellipsis < 0:
            raise make("address string too short")
        groups[ellipsis:ellipsis] = [0] * (8 - len(groups))
    elif ellipsis >= 0:
        raise make("the :: must expand to at least one field of zeros")
    value = 0
    for group in groups:
        value = value << 16 | group
    return ipaddress.IPv6Address(value), zone


def _mapped(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and int(address) >> 32 == 0xFFFF


def parse_ip(text: str) -> Address:
    """Raises EvaluationError."""
    try:
        address, zone = _parse_address(text)
    except _Problem as problem:
        raise EvaluationError(
            f"IP Address {quoted(text)} parse error during conversion from string: {problem}"
        ) from None
    if zone:
        raise EvaluationError(f"IP address {quoted(text)} with zone value is not allowed")
    if _mapped(address):
        raise EvaluationError(f"IPv4-mapped IPv6 address {quoted(text)} is not allowed")
    return address


def parse_cidr(text: str) -> CIDR:
    """Raises EvaluationError."""
    doubled = "network address parse error during conversion from string: "
    try:
        address, bits = _parse_prefix(text)
    except _Problem as problem:
        raise EvaluationError(f"{doubled}{doubled}netip.ParsePrefix({quoted(text)}): {problem}") from None
    if _mapped(address):
        raise EvaluationError(f"{doubled}IPv4-mapped IPv6 address {quoted(text)} is not allowed")
    return CIDR(address, bits)


def _parse_prefix(text: str) -> tuple[Address, int]:
    before, slash, after = text.rpartition("/")
    if not slash:
        raise _Problem("no '/'")
    address, zone = _parse_address(before)
    if zone:
        raise _Problem("IPv6 zones cannot be present in a prefix")
    if len(after) > 1 and not "1" <= after[0] <= "9":
        raise _Problem(f"bad bits after slash: {quoted(after)}")
    if not (after.isascii() and after.isdigit()):
        raise _Problem(f"bad bits after slash: {quoted(after)}")
    if int(after[:9]) > address.max_prefixlen:
        raise _Problem("prefix length out of range")
    return address, int(after)


def _valid(parse: object, text: str) -> bool:
    assert callable(parse)
    try:
        parse(text)
    except EvaluationError:
        return False
    return True


@overload("ip(string) -> ip", id="string_to_ip")
def _ip(text: str) -> IP:
    return IP(parse_ip(text))


@overload("isIP(string) -> bool")
def _is_ip(text: str) -> bool:
    return _valid(parse_ip, text)


@overload("isCanonical(string) -> bool", namespace="ip")
def _is_canonical(text: str) -> bool:
    return str(parse_ip(text)) == text


@overload("string(ip) -> string", id="ip_to_string")
def _ip_text(value: IP) -> str:
    return str(value.address)


@overload("ip.family() -> int")
def _family(value: IP) -> int:
    return value.address.version


@overload("ip.isUnspecified() -> bool")
def _is_unspecified(value: IP) -> bool:
    return int(value.address) == 0


@overload("ip.isLoopback() -> bool")
def _is_loopback(value: IP) -> bool:
    return value.address.is_loopback


@overload("ip.isLinkLocalMulticast() -> bool")
def _is_link_local_multicast(value: IP) -> bool:
    number = int(value.address)
    if value.address.version == 4:
        return number >> 8 == 0xE00000
    return number >> 120 == 0xFF and number >> 112 & 0x0F == 0x02


@overload("ip.isLinkLocalUnicast() -> bool")
def _is_link_local_unicast(value: IP) -> bool:
    return value.address.is_link_local


@overload("ip.isGlobalUnicast() -> bool")
def _is_global_unicast(value: IP) -> bool:
    address = value.address
    return not (
        int(address) == 0
        or (address.version == 4 and int(address) == 0xFFFFFFFF)
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
    )


@overload("cidr(string) -> cidr", id="string_to_cidr")
def _cidr(text: str) -> CIDR:
    return parse_cidr(text)


@overload("isCIDR(string) -> bool")
def _is_cidr(text: str) -> bool:
    return _valid(parse_cidr, text)


@overload("string(cidr) -> string", id="cidr_to_string")
def _cidr_text(value: CIDR) -> str:
    return f"{value.address}/{value.bits}"


@overload("cidr.ip() -> ip", id="cidr_ip")
def _cidr_ip(value: CIDR) -> IP:
    return IP(value.address)


@overload("cidr.prefixLength() -> int")
def _prefix_length(value: CIDR) -> int:
    return value.bits


@overload("cidr.masked() -> cidr")
def _masked(value: CIDR) -> CIDR:
    return CIDR(value.masked(), value.bits)


@overload("cidr.containsIP(string) -> bool")
def _contains_ip_text(value: CIDR, text: str) -> bool:
    try:
        return _contains_ip(value, IP(parse_ip(text)))
    except EvaluationError:
        raise no_such_overload() from None  # as kube-apiserver tells it, whatever is wrong with the text


@overload("cidr.containsIP(ip) -> bool")
def _contains_ip(value: CIDR, other: IP) -> bool:
    return value.address.version == other.address.version and CIDR(other.address, value.bits).masked() == value.masked()


@overload("cidr.containsCIDR(string) -> bool")
def _contains_cidr_text(value: CIDR, text: str) -> bool:
    return _contains_cidr(value, parse_cidr(text))


@overload("cidr.containsCIDR(cidr) -> bool")
def _contains_cidr(value: CIDR, other: CIDR) -> bool:
    return value.bits <= other.bits and _contains_ip(value, IP(other.address))
