"""Quantities: `100m`, `1.5Gi`, `1e3`, with exact arithmetic. Follows k8s.io/apimachinery/pkg/api/resource."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

DECIMAL_SI: Final = "DecimalSI"
DECIMAL_EXPONENT: Final = "DecimalExponent"
BINARY_SI: Final = "BinarySI"

FORMAT_ERROR = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
NUMERIC_ERROR = "unable to parse numeric part of quantity"
SUFFIX_ERROR = "unable to parse quantity's suffix"

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_SUFFIX = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_GRAMMAR = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)")
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")

_NANO = -9
_MAX_INT64 = 2**63 - 1
# Beyond these no sum, comparison or text of a quantity means anything, and exact arithmetic would be a way to
# exhaust memory with a few bytes of input.
_MAX_DIGITS = 1000
_MAX_EXPONENT = 1000


class QuantityError(ValueError):
    """The text is no quantity; the message is kube-apiserver's."""


class Quantity(Struct, frozen=True):
    """`unscaled` times ten to the power of `exponent` (at least -9: nothing finer than a billionth is kept).

    `format` is the family of suffixes that it was written with, and is written with again. `text` is what an object
    shows: the text as parsed where that is already canonical, otherwise the canonical form.
    """

    unscaled: int
    exponent: int
    format: str = DECIMAL_SI
    _text: str = ""

    def __str__(self) -> str:
        return self._text or self.canonical()

    @property
    def is_zero(self) -> bool:
        return self.unscaled == 0

    def sign(self) -> int:
        return (self.unscaled > 0) - (self.unscaled < 0)

    def nanos(self) -> int:
        """The amount as a whole number of billionths."""
        return self.unscaled * int(10 ** (self.exponent - _NANO))

    def scaled_value(self, scale: int) -> int:
        """The amount in units of ten to the power of `scale`, rounded away from zero."""
        shift = self.exponent - scale
        if shift >= 0:
            return self.unscaled * int(10**shift)
        whole = -(-abs(self.unscaled) // int(10**-shift))
        return whole if self.unscaled >= 0 else -whole

    def value(self) -> int:
        return self.scaled_value(0)

    def milli_value(self) -> int:
        return self.scaled_value(-3)

    def compare(self, other: Quantity) -> int:
        """-1, 0 or 1."""
        mine, theirs = self.nanos(), other.nanos()
        return (mine > theirs) - (mine < theirs)

    def add(self, other: Quantity) -> Quantity:
        """The sum, in this quantity's format (in the other's where this one is zero)."""
        return self._sum(other, other.nanos())

    def sub(self, other: Quantity) -> Quantity:
        return self._sum(other, -other.nanos())

    def _sum(self, other: Quantity, nanos: int) -> Quantity:
        chosen = other.format if self.is_zero else self.format
        return Quantity(*_reduced(self.nanos() + nanos, _NANO), chosen)

    def round_up(self, scale: int) -> Quantity:
        """Nothing finer than ten to the power of `scale`; rounded away from zero."""
        if self.exponent >= scale:
            return self
        return Quantity(*_reduced(self.scaled_value(scale), scale), self.format)

    def canonical(self) -> str:
        """No fraction, and the largest suffix that loses nothing: `1536Mi`, `1500m`, `12e6`."""
        if self.unscaled == 0:
            return "0"
        family = self.format
        if family == BINARY_SI:
            # Small and fractional amounts read better, and stay exact, with decimal suffixes.
            whole, exact = self.scaled_value(0), self.exponent >= 0
            if exact and not -1024 < whole < 1024:
                step = 0
                while whole % 1024 == 0 and step < 6:
                    whole //= 1024
                    step += 1
                return f"{whole}{_BINARY_SUFFIX[step]}"
            family = DECIMAL_SI
        number, exponent = _reduced(self.unscaled, self.exponent)
        number *= 10 ** (exponent % 3)
        exponent -= exponent % 3
        if family == DECIMAL_SI:
            # Beyond E there is no suffix, and Kubernetes writes none.
            return f"{number}{_DECIMAL_SUFFIX.get(exponent, '')}"
        return f"{number}e{exponent}" if exponent else str(number)


def _reduced(unscaled: int, exponent: int) -> tuple[int, int]:
    """The same amount without trailing zeros in `unscaled`."""
    if unscaled == 0:
        return 0, 0
    while unscaled % 1000 == 0:
        unscaled //= 1000
        exponent += 3
    while unscaled % 10 == 0:
        unscaled //= 10
        exponent += 1
    return unscaled, exponent


@lru_cache(maxsize=4096)
def parse(text: str) -> Quantity:
    """Raises QuantityError. Amounts finer than a billionth are rounded up, binary ones are capped at 2^63-1."""
    if not text:
        raise QuantityError(FORMAT_ERROR)
    if len(text) > _MAX_DIGITS:
        raise QuantityError(NUMERIC_ERROR)
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        raise QuantityError(FORMAT_ERROR)
    sign, whole, fraction, suffix = found.group(1), found.group(2).lstrip("0"), found.group(3) or "", found.group(4)
    family, exponent, factor = _interpret(suffix)
    digits = (whole or "0") + fraction
    number = int(digits) * factor
    scale = exponent - len(fraction)
    if scale < _NANO:
        if number:
            # Rounded up: who asks for very little shall get something.
            shift = min(_NANO - scale, len(digits) + 40)
            number = -(-number // 10**shift)
        scale = _NANO
    if family == BINARY_SI:
        nanos = number * 10 ** (scale - _NANO)
        if nanos > _MAX_INT64 * 10**9:
            number, scale = _MAX_INT64, 0
        elif 0 < nanos < 10**9:
            family = DECIMAL_SI
    if sign == "-":
        number = -number
    number, scale = _reduced(number, scale)
    kept = text == "0" or (number != 0 and _kept(digits, len(fraction), suffix))
    return Quantity(number, scale, family, text if kept else "")


def _interpret(suffix: str) -> tuple[str, int, int]:
    """Format, power of ten, and binary factor of a suffix."""
    if suffix in _DECIMAL:
        return DECIMAL_SI, _DECIMAL[suffix], 1
    if suffix in _BINARY:
        return BINARY_SI, 0, 1 << _BINARY[suffix]
    found = _EXPONENT.fullmatch(suffix)
    if found is None or len(found.group(1)) > 19:
        raise QuantityError(SUFFIX_ERROR)
    return DECIMAL_EXPONENT, max(-_MAX_EXPONENT, min(_MAX_EXPONENT, int(found.group(1)))), 1


def _kept(digits: str, fraction: int, suffix: str) -> bool:
    """Whether kube-apiserver takes the text to be canonical already (its shortcut sees only digits and scale).

    `+5` and `1.500` therefore stay as they are.
    """
    if suffix in _BINARY:
        return not fraction and len(digits) + 3 * _BINARY[suffix] // 10 <= 14 and int(digits) & 7 != 0
    scale = _interpret(suffix)[1] - fraction
    short = len(digits) <= 18 and scale >= _NANO
    return short and scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"


def canonical(text: str) -> str:
    """The canonical form of a quantity's text. Raises QuantityError."""
    return parse(text).canonical()


def shown(text: str) -> str:
    """What an object that was sent with `text` shows. Raises QuantityError."""
    return str(parse(text))
