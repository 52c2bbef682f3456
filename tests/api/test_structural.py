"""Structural schemas: pruning, defaulting, and the checks of values in kube-apiserver's words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubegate.api import field, structural, valuecheck
from kubegate.api.formats import fits
from kubegate.api.structural import MISSING, Structural

SCHEMA = Structural(
    {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 9},
                    "ratio": {"type": "number", "exclusiveMinimum": True, "minimum": 0, "multipleOf": 0.5},
                    "mode": {"type": "string", "enum": ["slow", "fast"], "default": "slow"},
                    "code": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 4, "minLength": 2},
                    "when": {"type": "string", "format": "date-time"},
                    "list": {"type": "array", "maxItems": 2, "minItems": 1, "items": {"type": "string"}},
                    "port": {"x-kubernetes-int-or-string": True},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    "sub": {
                        "type": "object",
                        "default": {},
                        "properties": {"lit": {"type": "boolean", "default": True}},
                    },
                    "maybe": {"type": "string", "nullable": True},
                    "map": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "integer"}},
                    "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "ports": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["port", "protocol"],
                        "items": {
                            "type": "object",
                            "properties": {
                                "port": {"type": "integer"},
                                "protocol": {"type": "string", "default": "TCP"},
                            },
                        },
                    },
                    "one": {
                        "type": "object",
                        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                    },
                    "any": {"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]},
                    "all": {"type": "integer", "allOf": [{"minimum": 5}, {"maximum": 7}]},
                    "none": {"type": "string", "not": {"enum": ["bad"]}},
                    "pod": {
                        "type": "object",
                        "x-kubernetes-embedded-resource": True,
                        "x-kubernetes-preserve-unknown-fields": True,
                    },
                },
            }
        },
    }
)


def errors(old: Any = MISSING, **spec: Any) -> list[tuple[str, str]]:
    value = {"spec": {"size": 1, **spec}}
    found = valuecheck.check(value, SCHEMA, old) + valuecheck.check_lists(value, SCHEMA)
    return [(error.field, error.text) for error in found]


def test_what_fits_has_no_errors() -> None:
    assert (
        errors(
            size=3,
            ratio=0.5,
            mode="fast",
            code="ab",
            when="2026-01-01T00:00:00Z",
            list=["x"],
            port="http",
            free={"a": 1},
            maybe=None,
            map={"a": 1},
            set=["a"],
            ports=[{"port": 1}],
            one={"a": "x"},
            any=5,
            all=6,
            none="good",
            sub={},
        )
        == []
    )
    assert errors(port=80, ratio=1.0, size=2.0) == []


@pytest.mark.parametrize(
    ("spec", "where", "text"),
    [
        ({"size": "x"}, "spec.size", 'Invalid value: "string": spec.size in body must be of type integer: "string"'),
        ({"size": 1.5}, "spec.size", 'Invalid value: "number": spec.size in body must be of type integer: "number"'),
        ({"size": True}, "spec.size", 'Invalid value: "boolean": spec.size in body must be of type integer: "boolean"'),
        ({"size": None}, "spec.size", 'Invalid value: "null": spec.size in body must be of type integer: "null"'),
        ({"size": 10}, "spec.size", "Invalid value: 10: spec.size in body should be less than or equal to 9"),
        ({"size": 0}, "spec.size", "Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        (
            {"size": 1.5},
            "<nil>",
            'Invalid value: "": Checked value must be of type integer (default format) in spec.size',
        ),
        (
            {"ratio": 1},
            "spec.ratio",
            "Invalid value: 0: factor MultipleOf declared for spec.ratio must be positive: 0",
        ),
        ({"ratio": 0}, "spec.ratio", "Invalid value: 0: spec.ratio in body should be greater than 0"),
        ({"ratio": 0.7}, "spec.ratio", "Invalid value: 0.7: spec.ratio in body should be a multiple of 0.5"),
        ({"mode": "x"}, "spec.mode", 'Unsupported value: "x": supported values: "slow", "fast"'),
        ({"code": "A1"}, "spec.code", "Invalid value: \"A1\": spec.code in body should match '^[a-z]+$'"),
        ({"code": "ab\n"}, "spec.code", "Invalid value: \"ab\\n\": spec.code in body should match '^[a-z]+$'"),
        ({"code": "abcde"}, "spec.code", "Too long: may not be more than 4 bytes"),
        ({"code": "a"}, "spec.code", 'Invalid value: "a": spec.code in body should be at least 2 chars long'),
        ({"when": "now"}, "spec.when", 'Invalid value: "now": spec.when in body must be of type date-time: "now"'),
        ({"list": ["a", "b", "c"]}, "spec.list", "Too many: 3: must have at most 2 items"),
        ({"list": []}, "spec.list", "Invalid value: 0: spec.list in body should have at least 1 items"),
        (
            {"list": [1]},
            "spec.list[0]",
            'Invalid value: "integer": spec.list[0] in body must be of type string: "integer"',
        ),
        (
            {"port": True},
            "spec.port",
            'Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"',
        ),
        (
            {"map": {"a": "x"}},
            "spec.map.a",
            'Invalid value: "string": spec.map.a in body must be of type integer: "string"',
        ),
        ({"map": {"a": 1, "b": 2}}, "spec.map", "Too many: 2: must have at most 1 item"),
        ({"set": ["a", "b", "a", "a"]}, "spec.set[2]", 'Duplicate value: "a"'),
        (
            {"ports": [{"port": 1, "protocol": "TCP"}] * 3},
            "spec.ports[1]",
            'Duplicate value: {"port":1,"protocol":"TCP"}',
        ),
        (
            {"one": {}},
            "<nil>",
            'Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found none valid',
        ),
        (
            {"one": {"a": "x", "b": "y"}},
            "<nil>",
            'Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found 2 valid alternatives',
        ),
        ({"any": 3}, "<nil>", 'Invalid value: "": "spec.any" must validate at least one schema (anyOf)'),
        ({"all": 9}, "<nil>", 'Invalid value: "": "spec.all" must validate all the schemas (allOf)'),
        ({"none": "bad"}, "<nil>", 'Invalid value: "": "spec.none" must not validate the schema (not)'),
    ],
)
def test_what_does_not_fit_is_told_in_kube_apiservers_words(spec: dict[str, Any], where: str, text: str) -> None:
    assert (where, text) in errors(**spec)


def test_a_field_that_is_required_is_missed_by_its_path() -> None:
    found = valuecheck.check({}, SCHEMA)
    assert [(e.reason, e.field, e.text) for e in found] == [("FieldValueRequired", "spec", "Required value")]


def test_what_an_update_does_not_touch_is_not_held_against_it() -> None:
    old = {"spec": {"size": 99, "mode": "gone", "ports": [{"port": "x"}]}}
    assert errors(old, size=99, mode="gone") == []
    assert errors(old, size=98, mode="gone")[0][0] == "spec.size"
    kept = errors(old, ports=[{"port": 2}, {"port": "x"}])
    assert kept == []
    assert errors(old, list=[1], size=99) != []


def test_pruning_takes_what_is_unknown_and_says_where_it_was() -> None:
    obj = {
        "apiVersion": "v1",
        "metadata": {"anything": 1},
        "other": 1,
        "spec": {
            "extra": 1,
            "free": {"x": {"y": 1}},
            "map": {"any": 1},
            "ports": [{"port": 1, "more": 2}],
            "pod": {"kind": "Pod", "metadata": {"name": "x"}, "spec": {}},
        },
    }
    assert structural.prune(obj, SCHEMA) == ["other", "spec.extra", "spec.ports[0].more"]
    assert obj["spec"]["free"] == {"x": {"y": 1}} and obj["spec"]["pod"]["spec"] == {}
    assert "other" not in obj and obj["metadata"] == {"anything": 1}


def test_defaults_fill_what_is_missing_and_nulls_where_none_may_be() -> None:
    obj = {"spec": {"size": None, "mode": None, "maybe": None, "sub": {}, "ports": [{"port": 1}]}}
    structural.default(obj, SCHEMA)
    assert obj["spec"] == {
        "mode": "slow",
        "maybe": None,
        "sub": {"lit": True},
        "ports": [{"port": 1, "protocol": "TCP"}],
    }


def test_a_default_is_not_shared_between_objects() -> None:
    one: dict[str, Any] = {"spec": {}}
    two: dict[str, Any] = {"spec": {}}
    structural.default(one, SCHEMA)
    structural.default(two, SCHEMA)
    one["spec"]["sub"]["lit"] = False
    assert two["spec"]["sub"] == {"lit": True}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2026-01-02T03:04:05.5+01:00", "2026-01-02"),
        ("date", "2026-01-02", "2026-13-02"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "::1", "10.0.0.1"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("byte", "YQ==", "a"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "x"),
        ("hostname", "example.org", "-x"),
        ("uri", "https://example.org/x", "no scheme"),
        ("duration", "1h30m", "soon"),
        ("mac", "01:23:45:67:89:ab", "01:23"),
        ("email", "a@example.org", "a"),
    ],
)
def test_formats(name: str, good: str, bad: str) -> None:
    assert fits(name, good) and not fits(name, bad)


def texts(schema: dict[str, Any], value: Any) -> list[str]:
    return [str(error) for error in valuecheck.check(value, Structural(schema), path="a")]


def test_bounds_are_shown_as_the_value_is_compared_with_them() -> None:
    whole = {"type": "integer", "minimum": 1000000}
    assert texts(whole, 5) == ["a: Invalid value: 5: a in body should be greater than or equal to 1000000"]
    assert texts(whole, 5.0) == ["a: Invalid value: 5: a in body should be greater than or equal to 1e+06"]
    assert texts({"type": "number", "maximum": 1.5}, 2) == [
        "a: Invalid value: 2: a in body should be less than or equal to 1"
    ]
    assert texts({"type": "number", "maximum": 1.5}, 1e7) == [
        "a: Invalid value: 1e+07: a in body should be less than or equal to 1.5"
    ]
    assert texts({"type": "number", "minimum": 1.5}, 1) == []
    assert texts({"type": "integer", "minimum": 1.5}, 1) == [
        '<nil>: Invalid value: "": Minimum boundary value must be of type integer (default format) in a',
        "a: Invalid value: 1: a in body should be greater than or equal to 1.5",
    ]
    assert texts({"type": "number", "multipleOf": 0.5}, 1) == [
        "a: Invalid value: 0: factor MultipleOf declared for a must be positive: 0"
    ]


def test_formats_that_say_nothing_of_a_type_are_not_asked_for() -> None:
    assert texts({"type": "string", "format": "colour"}, True) == [
        'a: Invalid value: "boolean": a in body must be of type string: "boolean"'
    ]
    assert texts({"type": "string", "format": "date"}, True) == [
        'a: Invalid value: "": a in body must be of type date: ""'
    ]
    assert texts({"format": "date"}, 5) == ['a: Invalid value: "int64": a in body must be of type date: "int64"']
    assert texts({"type": "string", "format": "date"}, []) == []


def test_of_alternatives_the_one_that_looked_most_closely_tells_its_errors() -> None:
    schema = {
        "type": "object",
        "properties": {"b": {"type": "integer"}},
        "anyOf": [{"required": ["c"]}, {"properties": {"b": {"maximum": 1}}, "required": ["d", "e"]}],
    }
    assert texts(schema, {"b": 2}) == [
        '<nil>: Invalid value: "": "a" must validate at least one schema (anyOf)',
        "a.b: Invalid value: 2: a.b in body should be less than or equal to 1",
        "a.d: Required value",
        "a.e: Required value",
    ]
    schema["anyOf"] = [{"required": ["c", "d"]}, {"required": ["c"]}]
    assert len(texts(schema, {"b": 2})) == 3


def test_what_is_told_twice_is_told_once_and_one_byte_is_one_byte() -> None:
    choices = [{"maxLength": 1}, {"maxLength": 1}]
    assert texts({"type": "string", "allOf": choices}, "ab") == [
        "a: Too long: may not be more than 1 byte",
        '<nil>: Invalid value: "": "a" must validate all the schemas (allOf). None validated',
    ]
    assert texts({"type": "object", "enum": ["x"]}, {"b": 1.0}) == [
        'a: Unsupported value: {"b":1}: supported values: "x"'
    ]
    assert (
        texts({"type": "string", "enum": [None, "x"]}, None)[-1]
        == 'a: Unsupported value: null: supported values: "null", "x"'
    )
    assert len(texts({"type": "string", "nullable": True, "enum": ["x"]}, None)) == 1
    assert texts({"type": "number", "enum": [1]}, 1.5) == []


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2026-01-02t03:04:05_5ztomorrow", "2026-01-02T03:04Z"),
        ("date-time", "2026-01-02T03:04:05+99:99", "2026-01-02T03:04:05+0100"),
        ("date", "0000-02-29", "2026-W01-1"),
        ("duration", "about 3 Days", "3 years"),
        ("duration", "1.5h", "1 fortnight"),
        ("hostname", "localhost", "example.com1"),
        ("hostname", "bücher", "-a"),
        ("ipv4", "010.0.0.1", "10.1"),
        ("ipv6", "::ffff:1.2.3.4", "fe80::1%eth0"),
        ("cidr", "010.0.0.0/08", "10.0.0.0/255.0.0.0"),
        ("uri", "/a b", "a/b"),
        ("uri", "urn:a b", "http://a:b/"),
        ("uri", "http://u:p@[::1]:80/?%zz", "http://[::1/"),
        ("uri", "*", "https://a/%zz"),
        ("uri", "x://a:1:2", "http://a:1:2"),
        ("email", 'A "b" <a@b.c> (x(y))', "a..b@c"),
        ("email", "a@[1.2.3.4]", "a@b c"),
        ("email", '"a b"@c', "<a@b"),
        ("mac", "0123.4567.89ab", "01:23-45:67:89:ab"),
        ("mac", "01-23-45-67-89-ab-cd-ef", "01:23:45:67:89:ab:cd"),
        ("byte", "YWJj", ""),
        ("ssn", "111-11 1111", "111111111"),
        ("rgbcolor", "rgb( 0 ,10,255)", "rgb(256,1,1)"),
        ("creditcard", "4111-1111-1111-1111", "4111111111111112"),
        ("isbn", "978-0-321-75104-1", "0321751042"),
        ("isbn10", "0-8044-2957-X", "9780321751041"),
        ("isbn13", "9780321751041", "9780321751042"),
    ],
)
def test_formats_have_their_oddities(name: str, good: str, bad: str) -> None:
    assert fits(name, good) and not fits(name, bad)


def test_formats_of_long_texts_are_checked_in_linear_time() -> None:
    for text in ("1" * 300_000, "1 " * 300_000, "a" * 300_000, "(" * 300_000, '"' * 300_000):
        assert not fits("duration", text) and not fits("email", text) and not fits("mac", text)


def test_formats_that_nobody_knows_fit_everything() -> None:
    assert fits("colour", "anything")


def test_patterns_cost_no_more_than_the_text_is_long() -> None:
    schema = Structural({"type": "string", "pattern": "^(a+)+$"})
    assert valuecheck.check("a" * 5000 + "b", schema) != []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["size", "sub", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*SCHEMA.properties["spec"].properties, "x"]), VALUES, max_size=5))
def test_whatever_comes_is_pruned_once_defaulted_once_and_checked_without_failing(spec: dict[str, Any]) -> None:
    obj: dict[str, Any] = {"spec": spec}
    structural.prune(obj, SCHEMA)
    assert structural.prune(obj, SCHEMA) == []
    structural.default(obj, SCHEMA)
    once = repr(obj)
    structural.default(obj, SCHEMA)
    assert repr(obj) == once
    valuecheck.check(obj, SCHEMA)
    assert valuecheck.check(obj, SCHEMA, obj) == []


def test_errors_show_integers_of_any_size() -> None:
    assert field.shown(-(2**63) - 1) == "-9223372036854775809"
    assert field.shown({"a": [2**64]}) == '{"a":[18446744073709551616]}'
