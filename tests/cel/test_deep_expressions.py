"""Expressions that are deeper than Google's parser goes are parsed here, and as that one would."""

from __future__ import annotations

from typing import Any

import pytest

from kubegate import cel
from kubegate.cel import parser, syntax, types

EXPRESSIONS = [
    "-1 + --x - -x * 2 / 3 % 4",
    "!!a && !b || c && d && e && f || g",
    "a < b == c in d",
    "a ? b : c ? d : e",
    ".a.b.c(1, [2, ?x], {'k': 1, ?y: z,}).d[0].?e[?'f']",
    "x.y{a: 1, ?b: 2} == x{}",
    "has(a.b.c) && has(a[0].b)",
    "l.all(x, x > 1) && l.exists(y, l.exists_one(z, z == y))",
    "l.map(x, x + 1).map(x, x > 1, x).filter(x, x != 2)",
    "o.optMap(v, v + 1).optFlatMap(v, optional.of(v))",
    "1u + 0x1F + 0xFFu - -0x1 + 1.5e3 + .5 - -1.5 + 1e3",
    "'a\\n\\x41\\u00e9\\101' + \"it's\" + '''two\nlines''' + r'\\q' + string(b'\\xff' + br'\\x')",
    "true || false || null == (a) // the end",
    "'größe' + a.b",
    "cidr('10.0.0.0/8')\n  .containsIP(object.ip)",
]


def shape(tree: syntax.Tree) -> Any:
    """The tree with positions for ids."""

    def of(node: Any) -> Any:
        if isinstance(node, (list, tuple)):
            return [of(item) for item in node]
        if hasattr(node, "id"):
            fields = {name: of(getattr(node, name)) for name in node.__slots__ if name != "id"}
            return type(node).__name__, tree.positions.get(node.id, 0), fields
        return type(node).__name__, node

    return of(tree.root)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_trees_are_those_of_googles_parser(expression: str) -> None:
    assert shape(parser.parse(expression)) == shape(syntax.parse(expression))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (" + ".join(["1"] * 249), 249),
        ("'a'" + ".replace('a', 'b')" * 200, "b"),
        ("false ? 1 : " * 200 + "2", 2),
        ("(" * 50 + "object.a" + ")" * 50, 5),
        ("[1].all(x, " * 40 + "true" + ")" * 40, True),
    ],
)
def test_expressions_may_be_as_deep_as_cel_go_allows(expression: str, expected: Any) -> None:
    assert cel.compile(expression, {"object": types.DYN}).evaluate({"object": {"a": 5}}) == expected


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (" + ".join(["1"] * 260), "expression recursion limit exceeded: 250"),
        ("(" * 5000 + "1" + ")" * 5000, "expression recursion limit exceeded: 250"),
        ("'" + "a" * 100_000 + "'", "expression code point size exceeds limit: size: 100002, limit 100000"),
    ],
)
def test_what_is_too_deep_or_too_long_is_refused_in_cel_gos_words(expression: str, text: str) -> None:
    with pytest.raises(cel.CompileError) as caught:
        cel.compile(expression, {})
    assert caught.value.message == f"ERROR: <input>:-1:0: {text}"


def test_mistakes_in_deep_expressions_are_told_with_their_place() -> None:
    deep = " + ".join(["1"] * 60)
    for mistake, text in (
        (" + 'a'", "239: found no matching overload for '_+_' applied to '(int, string)'"),
        (" + has(a)", "245: invalid argument to has() macro"),
        (" + [1].all(1, true)", "249: argument must be a simple name"),
        (" +", "240: Syntax error: extraneous input '<EOF>'"),
        (" + '\\U00110000'", "241: unable to unescape string"),
        (" + 99999999999999999999", "241: invalid int literal"),
        (" + while", "241: reserved identifier: while"),
    ):
        with pytest.raises(cel.CompileError) as caught:
            cel.compile(deep + mistake, {})
        assert caught.value.message.splitlines()[0] == f"ERROR: <input>:1:{text}"
