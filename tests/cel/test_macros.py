"""Macros are evaluated in ways of their own; they give and cost what the comprehensions do that they stand for."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubegate import cel
from kubegate.cel import evaluate, types

MACROS = (
    "x.all(i, 10 / i > 2)",
    "x.exists(i, 10 / i > 2)",
    "x.map(i, i * 2)",
    "x.map(i, 1)",
    "x.filter(i, i > 2)",
    "x.map(i, i > 2, [i, i])",
    "x.all(i, v, v > i)",
    "x.exists(i, v, v > i)",
    "x.transformList(i, v, i + v)",
    "x.transformMap(i, v, v > 1, v + i)",
    "x.map(i, x.filter(j, j > i).map(k, k + i))",
)


def outcome(program: cel.Program, x: list[int]) -> tuple[Any, int]:
    budget = cel.Budget(10**9)
    try:
        result = program.evaluate({"x": x}, budget)
    except cel.EvaluationError as error:
        return str(error), 0
    return result, budget.spent


def without_shortcuts(expression: str) -> cel.Program:
    with (
        mock.patch.object(evaluate._Builder, "_predicate", return_value=None),
        mock.patch.object(evaluate._Builder, "_collected", return_value=None),
    ):
        return cel.compile(expression, {"x": types.list_of(types.INT)})


@pytest.mark.parametrize("expression", MACROS)
@given(x=st.lists(st.integers(0, 6), max_size=6))
def test_a_macro_gives_and_costs_what_its_comprehension_does(expression: str, x: list[int]) -> None:
    result, cost = outcome(cel.compile(expression, {"x": types.list_of(types.INT)}), x)
    expected, expected_cost = outcome(without_shortcuts(expression), x)
    assert result == expected
    # a division by zero ends some steps early in one way and not in the other
    assert cost == expected_cost or 0 in x


@pytest.mark.parametrize(
    ("start", "end"), [("[1].all(a, ", ")"), ("[1].map(a, ", ")"), ("[1].exists_one(a, ", ")"), ("[1].all(i, a, ", ")")]
)
def test_nested_macros_take_no_longer_than_they_are_long(start: str, end: str) -> None:
    """Each level once doubled the time to compile: thirty of them would have taken a day."""
    inner = "true" if "map" not in start else "1"
    program = cel.compile(start * 28 + inner + end * 28, {})
    assert program.evaluate({}, limit=10_000) is not None
