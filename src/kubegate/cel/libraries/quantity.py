"""Quantities of resources: `quantity('1.5Gi')`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from kubegate.api.quantity import Quantity as Amount
from kubegate.api.quantity import QuantityError, parse
from kubegate.cel import types, values
from kubegate.cel.functions import Library
from kubegate.cel.types import CelType
from kubegate.cel.values import EvaluationError

library = Library()
overload = library.overload


@dataclass(frozen=True, slots=True)
class Quantity:
    """`scaled` is (value, exponent) where kube-apiserver keeps the amount in an int64, None where it does not.

    Only of such amounts does it say that they are integers, and only where the exponent is not negative: 2000m is none.
    """

    cel_type: ClassVar[CelType] = types.parse("quantity")
    amount: Amount
    scaled: tuple[int, int] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.amount.compare(other.amount) == 0

    def __hash__(self) -> int:
        return hash(self.amount.nanos())


_NUMBER = re.compile(r"([+-]?)0*([0-9]*)(?:\.([0-9]*))?(.*)", re.ASCII)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DIGITS = 18


def _scaled(text: str) -> tuple[int, int] | None:
    """How resource.ParseQuantity keeps a well-formed quantity: in an int64 where it is sure that it fits."""
    found = _NUMBER.fullmatch(text)
    assert found is not None
    sign, whole, fraction, suffix = found[1], found[2], found[3] or "", found[4]
    mantissa, exponent = 1, 0
    if suffix in _BINARY:
        bits = _BINARY[suffix]
        if fraction:
            return None
        mantissa, precision = 1 << bits, 15 - len(whole) - bits * 3 // 10 - 1
    else:
        exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
        precision = _DIGITS - len(whole) - len(fraction)
    exponent -= len(fraction)
    value = int(whole + fraction or "0") * mantissa
    if precision < 0 or exponent < -9 or value > values.INT_MAX:
        return None
    return (-value if sign == "-" else value), exponent


def _in_int64(scaled: tuple[int, int] | None) -> int | None:
    """The amount as an int64, where it is one without dividing."""
    if scaled is None or not 0 <= scaled[1] <= 18:
        return None
    value = scaled[0] * 10 ** scaled[1]
    return value if values.INT_MIN <= value <= values.INT_MAX else None


def _sum(first: tuple[int, int] | None, second: tuple[int, int] | None, sign: int) -> tuple[int, int] | None:
    if first is None or second is None or second[0] == 0:
        return None if second is None else first
    if first[0] == 0:
        return sign * second[0], second[1]
    exponent = min(first[1], second[1])
    if max(first[1], second[1]) - exponent > 18:
        return None
    parts = first[0] * 10 ** (first[1] - exponent), sign * second[0] * 10 ** (second[1] - exponent)
    fits = all(values.INT_MIN <= part <= values.INT_MAX for part in (*parts, sum(parts)))
    return (sum(parts), exponent) if fits else None


@overload("quantity(string) -> quantity")
def _quantity(text: str) -> Quantity:
    try:
        amount = parse(text)
    except QuantityError as error:
        raise EvaluationError(str(error)) from None
    return Quantity(amount, _scaled(text))


@overload("isQuantity(string) -> bool")
def _is_quantity(text: str) -> bool:
    try:
        parse(text)
    except QuantityError:
        return False
    return True


@overload("quantity.asInteger() -> int")
def _as_integer(quantity: Quantity) -> int:
    whole = _in_int64(quantity.scaled)
    if whole is None:
        raise EvaluationError("cannot convert value to integer")
    return whole


@overload("quantity.isInteger() -> bool")
def _is_integer(quantity: Quantity) -> bool:
    return _in_int64(quantity.scaled) is not None


@overload("quantity.asApproximateFloat() -> double")
def _as_float(quantity: Quantity) -> float:
    return quantity.amount.nanos() / 10**9


@overload("sign(quantity) -> int")
def _sign(quantity: Quantity) -> int:
    return quantity.amount.sign()


@overload("quantity.isGreaterThan(quantity) -> bool")
def _greater(first: Quantity, second: Quantity) -> bool:
    return first.amount.compare(second.amount) > 0


@overload("quantity.isLessThan(quantity) -> bool")
def _less(first: Quantity, second: Quantity) -> bool:
    return first.amount.compare(second.amount) < 0


@overload("quantity.compareTo(quantity) -> int")
def _compare(first: Quantity, second: Quantity) -> int:
    return first.amount.compare(second.amount)


def _of(value: Any, like: Quantity) -> Quantity:
    if isinstance(value, Quantity):
        return value
    return Quantity(Amount(int(value), 0, like.amount.format), (int(value), 0))


@overload("quantity.add(quantity) -> quantity", "quantity.add(int) -> quantity")
def _add(first: Quantity, second: Any) -> Quantity:
    other = _of(second, first)
    return Quantity(first.amount.add(other.amount), _sum(first.scaled, other.scaled, 1))


@overload("quantity.sub(quantity) -> quantity", "quantity.sub(int) -> quantity")
def _subtract(first: Quantity, second: Any) -> Quantity:
    other = _of(second, first)
    return Quantity(first.amount.sub(other.amount), _sum(first.scaled, other.scaled, -1))
