"""Selectors: what they say, what they match, and in which words they are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubegate.api import selectors
from kubegate.api.selectors import SelectorError, from_object, parse_fields, parse_labels

X = {"app": "x", "tier": "one"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("app=x", True),
        ("app==x,tier!=one", False),
        ("app,app notin (x)", False),
        ("tier in (one, two)", True),
        ("app,!tier", False),
        ("!other", True),
        ("other!=x", True),
        ("other notin (x)", True),
        ("tier in (in,notin)", False),
        ("app=", False),
    ],
)
def test_label_selectors_match(selector, expected):
    assert parse_labels(selector).matches(X) is expected


def test_greater_and_less_compare_integers():
    assert parse_labels("rank > 4").matches({"rank": "5"})
    assert not parse_labels("rank < 5").matches({"rank": "5"})
    assert not parse_labels("rank > 4").matches({"rank": "high"})
    assert not parse_labels("rank > 4").matches({})


@pytest.mark.parametrize(
    ("selector", "error"),
    [
        ("app===x", "unable to parse requirement: found '=', expected: identifier"),
        ("app in x", "unable to parse requirement: found 'x' expected: '('"),
        ("bad key=x", "unable to parse requirement: found 'key', expected: in, notin, =, ==, !=, gt, lt"),
        (
            "rank > high",
            'unable to parse requirement: values[0]: Invalid value: "high": '
            "for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        ("app=!!", "unable to parse requirement: found '!', expected: identifier"),
        ("a,", "found '', expected: identifier after ','"),
        ("=", "found '=', expected: !, identifier, or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
    ],
)
def test_label_selectors_that_do_not_parse(selector, error):
    with pytest.raises(SelectorError) as raised:
        parse_labels(selector)
    assert str(raised.value) == error


def test_a_bad_key_is_told_without_a_path():
    with pytest.raises(SelectorError, match=r'^unable to parse requirement: <nil>: Invalid value: "a%ZZ": name part'):
        parse_labels("a%ZZ")


def test_a_bad_value_is_told_with_its_key():
    with pytest.raises(SelectorError, match=r'values\[0\]\[a\]: Invalid value: "-": a valid label must be'):
        parse_labels("a=-")


def test_selectors_are_written_in_order_of_their_keys():
    assert str(parse_labels("z,x in (foo,,baz),!y,w>4")) == "w>4,x in (,baz,foo),!y,z"


def test_the_nil_selector_matches_nothing_and_the_empty_one_everything():
    assert not from_object(None).matches({})
    assert from_object({}).matches({"a": "b"})


def test_selector_objects_match():
    selector = from_object(
        {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["one", "two"]}]}
    )
    assert selector.matches(X)
    assert not selector.matches({"app": "x"})
    with pytest.raises(SelectorError, match='"Equal" is not a valid label selector operator'):
        from_object({"matchExpressions": [{"key": "a", "operator": "Equal"}]})


@pytest.mark.parametrize(
    ("operator", "values", "text"),
    [
        ("In", [], "values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty"),
        ("Exists", ["b", "a"], 'values: Invalid value: ["b","a"]: values set must be empty for exists and'),
        ("NotIn", ["ok", "b c", "-"], '[values[1][k]: Invalid value: "b c": '),
    ],
)
def test_a_selector_object_that_selects_nothing_is_told_in_its_own_order(operator, values, text):
    with pytest.raises(SelectorError) as caught:
        from_object({"matchExpressions": [{"key": "k", "operator": operator, "values": values}]})
    assert str(caught.value).startswith(text)


def test_selector_objects_are_validated():
    errors = selectors.validate_selector(
        {
            "matchLabels": {"a": "-"},
            "matchExpressions": [
                {"key": "a", "operator": "In"},
                {"key": "a", "operator": "Exists", "values": ["b"]},
                {"key": "a", "operator": "Equal"},
                {"key": "", "operator": "Exists"},
                {"key": "a", "operator": "In", "values": ["-"]},
            ],
        },
        "spec.selector",
    )
    assert [(e.field, e.text.split(":")[0]) for e in errors] == [
        ("spec.selector.matchLabels", "Invalid value"),
        ("spec.selector.matchExpressions[0].values", "Required value"),
        ("spec.selector.matchExpressions[1].values", "Forbidden"),
        ("spec.selector.matchExpressions[2].operator", "Invalid value"),
        ("spec.selector.matchExpressions[3].key", "Invalid value"),
        ("spec.selector.matchExpressions[3].key", "Invalid value"),
        ("spec.selector.matchExpressions[4].values[0]", "Invalid value"),
    ]


def test_what_authorizers_are_told_of_labels():
    assert parse_labels("a=b,c!=d,e,!f,g>1").attributes() == [
        {"key": "a", "operator": "In", "values": ["b"]},
        {"key": "c", "operator": "NotIn", "values": ["d"]},
        {"key": "e", "operator": "Exists"},
        {"key": "f", "operator": "DoesNotExist"},
    ]


def test_field_selectors_match_and_name_exact_values():
    selector = parse_fields("metadata.name=a,status.phase!=Running")
    assert selector.matches({"metadata.name": "a", "status.phase": "Pending"})
    assert not selector.matches({"metadata.name": "a", "status.phase": "Running"})
    assert selector.exact("metadata.name") == "a"
    assert selector.exact("status.phase") is None
    assert selector.unknown(["metadata.name"]) == "status.phase"
    assert selector.attributes() == [
        {"key": "metadata.name", "operator": "In", "values": ["a"]},
        {"key": "status.phase", "operator": "NotIn", "values": ["Running"]},
    ]


def test_field_selectors_escape():
    assert parse_fields(r"a=b\,c\=d\\").requirements[0].value == "b,c=d\\"


def test_a_field_selector_of_nothing_selects_everything():
    assert parse_fields("=").empty and parse_fields("!=,==").empty


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
    ],
)
def test_field_selectors_that_do_not_parse(text, error):
    with pytest.raises(SelectorError) as raised:
        parse_fields(text)
    assert str(raised.value) == error


@given(st.text())
def test_any_text_is_a_selector_or_a_selector_error(text):
    for parse in (parse_labels, parse_fields):
        try:
            selector = parse(text)
        except SelectorError:
            continue
        assert str(parse(str(selector))) == str(selector)


def test_absurd_selectors_are_refused_at_once():
    for parse in (parse_labels, parse_fields):
        with pytest.raises(SelectorError, match="longer than"):
            parse("(" * 1_000_000)
