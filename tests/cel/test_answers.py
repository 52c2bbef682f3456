"""Expressions and what kube-apiserver makes of them: the value and its cost, the error, or why it does not compile."""

from __future__ import annotations

from typing import Any

import pytest

from kubegate import cel
from kubegate.cel import types

OBJECT = {
    "metadata": {"name": "web", "labels": {"app": "shop"}},
    "spec": {
        "replicas": 3,
        "zero": 0,
        "t": True,
        "list": [1, 2, 3],
        "strs": ["a", "b"],
        "mixed": [1, "a", None],
        "containers": [{"name": "a", "image": "example.org/a"}, {"name": "b", "image": "docker.io/b"}],
    },
}


def _program(expression: str) -> cel.Program:
    return cel.compile(expression, {"object": types.DYN})


def _cost(program: cel.Program) -> tuple[Any, int]:
    budget = cel.Budget(10**9)
    return program.evaluate({"object": OBJECT}, budget), budget.spent


@pytest.mark.parametrize(
    ("expression", "value", "cost"),
    [
        # literals that mix types go into `format` alone; those of constants cost nothing
        ("'%s %d'.format(['a', 1])", "a 1", 1),
        ("'%s'.format([[1, 'a']])", '[1, "a"]', 1),
        ("{'a': 1, 'a': 2}", {"a": 2}, 0),
        ("dyn([1])", [1], 0),
        ("string(duration('1h'))", "3600s", 0),
        ("1 == dyn(duration('1s'))", False, 1),
        ("double('inf')", float("inf"), 0),
        ("object.spec.replicas in [dyn(1), dyn(3)]", True, 3),
        ("double('0x1p-2') + double('1_000')", 1000.25, 1),
        ("string(timestamp('2024-01-01T00:00:00.5+02:00') + duration('1h'))", "2024-01-01T01:00:00.5+02:00", 2),
        ("string(duration('1h') + timestamp('2024-01-01T00:00:00-05:30'))", "2024-01-01T01:00:00-05:30", 2),
        ("string(timestamp('9999-12-31T23:59:59+02:00') + duration('2h'))", "9999-12-31T23:59:59Z", 2),
        ("timestamp('2024-01-01T00:00:00+02:00') == timestamp('2023-12-31T22:00:00Z')", True, 1),
        # the start of a branch, and of an index, is not counted
        ("object.spec.t ? object.spec.replicas : object.spec.zero", 3, 5),
        ("(object.spec.t ? object : object.spec).spec.replicas > 1", True, 6),
        ("object.spec.list[object.spec.zero]", 1, 6),
        ("object.spec.containers.filter(c, c.name == 'a')", OBJECT["spec"]["containers"][:1], 23),  # type: ignore[index]
        ("object.spec.containers.exists_one(c, c.name == 'a')", True, 13),
        # nor is what is not there
        ("object.?spec.?none.orValue(1)", 1, 2),
        ("object.?none.deeper.orValue(1)", 1, 1),
        ("object.metadata.name.startsWith('abcdefghijkl')", False, 5),
        # lists
        ("lists.range(4) == [0,1,2,3]", True, 16),
        ("[5,1,2,3].reverse() == [3,2,1,5]", True, 16),
        ("[1,2,3,4].slice(1, 3) == [2, 3]", True, 14),
        ("dyn([1,2,3,4]).flatten() == [1,2,3,4]", True, 16),
        ("[4, 3, 2, 1].sort() == [1, 2, 3, 4]", True, 44),
        ('["d", "a", "b", "c"].sort() == ["a", "b", "c", "d"]', True, 45),
        ("[].sortBy(e, e) == []", True, 14),
        ("object.spec.list.sort() == [1, 2, 3]", True, 5),
        ("[-3, 1, -5, -2, 4].sortBy(e, -(e * e)) == [-5, 4, -3, -2, 1]", True, 145),
        ("[-2, 5, -2, 1, 1, 5, -2, 1].distinct() == [-2, 5, 1]", True, 140),
        ("['c', 'a', 'a', 'b', 'a', 'b', 'c', 'c'].distinct() == ['c', 'a', 'b']", True, 146),
        ("object.spec.list.flatten()", [1, 2, 3], 17),
        # other types
        ("quantity('1') != object.spec.replicas", True, 5),
        ("format.uuid().validate('abc').hasValue()", True, 20),
        ("format.dns1123LabelPrefix().validate('A-').hasValue()", False, 10),
    ],
)
def test_values_and_costs(expression: str, value: Any, cost: int) -> None:
    assert _cost(_program(expression)) == (value, cost)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("object.spec.list.name", "unsupported index type 'string' in list"),
        ("has(object.spec.list.name)", "unsupported index type 'string' in list"),
        ("object.spec.list[dyn(0.5)]", "unsupported index value 0.5 in list"),
        ("object.spec.replicas.all(x, true)", "got 'types.Int', expected iterable type"),
        ("object.spec.replicas.all(k, v, true)", "unsupported comprehension range type: types.Int"),
        ("object.metadata + 1", "no such overload: _+_"),
        ("object.metadata.name - 1", "no such overload"),
        ("object.spec.replicas + 'a'", "no such overload"),
        ("-object.spec.list", "no such overload: -_"),
        ("object.spec.mixed[2] < 1", "no such overload: _<_"),
        ("object.spec.mixed.filter(x, x > 0)", "no such overload: _>_"),
        ("object.spec.mixed.map(x, x + 1)", "no such overload"),
        ("object.spec.replicas.startsWith('a')", "no such overload"),
        ("object.spec.replicas.matches('a')", "no such overload"),
        ("object.spec.replicas.size()", "no such overload: size"),
        ("object.spec.replicas.lowerAscii()", "no such overload: lowerAscii(int)"),
        ("object.spec.list.join(',')", "no such overload: join(list, string)"),
        ("object.spec.strs.sum()", "no such overload: sum(list)"),
        ("quantity('1') == object.spec.replicas", "no such overload"),
        ("cidr('10.0.0.0/8').containsIP('abc')", "no such overload"),
        ("duration('9223372036s') + duration('9223372036s')", "integer overflow"),
    ],
)
def test_errors(expression: str, text: str) -> None:
    with pytest.raises(cel.EvaluationError) as caught:
        _program(expression).evaluate({"object": OBJECT})
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("expression", "column", "text"),
    [
        ("[1, 'a', 2.0, 'b']", 5, "expected type 'int' but found 'string'"),
        ("{'a': 1, 'b': 'c'}", 15, "expected type 'int' but found 'string'"),
        ("[[], [1], ['a']]", 11, "expected type 'list(int)' but found 'list(string)'"),
        (
            "optional.none().all(x, x)",
            14,
            "expression of type 'optional_type(_var0)' cannot be range of a comprehension"
            " (must be list, map, or dynamic)",
        ),
        ("none{a: 1}", 5, "undeclared reference to 'none' (in container '')"),
        ("ip('1.2.3.4').a", 14, "type 'net.IP' does not support field selection"),
        ("timestamp(253402300800)", 11, "invalid timestamp argument"),
        ("a.true", 3, "Syntax error: mismatched input 'true' expecting IDENTIFIER"),
        (
            "'a'.sortBy(x, x)",
            1,
            "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
        ),
    ],
)
def test_what_does_not_compile(expression: str, column: int, text: str) -> None:
    with pytest.raises(cel.CompileError) as caught:
        _program(expression)
    assert caught.value.message == f"ERROR: <input>:1:{column}: {text}\n | {expression}\n | {'.' * (column - 1)}^"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("int(dyn('a'))", "type conversion error from 'string' to 'int'"),
        ("double('-1e400')", "type conversion error from 'string' to 'double'"),
        ("string(dyn(null))", "no such overload: string(null_type)"),
        ("matches('a', '[')", "error parsing regexp: missing closing ]: `[`"),
    ],
)
def test_constant_parts_that_fail(expression: str, text: str) -> None:
    with pytest.raises(cel.CompileError) as caught:
        _program(expression)
    assert (caught.value.kind, caught.value.message) == ("program", f"program instantiation failed: {text}")
