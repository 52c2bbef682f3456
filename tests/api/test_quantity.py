"""Quantities: what is understood, how it is written, and exact sums."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubegate.api import quantity
from kubegate.api.quantity import Quantity, QuantityError, canonical, parse, shown


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("0", "0"),
        ("0m", "0"),
        ("1", "1"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("2000k", "2M"),
        ("1e3", "1e3"),
        ("12000000e0", "12e6"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Mi", "512Ki"),
        ("1.1Ki", "1126400m"),
        ("0.1n", "1n"),
        ("-1.5", "-1500m"),
        ("100E", "100E"),
        ("1000E", "1"),  # there is no larger suffix, and Kubernetes leaves it out
    ],
)
def test_the_canonical_form(text, written):
    assert canonical(text) == written


def test_texts_that_look_canonical_are_shown_as_they_came():
    assert [str(parse(text).round_up(-3)) for text in ("+5", "1.500", "0.0001")] == ["+5", "1.500", "1m"]
    assert [shown(text) for text in ("+5", "010", "1.500", "1.5")] == ["+5", "010", "1.500", "1500m"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", quantity.FORMAT_ERROR),
        ("three", quantity.FORMAT_ERROR),
        ("1.2.3", quantity.FORMAT_ERROR),
        ("1GiB", quantity.FORMAT_ERROR),
        ("1Kii", quantity.SUFFIX_ERROR),
        ("1e", quantity.SUFFIX_ERROR),
        ("9" * 5000, quantity.NUMERIC_ERROR),
    ],
)
def test_what_is_no_quantity(text, error):
    with pytest.raises(QuantityError) as raised:
        parse(text)
    assert str(raised.value) == error


def test_comparing_adding_and_subtracting_are_exact():
    assert parse("0.1").add(parse("0.2")).compare(parse("300m")) == 0
    assert str(parse("1Gi").add(parse("1Mi"))) == "1025Mi"
    assert str(parse("0").add(parse("1Mi"))) == "1Mi"
    assert str(parse("1").sub(parse("1500m"))) == "-500m"
    assert parse("2k").compare(parse("2000")) == 0
    assert parse("1Gi").compare(parse("1G")) == 1


def test_whole_units_are_rounded_away_from_zero():
    assert parse("1500m").value() == 2
    assert parse("-1500m").value() == -2
    assert parse("1.5").milli_value() == 1500
    assert str(parse("1.0005").round_up(-3)) == "1001m"


@pytest.mark.parametrize("text", ["1e1000000000", "1e-1000000000", "9" * 999 + "Ei", "-9" * 2 + "e999999999999"])
def test_absurd_quantities_cost_little(text):
    with suppress(QuantityError):
        parse(text).add(parse("1")).canonical()


@given(st.integers(-(2**60), 2**60), st.sampled_from(["n", "u", "m", "", "k", "M", "Ki", "Mi", "e3"]))
def test_canonical_forms_keep_the_amount(number, suffix):
    first = parse(f"{number}{suffix}")
    again = parse(first.canonical())
    assert again.nanos() == first.nanos() or abs(first.nanos()) >= (2**63 - 1) * 10**9
    assert again.canonical() == first.canonical()


@given(st.fractions(-1000, 1000, max_denominator=1000), st.fractions(-1000, 1000, max_denominator=1000))
def test_sums_agree_with_fractions(a, b):
    def of(value: Fraction) -> Quantity:
        return parse(f"{int(value * 1000)}m")

    total = of(a).add(of(b))
    assert total.milli_value() == int(a * 1000) + int(b * 1000)
