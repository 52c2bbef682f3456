"""How Go writes floating-point numbers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any


def float_text(value: float) -> str:
    """`%v` of a float64: the shortest form, with an exponent from 1e+06 on and below 1e-4."""
    if not value:
        return "0"
    _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int), "JSON has no other numbers"
    power = len(digits) + exponent - 1
    if -4 <= power < 6:
        return repr(value).removesuffix(".0")
    sign, (first, *rest) = "-" if value < 0 else "", map(str, digits)
    mantissa = f"{first}.{''.join(rest)}" if rest else first
    return f"{sign}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02}"


def as_json(value: Any) -> Any:
    """`value` with whole floats as integers: JSON has them without a fraction."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    if isinstance(value, dict):
        return {name: as_json(child) for name, child in value.items()}
    return [as_json(child) for child in value] if isinstance(value, list) else value
