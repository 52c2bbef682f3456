"""What expressions give: values, errors and types, in cel-go's and Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from kubegate import cel
from kubegate.cel import types
from kubegate.cel.values import Duration, Optional, Timestamp, parse_duration

POD = {
    "metadata": {"name": "web", "labels": {"app": "shop"}},
    "spec": {
        "replicas": 3,
        "share": 0.5,
        "containers": [{"name": "a", "image": "example.org/a:1"}, {"name": "b", "image": "docker.io/b"}],
    },
}


def evaluate(expression: str, **values: Any) -> Any:
    values = {"object": POD, **values}
    return cel.compile(expression, dict.fromkeys(values, types.DYN)).evaluate(values)


def failure(expression: str, **values: Any) -> str:
    with pytest.raises(cel.EvaluationError) as caught:
        evaluate(expression, **values)
    return str(caught.value)


def refusal(expression: str, **variables: types.CelType) -> str:
    with pytest.raises(cel.CompileError) as caught:
        cel.compile(expression, {"object": types.DYN, **variables})
    return caught.value.message


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("object.metadata.name == 'web'", True),
        ("object.spec.containers.all(c, c.image.startsWith('example.org/'))", False),
        ("object.spec.containers.exists(c, c.name == 'b')", True),
        ("object.spec.containers.exists_one(c, c.name == 'b')", True),
        ("object.spec.containers.map(c, c.name)", ["a", "b"]),
        ("object.spec.containers.filter(c, c.name > 'a').map(c, c.name)", ["b"]),
        ("object.spec.containers.map(c, c.name == 'a', c.image)", ["example.org/a:1"]),
        ("has(object.spec.nodeName) || has(object.metadata.labels.app)", True),
        ("object.?spec.?nodeName.orValue('none')", "none"),
        ("object.metadata.labels[?'app'].hasValue()", True),
        ("[?object.?spec.?nodeName, dyn('x')]", ["x"]),
        ("{?'a': object.?spec.?replicas, ?'b': object.?none}", {"a": 3}),
        ("optional.of(2).optMap(x, x * 2).value()", 4),
        ("object.spec.containers.first().value().name + object.spec.containers.last().value().name", "ab"),
        ("[].first().hasValue() || [].last().hasValue()", False),
        ("object.spec.containers.first().name.orValue('none')", "a"),
        ("optional.unwrap([object.?spec.?nodeName, optional.of(dyn('x'))])", ["x"]),
        ("[optional.of(1), optional.none(), optional.of(2)].unwrapOpt()", [1, 2]),
        ("object.spec.replicas in [1, 2, 3]", True),
        ("'app' in object.metadata.labels", True),
        ("1.0 == dyn(1) && dyn(1u) == 1 && 2 > 1.5", True),
        ("[1, 2] + [3] == [1, 2, 3]", True),
        ("dyn(true) == dyn(1)", False),
        ("{1: 'a'}[1] + {true: 'b'}[true]", "ab"),
        ("-7 / 2 == -3 && -7 % 2 == -1", True),
        ("type(object.spec.replicas) == int && type('') == string && type(null) == null_type", True),
        ("size('größe') == 5 && size(b'abc') == 3", True),
        ("string(1e10) + ' ' + string(0.1) + ' ' + string(123456.0) + ' ' + string(true)", "1e+10 0.1 123456 true"),
        ("string(duration('90m')) + string(timestamp('2026-01-02T03:04:05.5Z'))", "5400s2026-01-02T03:04:05.5Z"),
        ("timestamp('2026-03-01T00:00:00Z') - timestamp('2026-02-28T23:00:00Z') == duration('1h')", True),
        ("timestamp('2026-01-01T00:30:00Z').getHours('+02:00')", 2),
        ("int('-12') + int(2.9) + int(duration('1ns'))", -9),
        ("true ? 1 : object.none", 1),
        ("[[1]].all(list, list.size() == 1) && [int, type(1)].exists(type, type == int)", True),
        ("object.none == 1 || true", True),
        ("!(object.none == 1 && false)", True),
        ("[1, 0].exists(x, 1 / x == 1)", True),
        ("[0, 5].all(x, 10 / x > 5)", False),
        ("[1, 2].all(i, v, v == i + 1)", True),
        ("[1, 2, 2].existsOne(x, x == 1) && !{'a': 2}.existsOne(k, k == 'b')", True),
        ("{'a': 1}.transformMap(k, v, k + string(v))", {"a": "a1"}),
        ("[3, 4].transformList(i, v, i > 0, v)", [4]),
        ("{'a': 1, 'b': 2}.transformMapEntry(k, v, {v: k})", {1: "a", 2: "b"}),
    ],
)
def test_expressions_have_the_values_that_cel_gives_them(expression: str, expected: Any) -> None:
    assert evaluate(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
        ("'tacocat'.substring(0, 4) + 'x'.upperAscii() + ' y '.trim()", "tacoXy"),
        ("'hello hello'.replace('he', 'we', 1).lastIndexOf('l')", 9),
        ("['x', 'y'].join('-')", "x-y"),
        ("'%s is %d and %.1f'.format([dyn('a'), dyn(2), dyn(2.25)])", "a is 2 and 2.2"),
        ("strings.quote('a\"b')", '"a\\"b"'),
        ("[1, 3, 2].max() + [1, 3].sum() + [5].min()", 12),
        ("[1, 2, 2].isSorted() && [1, 2, 1].lastIndexOf(1) == 2", True),
        ("[3, 1, 2].sort() + [1, 1].distinct() + [1, 2].reverse() + lists.range(2)", [1, 2, 3, 1, 2, 1, 0, 1]),
        ("object.spec.containers.sortBy(c, c.image).map(c, c.name)", ["b", "a"]),
        ("[[1], [2, 3]].flatten().slice(1, 3)", [2, 3]),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])", True),
        ("'abc 123'.find('[0-9]+') + '|' + 'a1b2'.findAll('[0-9]', 1)[0]", "123|1"),
        ("url('https://u@[::1]:80/p?x=1&x=2').getQuery()['x'].size()", 2),
        ("url('https://[::1]:80/').getHostname() + url('https://e.org:81').getPort()", "::181"),
        ("isURL('/path') && !isURL('../x')", True),
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('2').add(1) == quantity('3')", True),
        ("quantity('2000m').isInteger() || quantity('1.5Gi').isInteger()", False),
        ("quantity('2k').asInteger() + sign(quantity('-1'))", 1999),
        ("ip('10.0.0.1').family() == 4 && ip('::1').isLoopback() && !isIP('10.0.0.01')", True),
        ("ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1')", True),
        ("cidr('192.168.9.9/16').masked() == cidr('192.168.0.0/16')", True),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.2.0.0/16')", True),
        ("cidr('10.0.0.0/8').ip() == ip('10.0.0.0') && string(cidr('10.0.0.0/8')) == '10.0.0.0/8'", True),
        ("format.dns1123Label().validate('a-b') == optional.none()", True),
        ("format.named('uuid').value().validate('x').value()[0]", "does not match the UUID format"),
        ("semver('1.2.3-rc.1').isLessThan(semver('1.2.3')) && isSemver('v1.0', true)", True),
        ("semver('1.2.3').major() + semver('v2', true).major()", 3),
    ],
)
def test_kubernetes_libraries_are_there(expression: str, expected: Any) -> None:
    assert evaluate(expression) == expected


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("object.spec.none", "no such key: none"),
        ("object.metadata.name.first", "no such key: first"),
        ("{1: 2}[3]", "no such key: 3"),
        ("object.spec.containers[2]", "index out of bounds: 2"),
        ("object.spec.replicas + 'x'", "no such overload"),
        ("object.spec.containers.size() / 0", "division by zero"),
        ("5 % (object.spec.replicas - 3)", "modulus by zero"),
        ("9223372036854775807 + object.spec.replicas", "integer overflow"),
        ("object.metadata.name.exists(x, true)", "got 'types.String', expected iterable type"),
        ("int(object.metadata.name)", "type conversion error from 'string' to 'int'"),
        ("quantity(object.spec.replicas)", "no such overload: quantity(int)"),
        ("optional.none().value()", "optional.none() dereference"),
        ("dyn(object.metadata.name).first()", "no such overload: first(string)"),
        ("[?dyn(object.metadata.name)]", "cannot initialize optional list element from non-optional value web"),
        ("{?'k': dyn([1, 2])}", "cannot initialize optional entry 'k' from non-optional value [1, 2]"),
        ("{?1: dyn({'a': [null]})}", "cannot initialize optional entry '1' from non-optional value {a: [NULL_VALUE]}"),
        ("optional.unwrap(dyn([1]))", "no such overload: optional.unwrap(list)"),
        ("'x'.matches(object.metadata.name + '(')", "error parsing regexp: missing closing ): `web(`"),
        ("ip('10.0.0.256')", 'IP Address "10.0.0.256" parse error during conversion from string: ParseAddr('
         '"10.0.0.256"): IPv4 field has value >255'),
        ("ip('fe80::1%eth0')", 'IP address "fe80::1%eth0" with zone value is not allowed'),
        ("url('no url')", 'URL parse error during conversion from string: parse "no url": invalid URI for request'),
        ("semver('1.0')", "No Major.Minor.Patch elements found"),
        ("[1, 2].filter(x, x > 5).max()", "max called on empty list"),
        ("'abc'.substring(2, 1)", "invalid substring range. start: 2, end: 1"),
    ],
)  # fmt: skip
def test_errors_are_worded_as_kube_apiserver_words_them(expression: str, text: str) -> None:
    assert failure(expression) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (
            "object.x ==",
            "ERROR: <input>:1:12: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!',"
            " 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n"
            " | object.x ==\n | ...........^",
        ),
        (
            "nobody == 1",
            "ERROR: <input>:1:1: undeclared reference to 'nobody' (in container '')\n | nobody == 1\n | ^",
        ),
        (
            "1 == 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(int, string)'\n | 1 == 'a'\n | ..^",
        ),
        (
            "'a'.startsWith(1)",
            "ERROR: <input>:1:15: found no matching overload for 'startsWith' applied to 'string.(int)'\n"
            " | 'a'.startsWith(1)\n | ..............^",
        ),
        (
            "[1, 'a']",
            "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^",
        ),
        (
            "!1 || 'b' == 1 || 'b'",
            "ERROR: <input>:1:1: found no matching overload for '!_' applied to '(int)'\n"
            " | !1 || 'b' == 1 || 'b'\n | ^\n"
            "ERROR: <input>:1:11: found no matching overload for '_==_' applied to '(string, int)'\n"
            " | !1 || 'b' == 1 || 'b'\n | ..........^\n"
            "ERROR: <input>:1:19: expected type 'bool' but found 'string'\n"
            " | !1 || 'b' == 1 || 'b'\n | ..................^",
        ),
        ("has(object)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(object)\n | ....^"),
        ("[1].all(1, true)", "ERROR: <input>:1:9: argument must be a simple name\n | [1].all(1, true)\n | ........^"),
        (
            "[1].all(i, 2, true)",
            "ERROR: <input>:1:12: argument must be a simple name\n | [1].all(i, 2, true)\n | ...........^",
        ),
        ("'x'.matches('(')", "ERROR: <input>:1:13: invalid matches argument\n | 'x'.matches('(')\n | ............^"),
        ("duration('x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^"),
        (
            "1.exists(x, true)",
            "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension"
            " (must be list, map, or dynamic)\n | 1.exists(x, true)\n | ^",
        ),
        (
            "object.a &&\n  nobody",
            "ERROR: <input>:2:3: undeclared reference to 'nobody' (in container '')\n |   nobody\n | ..^",
        ),
    ],
)
def test_what_cannot_be_compiled_is_refused_with_its_place(expression: str, text: str) -> None:
    assert refusal(expression) == text


def test_several_mistakes_are_told_in_the_order_of_their_places() -> None:
    lines = [line for line in refusal("one + two.three(1)").splitlines() if line.startswith("ERROR")]
    assert lines == [
        "ERROR: <input>:1:1: undeclared reference to 'one' (in container '')",
        "ERROR: <input>:1:7: undeclared reference to 'two' (in container '')",
        "ERROR: <input>:1:16: undeclared reference to 'three' (in container '')",
    ]


def test_the_result_must_have_one_of_the_types_asked_for() -> None:
    with pytest.raises(cel.CompileError) as caught:
        cel.compile("'text'", {}, result=(types.BOOL,))
    assert (caught.value.message, caught.value.kind) == ("must evaluate to bool but got string", "result")
    with pytest.raises(cel.CompileError, match=r"must evaluate to one of \[string null_type\] but got int"):
        cel.compile("1", {}, result=(types.STRING, types.NULL))
    with pytest.raises(cel.CompileError, match=r"must evaluate to bool but got list\(google.protobuf.Timestamp\)"):
        cel.compile("[timestamp(0)]", {}, result=(types.BOOL,))
    with pytest.raises(cel.CompileError, match="must evaluate to bool but got null_type"):
        cel.compile("null", {}, result=(types.BOOL,))
    with pytest.raises(cel.CompileError, match="must evaluate to bool but got dyn"):
        cel.compile("object.x", {"object": types.DYN}, result=(types.BOOL,))


def test_fields_of_declared_objects_are_checked() -> None:
    objects = {"Thing": {"size": types.INT}}
    variables = {"thing": types.object_of("Thing")}
    assert cel.compile("thing.size + 1", variables, objects=objects).result == types.INT
    with pytest.raises(cel.CompileError, match="undefined field 'colour'"):
        cel.compile("thing.colour == 'red'", variables, objects=objects)
    with pytest.raises(cel.CompileError, match=r"type 'int' does not support field selection"):
        cel.compile("thing.size.unit", variables, objects=objects)


def test_a_constant_conversion_that_fails_is_refused_before_it_is_evaluated() -> None:
    assert refusal("int('x') == 1") == ("program instantiation failed: type conversion error from 'string' to 'int'")


def test_times_and_durations_are_exact_to_the_nanosecond() -> None:
    assert evaluate("duration('1.000000001s')") == Duration(1_000_000_001)
    assert evaluate("timestamp('2026-01-01T00:00:00.000000001+01:00')") == Timestamp(1767222000 * 10**9 + 1)
    assert evaluate("object.?nothing") == Optional(False)


def test_values_are_left_as_they_were() -> None:
    before = {"list": [1], "map": {"a": 1}}
    evaluate("x.list + [2] == [1, 2] && x.map.transformMap(k, v, v + 1) == {'a': 2}", x=before)
    assert before == {"list": [1], "map": {"a": 1}}


def test_patterns_that_are_none_are_told_when_the_expression_is_made_or_when_they_come():
    said = "error parsing regexp: missing closing ): `(`"
    assert (
        refusal("'x'.find('(') == ''")
        == refusal("'x'.findAll('(', 1) == []")
        == f"program instantiation failed: {said}"
    )
    assert failure("'x'.find(object.pattern)", object={"pattern": "("}) == f"Illegal regex: {said}"
    assert failure("'x'.matches(object.pattern)", object={"pattern": "("}) == said


def test_names_in_backticks_are_refused():
    said = "ERROR: <input>:1:8: unsupported syntax: '`'\n | object.`a-b` == 1\n | .......^"
    assert refusal("object.`a-b` == 1") == said
    assert evaluate("object.metadata.name != '`x`' && r\"`\" != '' // `y`")


def test_of_one_mistake_only_one_is_told():
    said = "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting ':'\n | a?b\n | ...^"
    assert refusal("a?b") == said


@pytest.mark.parametrize(
    ("expression", "column", "text"),
    [
        ("'%z'.format([1])", 12, 'could not parse formatting clause: unrecognized formatting clause "z"'),
        (
            "'%d'.format(['a'])",
            14,
            "error during formatting: decimal clause can only be used on integers, was given string",
        ),
        ("'%s %s'.format(['a'])", 15, "index 1 out of range"),
        ("'%'.format([1])", 11, "unexpected end of string"),
        ("'%s'.format([1, 2])", 12, "too many arguments supplied to string.format (expected 1, got 2)"),
        (
            "'%.f'.format([1.0])",
            13,
            "could not parse formatting clause: error while parsing precision: error while converting precision to"
            ' integer: strconv.Atoi: parsing "": invalid syntax',
        ),
        (
            "'%s'.format([[optional.of(1)]])",
            26,
            "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps,"
            " lists, types, durations, and timestamps, was given optional_type",
        ),
    ],
)
def test_formats_are_checked_against_their_arguments_where_both_are_literals(
    expression: str, column: int, text: str
) -> None:
    assert refusal(expression).splitlines()[0] == f"ERROR: <input>:1:{column}: {text}"


def test_formatted_values_are_written_as_go_and_people_in_the_usa_write_them():
    written = '["a", "b"] {"x":2.000000, "y":1.500000}'
    assert evaluate("'%s %s'.format([dyn(['a', 'b']), dyn({'y': 1.5, 'x': 2.0})])") == written
    assert evaluate("'%s'.format([[duration('1m'), duration('2s')]])") == '[duration("60s"), duration("2s")]'
    assert evaluate("'%.2f %.1f'.format([1234567.891, -0.25])") == "1,234,567.89 -0.2"
    assert evaluate("'%.3e'.format([1234.5])") == "1.234\u202f×\u202f10⁰³"
    assert evaluate("'%f'.format([dyn('-Infinity')])") == "-∞"
    assert evaluate("'%s'.format(x)", x=["a", "b"]) == "a"
    assert failure("'%s%s'.format(x)", x=["a"]) == "index 1 out of range"
    assert failure("'%d'.format(x)", x=[1.5]) == (
        "error during formatting: decimal clause can only be used on integers, was given double"
    )


def test_lists_and_maps_are_of_one_type_even_where_it_is_dynamic():
    assert refusal("object.x in ['a', object.y]") == (
        "ERROR: <input>:1:25: expected type 'string' but found 'dyn'\n"
        " | object.x in ['a', object.y]\n | ........................^"
    )
    assert refusal("{'a': 1, 'b': dyn(2)} == {}").splitlines()[0] == (
        "ERROR: <input>:1:18: expected type 'int' but found 'dyn'"
    )
    assert evaluate("'%s is %d'.format(['a', dyn(2)])") == "a is 2"


def test_places_in_texts_beyond_their_end_hold_nothing():
    assert evaluate("['abc'.indexOf('a', 30), 'abc'.lastIndexOf('a', 3), 'abc'.lastIndexOf('')]") == [-1, -1, 3]
    assert failure("''.lastIndexOf('a')") == "index out of range: -1"
    assert failure("'abc'.indexOf('a', -1)") == "index out of range: -1"


def test_literals_that_are_none_are_told_in_the_words_of_cel_go():
    for expression, text in (
        ("1e999 == 1.0", "invalid double literal"),
        ("0xFFFFFFFFFFFFFFFFF == 1", "invalid int literal"),
        ("0xFFFFFFFFFFFFFFFFFu == 1u", "invalid uint literal"),
        ("'\\U00110000' == ''", "unable to unescape string"),
        ("b'\\u00e9' == b''", "unable to unescape string"),
    ):
        assert refusal(expression) == f"ERROR: <input>:1:1: {text}\n | {expression}\n | ^"
    assert evaluate("'\\ud83d'") == "\ufffd"


def test_mistakes_on_other_lines_are_told_as_cel_go_tells_them():
    assert refusal("object.x == (1\n") == ("ERROR: <input>:2:1: Syntax error: missing ')' at '<EOF>'\n | \n | ^")
    said = refusal("object.x\t== 'b\n")
    assert said.startswith(
        "ERROR: <input>:1:13: Syntax error: token recognition error at: ''b\n'\n | object.x == 'b\n | ............^\n"
        "ERROR: <input>:2:1: Syntax error: mismatched input '<EOF>' expecting {"
    )
    assert said.endswith("IDENTIFIER}\n | \n | ^")


def test_variables_of_macros_must_be_names_and_differ():
    simple, identifier = "argument must be a simple name", "argument is not an identifier"
    deep = "size('" + "' + '".join("a" * 40) + "') == 40 && "  # as deep as only the parser of our own goes
    for expression, column, text in (
        ("[1].exists(1, true)", 12, simple),
        ("[1].map(1, 2) == []", 9, identifier),
        ("[1].filter(a.b, true) == []", 13, identifier),
        ("[1].sortBy(1, 2) == []", 12, identifier),
        ("a.optMap(1, 2).hasValue()", 10, "optMap() variable name must be a simple identifier"),
        ("[1].all(i, i, true)", 12, "duplicate variable name: i"),
    ):
        assert refusal(expression).splitlines()[0] == f"ERROR: <input>:1:{column}: {text}"
        assert refusal(deep + expression).splitlines()[0] == f"ERROR: <input>:1:{len(deep) + column}: {text}"


def test_what_is_made_must_be_an_object_of_a_declared_type():
    for expression, text in (
        ("list{a: 1}", "'list' is not a message type"),
        ("int{}", "'int' is not a message type"),
        ("object{a: 1}", "'dyn' is not a type"),
        ("Thing{}", "undeclared reference to 'Thing' (in container '')"),
    ):
        column = expression.index("{") + 1
        assert refusal(expression).splitlines()[0] == f"ERROR: <input>:1:{column}: {text}"


@pytest.mark.parametrize("text", ["9" * 5000 + "h", "0." + "9" * 5000 + "h", "1h" * 10_000 + "x"])
def test_durations_of_very_many_digits_are_read_or_refused(text: str) -> None:
    """int() of Python takes no more than 4,300 digits; Go cuts fractions off."""
    assert parse_duration(text) == (Duration(3600 * 10**9 - 1) if text.startswith("0.") else None)
