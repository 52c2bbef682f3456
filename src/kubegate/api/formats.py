"""String formats that schemas of custom resources may name. Formats that are not listed fit everything.

What fits is what k8s.io/kube-openapi/pkg/validation/strfmt takes, oddities included.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final

from kubegate.api import goregexp
from kubegate.api.names import parse_cidr, parse_ip

_UUID = "[0-9A-F]{8}-?[0-9A-F]{4}-?%s-?[0-9A-F]{4}-?[0-9A-F]{12}"
_UUID_OF_VERSION = "[0-9A-F]{8}-?[0-9A-F]{4}-?%s-?[89AB][0-9A-F]{3}-?[0-9A-F]{12}"
_COLOR = r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*"
_QUARTET = "[A-Za-z0-9+/]"
_BYTE = "[0-9a-fA-F]{2}"
_PATTERNS: Final = {
    "bsonobjectid": "[0-9a-fA-F]{24}",
    "uuid": f"(?i){_UUID % '[0-9A-F]{4}'}",
    "uuid3": f"(?i){_UUID % '3[0-9A-F]{3}'}",
    "uuid4": f"(?i){_UUID_OF_VERSION % '4[0-9A-F]{3}'}",
    "uuid5": f"(?i){_UUID_OF_VERSION % '5[0-9A-F]{3}'}",
    "hexcolor": "#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})",
    "rgbcolor": rf"rgb\({_COLOR},{_COLOR},{_COLOR}\)",
    # Of 6, 8 or 20 bytes.
    "mac": "|".join(
        f"{_BYTE}(:{_BYTE}){{{n - 1}}}|{_BYTE}(-{_BYTE}){{{n - 1}}}|({_BYTE}){{{n}}}"
        rf"|({_BYTE}){{2}}(\.({_BYTE}){{2}}){{{n // 2 - 1}}}"
        for n in (6, 8, 20)
    ),
    "ssn": r"(?=.{11}\Z)\d{3}[- ]?\d{2}[- ]?\d{4}",
    "byte": f"({_QUARTET}{{4}})*({_QUARTET}{{2}}==|{_QUARTET}{{3}}=|{_QUARTET}{{4}})",
    "k8sshortname": "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
    "k8slongname": r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
}
_COMPILED: Final = {name: re.compile(pattern, re.ASCII) for name, pattern in _PATTERNS.items()}


# ------------------------------------------------------------------ numbers with a check digit
_CARD = re.compile(
    "4[0-9]{12}([0-9]{3})?|5[1-5][0-9]{14}|6(011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(0[0-5]|[68][0-9])[0-9]{11}"
    r"|(2131|1800|35[0-9]{3})[0-9]{11}"
)


def _is_credit_card(text: str) -> bool:
    digits = re.sub("[^0-9]", "", text)
    if not _CARD.fullmatch(digits):
        return False
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(map(int, digits[::-2])) + sum(doubled)) % 10 == 0


def _isbn(text: str) -> str:
    return re.sub(r"[\t\n\f\r -]", "", text)


def _is_isbn10(text: str) -> bool:
    number = _isbn(text)
    if not re.fullmatch("[0-9]{9}[0-9X]", number):
        return False
    return sum(place * (10 if digit == "X" else int(digit)) for place, digit in enumerate(number, 1)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    number = _isbn(text)
    if not re.fullmatch("[0-9]{13}", number):
        return False
    return sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(number)) % 10 == 0


# ------------------------------------------------------------------ times
_DATE = re.compile("([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile("([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|[+-][0-9]{2}:[0-9]{2})")
_DURATION = re.compile(r"[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)")
_AMOUNT = re.compile(r"(?<![0-9])([0-9]++)[\t\n\f\r ]*+([A-Za-zµ]+)")
_UNITS: Final = frozenset({"ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk"})
_LONG_UNITS: Final = ("nano", "micro", "milli", "sec", "min", "hour", "day", "week")
_MAX_INT: Final = 2**63 - 1


def _is_date(text: str) -> bool:
    found = _DATE.fullmatch(text)
    if found is None:
        return False
    year, month, day = map(int, found.groups())
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 1 <= month <= 12 and 1 <= day <= (0, 31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month]


def _is_date_time(text: str) -> bool:
    date, *rest = text.lower().split("t")
    found = _TIME.fullmatch(rest[0]) if rest and _is_date(date) else None
    return found is not None and found.group(1) <= "23" and found.group(2) <= "59" and found.group(3) <= "59"


def _is_duration(text: str) -> bool:
    """Go's (`1h30m`), or an amount with a unit anywhere (`about 3 days`)."""
    if _DURATION.fullmatch(text):
        return True
    known = False
    for amount, unit in _AMOUNT.findall(text):
        if len(amount.lstrip("0")) > 19 or int(amount) > _MAX_INT:
            return False
        known = known or unit.lower() in _UNITS or unit.lower().startswith(_LONG_UNITS)
    return known


# ------------------------------------------------------------------ names of places
_HOSTNAME: Final = (
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)"
    r"|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$"
)


def _is_hostname(text: str) -> bool:
    if len(text.encode()) > 255 or any(len(part.encode()) > 63 for part in text.split(".")):
        return False
    return goregexp.compiled(_HOSTNAME).search(text) is not None


def _is_ipv6(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.IPv6Address(text).packed)
    except ValueError:
        return False


_SCHEME = re.compile("([A-Za-z][A-Za-z0-9+.-]*):")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_USER = re.compile(r"[A-Za-z0-9._:~!$&'()*+,;=%@-]*")
# In a host only what is not ASCII is escaped.
_HOST = re.compile(r"([A-Za-z0-9._~!$&'()*+,;=:\[\]<>\"-]|[^\x00-\x7f]|%25|%[89A-Fa-f][0-9A-Fa-f])*")


def _is_uri(text: str) -> bool:
    """What may stand in the first line of an HTTP request: an absolute URI or an absolute path."""
    if not text or text.startswith(":") or any(char < " " or char == "\x7f" for char in text):
        return False
    if text == "*":
        return True
    scheme = _SCHEME.match(text)
    rest = (text[scheme.end() :] if scheme else text).partition("?")[0]
    if not rest.startswith("/"):
        return scheme is not None
    if scheme and rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        if not _is_authority(authority, strict=scheme.group(1).lower() in ("http", "https")):
            return False
        rest = slash + path
    return not _BAD_ESCAPE.search(rest)


def _is_authority(text: str, *, strict: bool) -> bool:
    """`strict`: a colon begins the port, and stands nowhere else."""
    user, _, host = text.rpartition("@")
    if not _USER.fullmatch(user) or _BAD_ESCAPE.search(user):
        return False
    if "[" in host:
        address, bracket, port = host.rpartition("]")
        if not host.startswith("[") or not bracket:
            return False
        # A zone may be anything that a host may be.
        return _is_ipv6(address[1:].partition("%25")[0]) and bool(_HOST.fullmatch(address)) and _is_port(port)
    colon = (host.find if strict else host.rfind)(":")
    return (colon < 0 or _is_port(host[colon:])) and _HOST.fullmatch(host) is not None


def _is_port(text: str) -> bool:
    return re.fullmatch("(:[0-9]*)?", text) is not None


# ------------------------------------------------------------------ mail
_ATOM = r"[^\x00-\x20\x7f()<>\[\]:;@\\,\"]+"
_QUOTED = r'"(?:[^\x00-\x08\x0a-\x1f\x7f"\\]|\\[^\x00-\x08\x0a-\x1f\x7f])*"'
_WORD = re.compile(f"{_ATOM}|{_QUOTED}")
_ADDRESS = re.compile(rf"[ \t]*(?:({_ATOM})|({_QUOTED}))@[ \t]*(?:({_ATOM})|\[([^\x00-\x20\x7f\[\]\\]*)\])")
_SPACES = re.compile("[ \t]*")


def _is_email(text: str) -> bool:
    """An address (`a@b`), maybe with a name (`A <a@b>`) and comments."""
    start = len(text) - len(text.lstrip(" \t"))
    end: int | None = _after_address(text, start)
    if end is None:
        place: int | None = start
        while place is not None and (word := _WORD.match(text, place)):
            place = _after_comments(text, word.end())
        if place is None or not text.startswith("<", place):
            return False
        end = _after_address(text, place + 1)
        if end is None or not text.startswith(">", end):
            return False
        end += 1
    return _after_comments(text, end) == len(text)


def _after_address(text: str, start: int) -> int | None:
    found = _ADDRESS.match(text, start)
    if found is None:
        return None
    name, quoted, domain, literal = found.groups()
    if quoted == '""' or any(_has_stray_dots(atom) for atom in (name, domain) if atom):
        return None
    if literal is not None and parse_ip(literal) is None:
        return None
    return found.end()


def _has_stray_dots(atom: str) -> bool:
    return atom.startswith(".") or atom.endswith(".") or ".." in atom


def _after_comments(text: str, start: int) -> int | None:
    """Where what follows begins; None where a comment is not closed."""
    place = _SPACES.match(text, start).end()  # type: ignore[union-attr]
    while text.startswith("(", place):
        depth = 0
        while True:
            if place >= len(text):
                return None
            char = text[place]
            if char == "\\" and place + 1 < len(text):
                place += 1
            elif char in "()":
                depth += 1 if char == "(" else -1
            place += 1
            if depth == 0:
                break
        place = _SPACES.match(text, place).end()  # type: ignore[union-attr]
    return place


# ------------------------------------------------------------------ all of them
_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "date": _is_date,
    "datetime": _is_date_time,
    "duration": _is_duration,
    "hostname": _is_hostname,
    "ipv4": lambda text: "." in text and parse_ip(text) is not None,
    "ipv6": _is_ipv6,
    "cidr": lambda text: parse_cidr(text) is not None,
    "uri": _is_uri,
    "email": _is_email,
    "password": lambda text: True,
    "creditcard": _is_credit_card,
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
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
