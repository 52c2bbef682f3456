"""What rules of custom resources may cost at most, told from the schema: the figures are kube-apiserver's."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kubegate import cel
from kubegate.api.structural import Structural
from kubegate.registry.apiextensions import rulecosts, rules

Object = dict[str, Any]

STRING: Object = {"type": "string", "maxLength": "LIMIT"}
REQUIRED: Object = {
    "type": "object",
    "required": ["required"],
    "properties": {"required": {"type": "string"}, "optional": {"type": "string"}},
}


def array(items: Object | str) -> Object:
    return {"type": "array", "maxItems": "LIMIT", "items": scalar(items)}


def mapping(values: Object | str) -> Object:
    return {"type": "object", "maxProperties": "LIMIT", "additionalProperties": scalar(values)}


def scalar(kind: Object | str) -> Object:
    if isinstance(kind, dict):
        return kind
    if kind == "int-or-string":
        return {"x-kubernetes-int-or-string": True}
    if kind in ("duration", "date", "date-time", "byte"):
        return {"type": "string", "format": kind}
    return {"type": kind}


def limited(schema: Any, limit: int | None) -> Any:
    """The schema with a number for each LIMIT, or without them."""
    if isinstance(schema, list):
        return [limited(item, limit) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {}
    for name, value in schema.items():
        if value == "LIMIT":
            if limit is not None:
                found[name] = limit
        else:
            found[name] = limited(value, limit)
    return found


def cost(openapi: Object, rule: str) -> int:
    schema = Structural(openapi)
    shape = rulecosts.shape(schema, resource=False, escaped=rules.escaped)
    known = rules._Types()
    kind = known.of(schema, "selfType")
    assert shape is not None and kind is not None
    variables = {"self": kind, "oldSelf": kind}
    return cel.estimate(rule, variables, rulecosts.sizes(shape), objects=known.objects)


@pytest.mark.parametrize(
    ("schema", "rule", "unlimited", "limit", "cost_with_limit"),
    [
        (array("number"), "self.all(x, true)", 4718591, 10, 32),
        (array("string"), "self.all(x, true)", 3145727, 20, 62),
        (array("boolean"), "self.all(x, true)", 1887437, 5, 17),
        (array({"type": "array", "items": {"type": "number"}}), "self.all(x, true)", 3145727, 100, 302),
        (array(REQUIRED), "self.all(x, true)", 555128, 50, 152),
        (array("duration"), "self.all(x, true)", 2359295, 5, 17),
        (array("date"), "self.all(x, true)", 725936, 15, 47),
        (array("date-time"), "self.all(x, true)", 428963, 25, 77),
        (array("int-or-string"), "self.all(x, true)", 4718591, 10, 32),
        (mapping("number"), "self.all(x, true)", 1348169, 10, 32),
        (mapping("string"), "self.all(x, true)", 1179647, 3, 11),
        (mapping("boolean"), "self.all(x, true)", 943718, 100, 302),
        (mapping("int-or-string"), "self.all(x, true)", 1348169, 15, 47),
        (mapping(REQUIRED), "self.all(x, true)", 428963, 20, 62),
        (mapping("duration"), "self.all(x, true)", 1048577, 5, 17),
        (mapping("date"), "self.all(x, true)", 524288, 10, 32),
        (mapping("date-time"), "self.all(x, true)", 349526, 25, 77),
        (mapping("number"), "has(self.x)", 1, 100, 1),
        (STRING, "self.contains('test')", 314574, 10, 5),
        (STRING, "self.startsWith('test')", 2, 15, 2),
        (STRING, 'size(self + "hello") > size("hello")', 314578, 4, 7),
        (STRING, 'self.matches("x")', 314574, 50, 22),
        (STRING, '"".matches("(((((((((())))))))))[0-9]")', 7, 10, 7),
        (STRING, 'self.matches("")', 1, 100, 1),
        (STRING, 'self == "x"', 2, 0, 1),
        (STRING, "self.find('[0-9]+') == ''", 629147, 10, 11),
        (STRING, "self.lowerAscii() == 'lower!'", 314575, 10, 6),
        (array("number"), "self[1] == 0.0", 2, 5000, 2),
        (array("string"), "self[1] == self[1]", 314577, 8, 314577),
        (array("boolean"), "self[0] == false", 2, 25, 2),
        (array("int-or-string"), "self[0] == 5", 3, 10, 3),
        (array("duration"), "self[0].getHours() == 2", 4, 525, 4),
        (array({"type": "array", "items": {"type": "number"}}), "self[0][0] == -1.0", 3, 51, 3),
        (array("number"), "self.all(x, x == 0.0)", 6291454, 3 * 1024 * 2048, 25165826),
        (array(mapping("number") | {"maxProperties": 9}), "self.all(x, x.y == 25.2)", 6291452, 12, 74),
        (array(mapping("number") | {"maxProperties": 9}), "self[0].x > 2.0", 4, 3000, 4),
        (mapping("integer"), "oldSelf.size() == self.size()", 5, 10, 5),
        (mapping("date-time"), 'self["a"] == self["b"]', 8, 7, 8),
        (mapping("duration"), 'self["c"] == self["d"]', 8, 42, 8),
        (mapping(STRING), "self.all(x, x.contains(self[x]))", 2752507, 10, 72),
        (array(mapping(REQUIRED)), 'self.all(x, x["y"].required == "z")', 7340027, 10, 72),
        (array(STRING), "self.join(' ') == 'aa bb'", 329853068905, 10, 43),
        (array(STRING), "self.isSorted() == true", 329854432052, 10, 52),
        ({"type": "string", "enum": ["A", "LongValue"], "maxLength": "LIMIT"}, "self.contains('A')", 2, 1000, 401),
    ],
)
def test_the_dearest_that_a_rule_can_be(
    schema: Object, rule: str, unlimited: int, limit: int, cost_with_limit: int
) -> None:
    assert cost(limited(schema, None), rule) == unlimited
    assert cost(limited(schema, limit), rule) == cost_with_limit


@pytest.mark.parametrize(
    ("rule", "unlimited", "limit", "cost_with_limit"),
    [
        ("self.str.replace(self.before, self.after) == 'does not matter'", 629154, 4, 12),
        ("self.str.split(self.separator) == []", 629160, 10, 22),
    ],
)
def test_results_of_functions_have_sizes(rule: str, unlimited: int, limit: int, cost_with_limit: int) -> None:
    before, after = {"type": "string", "maxLength": 2}, {"type": "string", "maxLength": 4}
    properties = {"str": STRING, "separator": STRING, "before": before, "after": after}
    schema = {"type": "object", "properties": properties}
    assert cost(limited(schema, None), rule) == unlimited
    assert cost(limited(schema, limit), rule) == cost_with_limit


# --- definitions


def definition(rule: str, message: str = "", **limits: int) -> list[str]:
    """The errors of a definition with a list of texts, and a rule about it."""
    items = {"type": "string"}
    if "length" in limits:
        items["maxLength"] = limits["length"]
    names: Object = {"type": "array", "items": items}
    if "items" in limits:
        names["maxItems"] = limits["items"]
    said = {"rule": rule, **({"messageExpression": message} if message else {})}
    spec = {"type": "object", "properties": {"names": names}, "x-kubernetes-validations": [said]}
    found = rules.check_definition({"type": "object", "properties": {"spec": spec}}, "schema")
    return [str(error) for error in found]


def test_a_rule_that_may_cost_too_much_is_refused_and_limits_help() -> None:
    rule = "self.names.all(x, self.names.all(y, x == y || x != y))"
    advice = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"  # noqa: E501
    place = "schema.properties[spec].x-kubernetes-validations[0].rule"
    assert definition(rule) == [
        f"{place}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {advice}",
        f"{place}: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire "
        "OpenAPIv3 schema",
        "schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds "
        f"budget by factor of more than 100x {advice}",
    ]
    assert definition(rule, items=100, length=20) == []


def test_a_factor_is_told_with_the_digits_that_matter() -> None:
    rule = "self.names.all(x, self.names.all(y, x == y))"
    [told] = definition(rule, items=800, length=30)
    assert "exceeds budget by factor of 1.088480x (try" in told
    [told] = definition(rule, items=2000, length=30)
    assert "exceeds budget by factor of 6.8x (try" in told


def test_messages_may_cost_too_much_as_well() -> None:
    [told, *_] = definition("true", "self.names.map(x, self.names.map(y, x + y).join('')).join('')")
    assert told.startswith(
        "schema.properties[spec].x-kubernetes-validations[0].messageExpression: Forbidden: estimated"
    )


def test_a_rule_counts_as_often_as_its_place_may_occur() -> None:
    item: Object = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 100}},
        "x-kubernetes-validations": [{"rule": "self.name.contains('xxxxxxxxxxxxxxxxxxxx')"}],
    }
    listed = {"type": "array", "items": item}

    def errors(schema: Object) -> list[str]:
        return [error.text for error in rules.check_definition(copy.deepcopy(schema), "schema")]

    assert errors({"type": "object", "properties": {"few": {**listed, "maxItems": 10}}}) == []
    assert "more than 1" not in "".join(errors({"type": "object", "properties": {"many": listed}}))
    assert len(errors({"type": "object", "properties": {"many": listed}})) > 0
