"""String formats that schemas of custom resources may name. Formats that are not listed fit everything."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date
from typing import Final
from urllib.parse import urlsplit

from kubegate.api.clock import parse_rfc3339

_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_PATTERNS: Final = {
    "bsonobjectid": r"[0-9a-fA-F]{24}",
    "uuid": r"(?i)[0-9A-F]{8}-?[0-9A-F]{4}-?[0-9A-F]{4}-?[0-9A-F]{4}-?[0-9A-F]{12}",
    "uuid3": r"(?i)[0-9A-F]{8}-?[0-9A-F]{4}-?3[0-9A-F]{3}-?[0-9A-F]{4}-?[0-9A-F]{12}",
    "uuid4": r"(?i)[0-9A-F]{8}-?[0-9A-F]{4}-?4[0-9A-F]{3}-?[89AB][0-9A-F]{3}-?[0-9A-F]{12}",
    "uuid5": r"(?i)[0-9A-F]{8}-?[0-9A-F]{4}-?5[0-9A-F]{3}-?[89AB][0-9A-F]{3}-?[0-9A-F]{12}",
    "hexcolor": r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})",
    "rgbcolor": r"rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)",
    "hostname": rf"{_LABEL}(\.{_LABEL})*\.?",
    "email": r"[^@\s<>,;:]+@[^@\s<>,;:]+",
    "mac": r"(?i)([0-9a-f]{2}([:-]|$)){5}[0-9a-f]{2}|([0-9a-f]{4}\.){2}[0-9a-f]{4}",
    "ssn": r"\d{3}[- ]?\d{2}[- ]?\d{4}",
    "creditcard": r"[0-9][0-9 -]{11,22}[0-9]",
    "isbn10": r"(?:[0-9]-?){9}[0-9X]",
    "isbn13": r"(?:[0-9]-?){12}[0-9]",
    "k8sshortname": r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
    "k8slongname": r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
    "duration": r"(\d+\s*(ns|us|µs|μs|ms|s|sec|second|m|min|minute|h|hr|hour|d|day|w|week)s?\s*)+"
    r"|[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*|0",
}
_COMPILED: Final = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def fits_(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return fits_


def _date_time(text: str) -> None:
    if "T" not in text.upper():
        raise ValueError("no time")
    parse_rfc3339(text.upper())


def _uri(text: str) -> None:
    if not text or " " in text or not (urlsplit(text).scheme or text.startswith("/")):
        raise ValueError("no URI")


def _cidr(text: str) -> None:
    if "/" not in text:
        raise ValueError("no prefix length")
    ipaddress.ip_network(text, strict=False)


_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "date": lambda text: len(text) == 10 and _parses(date.fromisoformat)(text),
    "datetime": _parses(_date_time),
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "cidr": _parses(_cidr),
    "uri": _parses(_uri),
    "password": lambda text: True,
    "isbn": lambda text: any(_COMPILED[name].fullmatch(text) for name in ("isbn10", "isbn13")),
}
KNOWN: Final = frozenset(_CHECKS) | frozenset(_COMPILED)


def normalized(name: str) -> str:
    """Formats are found whatever dashes their names have: date-time is datetime."""
    return name.replace("-", "")


def fits(name: str, text: str) -> bool:
    """Whether `text` has the format; True for formats that are not known."""
    name = normalized(name)
    if name in _CHECKS:
        return _CHECKS[name](text)
    pattern = _COMPILED.get(name)
    return pattern is None or pattern.fullmatch(text) is not None
