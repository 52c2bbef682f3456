"""Go's durations: `1h30m`, `250ms`, `-1s`."""

from __future__ import annotations

_DIGITS = "0123456789."
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 2**63 / 1e9
"""Go counts nanoseconds in 63 bits."""


def parse(text: str) -> float:
    """Go's duration (`1h30m`, `250ms`, `-1s`) in seconds. Raises ValueError."""
    rest = text
    sign = 1.0
    if rest[:1] in ("-", "+"):
        sign = -1.0 if rest[0] == "-" else 1.0
        rest = rest[1:]
    if rest == "0":
        return 0.0
    total = 0.0
    if not rest:
        raise ValueError(f'invalid duration "{text}"')
    while rest:
        digits = 0
        while digits < len(rest) and rest[digits] in _DIGITS:
            digits += 1
        letters = digits
        while letters < len(rest) and rest[letters] not in _DIGITS:
            letters += 1
        unit = rest[digits:letters]
        if not digits or rest[:digits] == "." or rest[:digits].count(".") > 1:
            raise ValueError(f'invalid duration "{text}"')
        if not unit:
            raise ValueError(f'missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise ValueError(f'unknown unit "{unit}" in duration "{text}"')
        total += float(rest[:digits]) * _UNITS[unit]
        rest = rest[letters:]
    if total > _LONGEST:
        raise ValueError(f'invalid duration "{text}"')
    return sign * total


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
