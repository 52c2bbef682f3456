"""Objects and patches that MutatingAdmissionPolicies write."""

from __future__ import annotations

import pytest

from kubegate import cel
from kubegate.cel import types
from kubegate.cel.libraries import mutation


def evaluate(expression: str) -> object:
    return cel.compile(expression, {"object": types.DYN}, mutation=True).evaluate({"object": {"a": 1}})


def test_objects_become_json() -> None:
    made = evaluate("Object{spec: Object.spec{replicas: 2, names: ['a'], ?none: object.?none}, data: {'x': object.a}}")
    assert mutation.to_json(made) == {"spec": {"replicas": 2, "names": ["a"]}, "data": {"x": 1}}
    assert mutation.check_names(made) == []


def test_an_object_in_another_field_than_its_name_says_is_told() -> None:
    made = evaluate("Object{spec: Object.metadata{labels: {'a': Object.spec.labels{}}}}")
    assert mutation.check_names(made) == [
        'unexpected type name "Object.metadata", expected "Object.spec", which matches field name path from root '
        "Object type",
    ]


def test_patches_have_the_fields_of_json_patch_and_no_others() -> None:
    assert cel.compile("[JSONPatch{op: 'add', path: '/a', value: 1}]", {}, mutation=True).result == types.list_of(
        mutation.JSON_PATCH
    )
    with pytest.raises(cel.CompileError, match="expected type of field 'opp' is '' but provided type is 'string'"):
        evaluate("JSONPatch{opp: 'add'}")
    with pytest.raises(cel.CompileError, match="expected type of field 'op' is 'string' but provided type is 'int'"):
        evaluate("JSONPatch{op: 1}")


def test_keys_are_escaped_for_json_pointers() -> None:
    assert evaluate("jsonpatch.escapeKey('example.org/a~b')") == "example.org~1a~0b"


def test_nothing_of_this_is_there_for_other_expressions() -> None:
    with pytest.raises(cel.CompileError, match="undeclared reference to 'Object'"):
        cel.compile("Object{}", {})
