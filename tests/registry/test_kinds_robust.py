"""Whatever fits a kind's types is either stored or refused in words: random objects of every kind."""

from __future__ import annotations

import random
from typing import Any

import pytest
from kinds_world import Flags, context

from kubegate.api import clone
from kubegate.api.clock import SystemClock
from kubegate.api.normalize import TypeMismatch
from kubegate.api.resources import Resource, Resources
from kubegate.api.schema import Schema, schema_for
from kubegate.api.status import StatusError
from kubegate.registry import Rules, Scope
from kubegate.registry.rules import MODULES, rules_for

GROUPS = frozenset(
    {
        "", "apps", "batch", "policy", "autoscaling", "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io",
        "networking.k8s.io", "scheduling.k8s.io", "storage.k8s.io", "node.k8s.io", "flowcontrol.apiserver.k8s.io",
        "apiregistration.k8s.io",
    }
)  # fmt: skip
TIMES = {"MicroTime": "2026-01-01T00:00:00.000000Z", "Time": "2026-01-01T00:00:00Z"}
WORDS = (
    "", "a", "x y", "-", "8080", "Always", "Never", "None", "TCP", "10.0.0.1", "10.0.0.0/8", "fe80::1", "a/b", "..",
    "/x", "*", "5%", "1Gi", "In", "Exists", "Block", "Recreate", "NodePort", "LoadBalancer", "ExternalName", "Indexed",
    "0 0 * * *", "Container", "Pod", "Resource", "Utilization", "é",
)  # fmt: skip
KEYS = ("a", "cpu", "storage", "x y", "requests.cpu", "pods", "example.org/a", "hugepages-2Mi", "")


class Nothing:
    """A store with nothing in it."""

    def get(self, *_: Any) -> None:
        return None

    def list(self, *_: Any, **__: Any) -> list[Any]:
        return []

    def subscribe(self, *_: Any, **__: Any) -> Any:
        return lambda: None


class FewParts:
    """What rules ask of the registry."""

    def __init__(self) -> None:
        self.extensions: dict[str, Any] = {"options": Flags()}
        self.random, self.clock, self.reader = random.Random(1), SystemClock(), Nothing()


def some(schema: Schema, rng: random.Random, depth: int = 0) -> Any:
    """A value of a type, much of it left out."""
    if depth and rng.random() < 0.02:
        return None
    if schema.int_or_string or schema.name.endswith("IntOrString"):
        return rng.choice((0, 1, 200, "25%", "150%", "http"))
    if schema.name.endswith("Quantity"):
        return rng.choice(("1", "100m", "1Gi", "-1", "0", "1.5", 3))
    for name, text in TIMES.items():
        if schema.name.endswith(name):
            return text
    if schema.properties:
        likely = 0.55 if depth < 4 else 0.35 if depth < 8 else 0.08
        return {name: some(child, rng, depth + 1) for name, child in schema.properties.items() if rng.random() < likely}
    if schema.type == "array":
        assert schema.items is not None
        return [some(schema.items, rng, depth + 1) for _ in range(rng.choice((0, 1, 1, 2)))]
    if schema.type == "object":
        values = schema.additional
        return {} if values is None else {rng.choice(KEYS): some(values, rng, depth + 1) for _ in range(2)}
    if schema.type == "integer":
        return rng.choice((0, 1, -1, 5, 443, 65536, 2**31 - 1))
    if schema.type == "boolean":
        return rng.random() < 0.5
    if schema.format == "byte":
        return "YQ=="
    return rng.choice(WORDS)


def checked(rules: Rules, obj: Any, old: Any, scope: Scope) -> Any:
    """The object after everything that its rules do to it; None where it is refused in words."""
    try:
        if rules.default is not None:
            rules.default(obj)
            again = clone(obj)
            rules.default(again)
            assert again == obj
        meta = obj["metadata"]
        meta.update(uid="u", name=meta.get("name") or "n")
        if scope.resource.namespaced:
            meta["namespace"] = "ns"
        if rules.status:
            obj["status"] = {} if old is None else old.get("status", {})
        if rules.prepare is not None:
            rules.prepare(obj, old, scope)
        for error in rules.validate(obj, old, scope) if rules.validate is not None else ():
            assert str(error)
        if rules.warnings is not None:
            rules.warnings(obj, old)
        if rules.fields is not None:
            # status.podIPs may be asked for, as upstream, but is never filled.
            assert rules.fields(obj).keys() >= set(rules.field_labels) - {"status.podIPs"}
    except (StatusError, TypeMismatch):
        return None
    return obj


def served() -> list[Resource]:
    return [one for one in Resources.built_in() if one.group_resource in MODULES and one.group in GROUPS]


@pytest.mark.parametrize("resource", served(), ids=lambda one: f"{one.group_resource}-{one.version}")
def test_random_objects_are_stored_or_refused_in_words(resource: Resource) -> None:
    rng = random.Random(f"{resource.group_resource}/{resource.version}")
    rules, schema = rules_for(resource.group_resource), schema_for(resource.group, resource.version, resource.kind)
    assert schema is not None
    registry: Any = FewParts()
    reader: Any = registry.reader
    kind = {"kind": resource.kind, "apiVersion": resource.api_version}
    for _ in range(25):
        scope = Scope(resource, "", context(), reader, registry.clock, registry)
        first = checked(rules, some(schema, rng) | kind, None, scope)
        if first is None:
            continue
        changed = clone(first)
        other = some(schema, rng)
        changed.update({name: other[name] for name in other if name not in ("metadata", *kind)})
        checked(rules, changed, clone(first), scope)
        for name, sub in rules.subresources.items():
            inner = Scope(resource, name, context(), reader, registry.clock, registry)
            checked(Rules(prepare=sub.prepare, validate=sub.validate), clone(first), clone(first), inner)
