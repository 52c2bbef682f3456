"""Quantities of resources: `quantity('1.5Gi')`."""

from __future__ import annotations

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
    cel_type: ClassVar[CelType] = types.parse("quantity")
    amount: Amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.amount.compare(other.amount) == 0

    def __hash__(self) -> int:
        return hash(self.amount.nanos())


@overload("quantity(string) -> quantity")
def _quantity(text: str) -> Quantity:
    try:
        return Quantity(parse(text))
    except QuantityError as error:
        raise EvaluationError(str(error)) from None


@overload("isQuantity(string) -> bool")
def _is_quantity(text: str) -> bool:
    try:
        parse(text)
    except QuantityError:
        return False
    return True


def _whole(quantity: Quantity) -> int | None:
    nanos = quantity.amount.nanos()
    value, rest = divmod(nanos, 10**9)
    return value if not rest and values.INT_MIN <= value <= values.INT_MAX else None


@overload("quantity.asInteger() -> int")
def _as_integer(quantity: Quantity) -> int:
    whole = _whole(quantity)
    if whole is None:
        raise EvaluationError("cannot convert value to integer")
    return whole


@overload("quantity.isInteger() -> bool")
def _is_integer(quantity: Quantity) -> bool:
    return _whole(quantity) is not None


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


def _of(value: Any, like: Quantity) -> Amount:
    return value.amount if isinstance(value, Quantity) else Amount(int(value), 0, like.amount.format)


@overload("quantity.add(quantity) -> quantity", "quantity.add(int) -> quantity")
def _add(first: Quantity, second: Any) -> Quantity:
    return Quantity(first.amount.add(_of(second, first)))


@overload("quantity.sub(quantity) -> quantity", "quantity.sub(int) -> quantity")
def _subtract(first: Quantity, second: Any) -> Quantity:
    return Quantity(first.amount.sub(_of(second, first)))
