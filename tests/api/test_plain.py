"""Bodies that are right as they stand: what the short way takes is what the long one makes of it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from kubegate.api import Object, codec, gotypes, negotiate, normalize, plain
from kubegate.api.schema import Schema, schema_for

REVIEW = ("authorization.k8s.io", "v1", "SubjectAccessReview")
CONFIG_MAP = ("", "v1", "ConfigMap")
ROLE = ("rbac.authorization.k8s.io", "v1", "Role")
BINDING = ("rbac.authorization.k8s.io", "v1", "RoleBinding")
TOKEN_REVIEW = ("authentication.k8s.io", "v1", "TokenReview")
KINDS = (REVIEW, CONFIG_MAP, ROLE, BINDING, TOKEN_REVIEW, ("", "v1", "ServiceAccount"))
PLAIN = ("a", "get", "pods", "x: y")
ODD = ("ü", "\u2028", '"', "\\", "\n", "{}", "[]", "", "0", "null", ":", "\ud800", None, True, 0, 1.5)


def long_way(body: bytes, kind: tuple[str, str, str], completing: bool) -> tuple[Object, Any]:
    document = codec.decode_object(body, negotiate.JSON, kind, gotypes.registered)
    schema = schema_for(*kind)
    assert schema is not None
    found = normalize.of_document(document, schema, completing=completing)
    return found.value, (document.duplicates, found.unknown)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        (REVIEW, {"spec": {"user": "a", "groups": ["b"], "resourceAttributes": {"verb": "get"}}}),
        (REVIEW, {"metadata": {"name": "a"}, "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}),
        (CONFIG_MAP, {"metadata": {"name": "a", "labels": {"x": "y"}}, "data": {"k": 'v: "\\"\n'}}),
        (ROLE, {"metadata": {"name": "a"}, "rules": [{"verbs": ["get"], "resources": ["pods"]}]}),
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_usual_bodies_take_the_short_way(kind: tuple[str, str, str], sent: Object, separators: tuple[str, str]) -> None:
    body = json.dumps(sent, separators=separators).encode()
    short = plain.decode(body, kind, completing=kind is not REVIEW)
    assert short == long_way(body, kind, kind is not REVIEW)[0]
    assert short is not None and list(short)[-2:] == ["apiVersion", "kind"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": {"a": "b"}}',  # metadata, which Go writes whether or not it is sent
        b'{"metadata": {"name": "a"}, "data": {"k": ""}}',
        b'{"metadata": {"name": "a"}, "data": {}}',
        b'{"metadata": {"name": "a", "finalizers": [ ]}}',
        b'{"metadata": {"name": "a"}, "immutable": true}',
        b'{"metadata": {"name": "a"}, "binaryData": {"a": "AAAA"}}',
        b'{"metadata": {"name": "a", "creationTimestamp": null}}',
        b'{"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00+01:00"}}',
        b'{"metadata": {"name": "a", "name": "b"}}',
        b'{"metadata": {"name": "a", "n\\u0061me": "b"}}',
        b'{"metadata": {"name": "\\u003a", "x": "b"}}',  # a colon less, and one more
        b'{"metadata": {"name": "a"}, "unknown": 1}',
        b'{"metadata": {"name": 1}}',
        b'{"metadata": {"name": "a"}, "kind": "Secret"}',
        b'{"metadata": {"name": "a"}, "kind": "ConfigMap"}',
        b'{"metadata": {"name": "\\ud83d"}}',
        '{"metadata": {"name": "ü"}}'.encode(),
        b'{"metadata": {"name": "a"}} x',
        b'[{"metadata": {"name": "a"}}]',
        b'{"metadata": {"name": "a"}, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"",
    ],
)
def test_all_others_are_looked_at(body: bytes) -> None:
    assert plain.decode(body, CONFIG_MAP, completing=True) is None


def test_kinds_with_numbers_do_not_take_it() -> None:
    assert plain.decode(b'{"metadata":{"name":"a"}}', ("", "v1", "Pod"), completing=False) is None


def test_whatever_takes_the_short_way_is_what_the_long_one_makes_of_it() -> None:
    chance = random.Random(7)
    taken = 0
    for _ in range(4000):
        kind = chance.choice(KINDS)
        schema = schema_for(*kind)
        assert schema is not None
        body = _text(_members(schema, chance, 0), chance).encode("utf-8", "surrogatepass")
        for completing in (False, True):
            short = plain.decode(body, kind, completing=completing)
            if short is not None:
                value, told = long_way(body, kind, completing)
                assert (short, list(short), told) == (value, list(value), ((), ())), body
                taken += 1
    assert taken > 500


class _Members(list[tuple[str, Any]]):
    """An object, in which names may be repeated."""


def _members(schema: Schema, chance: random.Random, depth: int) -> _Members:
    """Fields of a type, now and then one twice, or one that it has not."""
    found = []
    for name, child in schema.properties.items():
        odd = child.type in ("boolean", "integer") or child.format or name in ("apiVersion", "kind", "status")
        if chance.random() < (0.02 if odd else 0.9 if depth == 0 else 0.2):
            found.append(name)
    if chance.random() < 0.02:
        found += [*found[:1], "unknown"][: chance.randint(1, 2)]
    return _Members([(name, _value(schema.properties.get(name), chance, depth + 1)) for name in found])


def _value(schema: Schema | None, chance: random.Random, depth: int) -> Any:
    if schema is None or chance.random() < 0.01:
        return chance.choice((*ODD, [], {}))
    if schema.type == "array":
        return [_value(schema.items, chance, depth) for _ in range(chance.choice((0, 1, 1, 1, 1, 2, 2, 2)))]
    if schema.properties:
        return _members(schema, chance, depth)
    if schema.type == "object":
        return _Members([(chance.choice("abc"), _value(schema.additional, chance, depth))])
    return chance.choice(PLAIN) if schema.type == "string" else {"boolean": True, "integer": 1}.get(schema.type)


def _text(value: Any, chance: random.Random) -> str:
    if isinstance(value, _Members):
        space = " " if chance.random() < 0.3 else ""
        return "{" + ",".join(f"{json.dumps(name)}{space}:{_text(item, chance)}" for name, item in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(item, chance) for item in value) + "]"
    return json.dumps(value, ensure_ascii=chance.random() < 0.5)
