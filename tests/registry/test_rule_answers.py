"""Rules of custom resources whose answers are easily mistaken: lists without order, reserved names, costs."""

from __future__ import annotations

from typing import Any

import pytest

from kubegate.api.structural import MISSING, Structural
from kubegate.registry.apiextensions import definitionschemas, rulecosts, rules

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "namespace": {"type": "string"},
        "replicas": {"type": "integer"},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "ports": {
            "type": "array",
            "maxItems": 10,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}},
        },
        "names": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 20}},
        "numbers": {"type": "array", "items": {"type": "integer"}},
    },
}
NEW = {
    "namespace": "a",
    "replicas": 1,
    "set": ["x", "y"],
    "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}],
}
OLD = {
    "namespace": "a",
    "replicas": 2,
    "set": ["y", "x"],
    "ports": [{"name": "b", "port": 2}, {"name": "a", "port": 1}],
}


def _errors(rule: dict[str, Any], old: Any = OLD) -> list[str]:
    schema = Structural({**SCHEMA, "x-kubernetes-validations": [rule]})
    return [str(error) for error in rules.check(NEW, old, schema, [], lambda _: None)]


@pytest.mark.parametrize(
    "rule",
    [
        "self.set == oldSelf.set && self.ports == oldSelf.ports",
        "self.set + ['y', 'z'] == ['z', 'y', 'x']",
        "(self.set + ['x']).size() == 2",
        "(self.ports + dyn([{'name': dyn('a'), 'port': dyn(5)}])).map(p, p.port) == [5, 2]",
        "self.set != ['x', 'z'] && self.set != ['x']",
        "['y', 'x'] != self.set",
        "self.namespace == 'a' && self.__namespace__ == 'a' && has(self.namespace)",
    ],
)
def test_rules_that_hold(rule: str) -> None:
    assert _errors({"rule": rule}) == []


def test_a_message_may_speak_of_the_old_value() -> None:
    rule = {
        "rule": "self.replicas >= oldSelf.replicas",
        "messageExpression": "'was ' + string(oldSelf.replicas)",
    }
    assert "was 2" in _errors(rule)[0]
    unused = {"rule": "self.replicas > 5", "messageExpression": "'was ' + string(oldSelf.replicas)"}
    assert "failed rule: self.replicas > 5" in _errors(unused)[0]
    assert "failed rule: self.replicas > 5" in _errors(unused, MISSING)[0]


@pytest.mark.parametrize(
    ("rule", "cost"),
    [
        ("self.names.sort() == ['a']", 77),
        ("self.names.distinct().size() == 1", 68),
        ("self.numbers.reverse() == [1]", 1572887),
        ("self.numbers.slice(0, 1) == [1]", 25),
        ("self.ports.sortBy(p, p.port).size() > 0", 378),
        ("lists.range(3).all(x, x < 3)", 30),
    ],
)
def test_what_rules_may_cost(rule: str, cost: int) -> None:
    schema = Structural(SCHEMA)
    shape = rulecosts.shape(schema, resource=False, escaped=rules.escaped)
    known = rules._Types()
    kind = known.of(schema, "selfType")
    assert shape is not None and kind is not None
    assert rules.estimate(rule, {"self": kind}, rulecosts.sizes(shape), objects=known.objects) == cost


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "integer", "default": 1}, "Invalid value: 1: failed rule: self > 5"),
        ({"type": "integer", "default": 9}, ""),
        (
            {"x-kubernetes-preserve-unknown-fields": True},
            ".x-kubernetes-validations: Internal error: internal error: failed to construct type information for "
            "x-kubernetes-validations rules: unable to convert structural schema to CEL declarations",
        ),
    ],
)
def test_what_rules_say_of_definitions(schema: dict[str, Any], told: str) -> None:
    within = {**schema, "x-kubernetes-validations": [{"rule": "self > 5"}]}
    openapi = {"type": "object", "properties": {"a": within}}
    errors = [str(error) for error in definitionschemas.check(openapi, "spec.validation", has_status=False)]
    if not told:
        assert errors == []
    else:
        assert len(errors) == 1 and told in errors[0]


@pytest.mark.parametrize(
    ("path", "place"),
    [("['namespace']", "namespace"), (".texts['a']", "texts[a]"), (".a-b", "a-b"), ("['a-b']", "a-b"), ("", "<nil>")],
)
def test_a_rule_names_the_field_that_is_wrong(path: str, place: str) -> None:
    more = {"texts": {"type": "object", "additionalProperties": {"type": "string"}}, "a-b": {"type": "string"}}
    rule = {"rule": "false", "fieldPath": path}
    properties = {**SCHEMA["properties"], **more}
    schema = Structural({"type": "object", "properties": properties, "x-kubernetes-validations": [rule]})
    errors = rules.check(NEW, MISSING, schema, [], lambda _: None)
    assert [error.field for error in errors] == [place]
