"""Go's durations: `1h30m`, `250ms`, `-1s`."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART: Final = re.compile(r"([0-9.]*)([^0-9.]*)")
_MOST_DIGITS: Final = 19  # Go counts nanoseconds in 63 bits


def parse(text: str) -> float:
    """Go's duration (`1h30m`, `250ms`, `-1s`) in seconds. Raises ValueError."""
    return nanoseconds(text) / 1e9


def nanoseconds(text: str) -> int:
    """The same to the nanosecond. Raises ValueError with Go's text."""
    negative, rest = text.startswith("-"), text[1:] if text[:1] in ("+", "-") else text
    invalid = ValueError(f'invalid duration "{text}"')
    if rest == "0":
        return 0
    if not rest:
        raise invalid
    total = place = 0
    while place < len(rest):
        part = _PART.match(rest, place)
        assert part is not None, "it matches anything"
        place, unit = part.end(), part[2]
        whole, _, fraction = part[1].partition(".")
        if not (whole or fraction) or "." in fraction:
            raise invalid
        if not unit:
            raise ValueError(f'missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise ValueError(f'unknown unit "{unit}" in duration "{text}"')
        whole, fraction = whole.lstrip("0"), fraction[:_MOST_DIGITS]
        if len(whole) > _MOST_DIGITS:
            raise invalid
        total += int(whole or 0) * _UNITS[unit] + int(fraction or 0) * _UNITS[unit] // 10 ** len(fraction)
        if total > 2**63 - (not negative):
            raise invalid
    return -total if negative else total


def text(seconds: float) -> str:
    """As Go writes it: `1h30m0s`, `1.5s`, `250ms`, `0s`."""
    nanoseconds = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 and nanoseconds else ""
    if nanoseconds < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if nanoseconds >= size:
                return f"{sign}{_decimal(nanoseconds, size)}{unit}"
        return "0s"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    before = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "")
    return f"{sign}{before}{_decimal(rest, 1_000_000_000)}s"


def _decimal(count: int, size: int) -> str:
    """`count` in units of `size`, without zeros at the end."""
    whole, rest = divmod(count, size)
    digits = len(str(size)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".") if rest else str(whole)
