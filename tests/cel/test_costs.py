"""What expressions cost, and that the limits hold."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from kubegate import cel
from kubegate.cel import types
from kubegate.cel.costs import PER_CALL

TEN = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"


def nested(depth: int) -> str:
    expression = "x1 + x2 > 0" if depth > 1 else "x1 > 0"
    for level in range(1, depth + 1):
        expression = f"{TEN}.all(x{level}, {expression})"
    return expression


def cost(expression: str, **values: Any) -> int:
    budget = cel.Budget(10 * PER_CALL)
    cel.compile(expression, dict.fromkeys(values, types.DYN)).evaluate(values, budget)
    return budget.spent


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("x", 1),
        ("x.a.b", 3),
        ("has(x.a.b)", 2),
        ("x.a['b']", 3),
        ("x.a.b == 'c'", 4),
        ("1 + 2", 1),
        ("[1, 2]", 0),
        ("[x]", 11),
        ("{'a': x}", 31),
        ("x.a.b in ['c', 'd']", 3),
        ("int('1')", 0),
        ("true || x.a.b == 'c'", 0),
        ("[1, 2].all(i, true)", 7),
        ("[1, 2].map(i, i)", 27),
        ("'0123456789'.matches('^[0-9]+$')", 4),
    ],
)
def test_costs_are_those_of_kube_apiserver(expression: str, expected: int) -> None:
    assert cost(expression, x={"a": {"b": "c"}}) == expected


def test_five_nested_loops_of_ten_may_be_had_for_one_call_and_six_may_not() -> None:
    assert cost(nested(5)) == 744_441
    with pytest.raises(cel.CostExceeded, match="operation cancelled: actual cost limit exceeded"):
        cost(nested(6))


def test_a_cost_that_is_too_high_is_no_error_that_can_be_swallowed() -> None:
    with pytest.raises(cel.CostExceeded):
        cost(f"{nested(6)} || true")
    with pytest.raises(cel.CostExceeded):
        cost(f"[1].all(x, {nested(6)})")


def test_a_budget_counts_what_failing_expressions_cost() -> None:
    budget = cel.Budget(10)
    with pytest.raises(cel.EvaluationError):
        cel.compile("x.a.b.c", {"x": types.DYN}).evaluate({"x": {}}, budget)
    assert budget.spent == 4
    assert not budget.exceeded
    cel.compile("x.a.b.c", {"x": types.DYN}).evaluate({"x": {"a": {"b": {"c": 1}}}}, budget)
    cel.compile("x.a.b.c", {"x": types.DYN}).evaluate({"x": {"a": {"b": {"c": 1}}}}, budget)
    assert budget.exceeded


@pytest.mark.parametrize(
    "expression",
    [
        "lists.range(80000).all(a, lists.range(80000).exists(b, a == b))",
        "lists.range(90000).map(i, i).size() > 0",
        "lists.range(30000).transformMap(i, v, v).size() > 0",
        "text.matches('(a*)*b')",
        "text.replace('a', text).size() > 0",
        "text.split('').map(c, text.replace('a', text)).size() > 0",
        "text.split('').distinct().size() > 0",
        "text.split('').sort().size() > 0",
        "[text, text, text, text].join(text).size() > 0",
        "'%s%s%s%s'.format([text, text, text, text]).size() > 0",
        "list + list + list + list + list + list + list + list == list",
        "list.all(a, list.exists(b, a == b))",
        "lists.range(1000000000).size() > 0",
        "text.contains(text + 'b')",
    ],
)
def test_an_expression_made_to_be_slow_is_stopped(expression: str) -> None:
    values = {"text": "a" * 100_000, "list": list(range(300_000))}
    program = cel.compile(expression, {name: types.DYN for name in values if name in expression})
    start = time.process_time()
    try:
        program.evaluate(values)
    except cel.EvaluationError as error:
        assert isinstance(error, cel.CostExceeded)
    assert time.process_time() - start < 2


def test_expressions_nested_too_deeply_are_refused_not_followed() -> None:
    with pytest.raises(cel.CompileError):
        cel.compile("(" * 2000 + "1" + ")" * 2000, {})
    with pytest.raises(cel.CompileError):
        cel.compile("[" * 2000 + "1" + "]" * 2000, {})


@pytest.mark.parametrize(
    "expression", ["x == y", "x in [y]", "x != y", "'%s'.format([x]) == ''", "[x].flatten(40).size() > 0"]
)
def test_lists_that_hold_one_another_many_times_are_compared_and_written_within_bounds(expression: str) -> None:
    """Variables of a policy make such lists at no cost: of 8 to the 30th elements, in thirty lists."""
    x: list[Any] = [1]
    y: list[Any] = [1]
    for _ in range(30):
        x, y = [x] * 8, [y] * 8
    with contextlib.suppress(cel.EvaluationError):
        cost(expression, x=x, y=y)


def test_a_number_of_thousands_of_digits_is_none() -> None:
    for name in ("int", "uint"):
        with pytest.raises(cel.EvaluationError, match=f"cannot be converted to {name}|{name}"):
            cost(f"{name}(x)", x="9" * 5000)
        assert cost(f"{name}(x) == {name}(1)", x="0" * 3000 + "1") >= 0
