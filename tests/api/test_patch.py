"""JSON patch and merge patch, as kube-apiserver applies and refuses them."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubegate.api.gojson import float_text, value_text
from kubegate.api.patch import MAX_OPERATIONS, json_patch, merge_patch, same, unknown_fields
from kubegate.api.status import StatusError

OBJECT = {"data": {"one": "1", "two": "2"}, "list": [1, 2, 3], "metadata": {"labels": {"x.y/z": "v"}}}


def patched(*operations: dict[str, Any], obj: dict[str, Any] = OBJECT) -> Any:
    before = orjson.dumps(obj)
    result = json_patch(obj, orjson.dumps(operations))
    assert orjson.dumps(obj) == before
    return result


def refusal(body: bytes, how: Any = json_patch) -> tuple[int, str]:
    with pytest.raises(StatusError) as caught:
        how(OBJECT, body)
    return caught.value.code, caught.value.message


def test_operations_are_done_in_order() -> None:
    result = patched(
        {"op": "test", "path": "/data/one", "value": "1"},
        {"op": "replace", "path": "/data/one", "value": "uno"},
        {"op": "add", "path": "/data/three", "value": "3"},
        {"op": "remove", "path": "/data/two"},
        {"op": "move", "from": "/data/three", "path": "/data/drei"},
        {"op": "copy", "from": "/data/one", "path": "/data/eins"},
        {"op": "remove", "path": "/metadata/labels/x.y~1z"},
    )
    assert result["data"] == {"one": "uno", "drei": "3", "eins": "uno"}
    assert result["metadata"] == {"labels": {}}


def test_lists_take_indices_from_both_ends() -> None:
    assert patched({"op": "add", "path": "/list/-", "value": 4})["list"] == [1, 2, 3, 4]
    assert patched({"op": "add", "path": "/list/0", "value": 0})["list"] == [0, 1, 2, 3]
    assert patched({"op": "add", "path": "/list/-1", "value": 4})["list"] == [1, 2, 3, 4]
    assert patched({"op": "remove", "path": "/list/-1"})["list"] == [1, 2]
    assert patched({"op": "replace", "path": "/list/1", "value": 9})["list"] == [1, 9, 3]


def test_replacing_what_is_not_there_adds_it() -> None:
    assert patched({"op": "replace", "path": "/data/absent", "value": "x"})["data"]["absent"] == "x"


def test_what_stands_before_the_first_slash_is_ignored() -> None:
    assert patched({"op": "add", "path": "data/x", "value": "x"})["x"] == "x"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/data/one", "value": "nope"},
        {"op": "test", "path": "/list/0", "value": True},
        {"op": "remove", "path": "/data/absent"},
        {"op": "add", "path": "/absent/deep", "value": 1},
        {"op": "add", "path": "/list/9", "value": 1},
        {"op": "add", "path": "/list/x", "value": 1},
        {"op": "add", "path": "", "value": 1},
        {"op": "add", "path": "/data/one/deeper", "value": 1},
        {"op": "leap", "path": "/data/one"},
        {"op": "add", "value": 1},
        {"path": "/data/one"},
        {"op": "move", "from": "/data/absent", "path": "/data/x"},
        {"op": "replace", "path": "", "value": "scalar"},
    ],
)
def test_an_operation_that_cannot_be_done_is_422_without_details(operation: dict[str, Any]) -> None:
    assert refusal(orjson.dumps([operation])) == (
        422,
        "the server rejected our request due to an error in our request",
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"a":1}', "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        (b"[1]", "json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"),
        (b'[{"op":1}]', "json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string"),
        (b"[{", "unexpected end of JSON input"),
        (b"", "unexpected end of JSON input"),
        (b"x", "invalid character 'x' looking for beginning of value"),
    ],
)
def test_what_is_no_json_patch_is_400(body: bytes, text: str) -> None:
    assert refusal(body) == (400, f"error decoding patch: {text}")


def test_operations_and_copies_are_limited() -> None:
    operations = [{"op": "test", "path": "/list/0", "value": 1}] * (MAX_OPERATIONS + 1)
    code, text = refusal(orjson.dumps(operations))
    assert code == 413
    assert text.endswith(f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got 10001")
    doubling = [{"op": "add", "path": "/a", "value": ["x" * 1000]}]
    doubling += [{"op": "copy", "from": "/a", "path": "/a/-"}] * 20
    assert refusal(orjson.dumps(doubling))[0] == 422


def test_fields_that_mean_nothing_are_told() -> None:
    operations = [{"op": "test", "path": "/list/0", "value": 1, "why": "x"}, None, {"op": "test"}]
    assert unknown_fields(operations) == ["[0].why"]


def test_merge_patches_remove_with_null_and_replace_lists() -> None:
    body = {"data": {"one": None, "new": {"a": None, "b": 1}}, "list": [{"x": None}, None], "metadata": "gone"}
    assert merge_patch(OBJECT, orjson.dumps(body)) == {
        "data": {"two": "2", "new": {"b": 1}},
        "list": [{}, None],
        "metadata": "gone",
    }


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"null", "Invalid JSON Patch"),
        (b"[1]", "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
        (b"x{", "error decoding patch: invalid character 'x' looking for beginning of value"),
        (b"", "error decoding patch: unexpected end of JSON input"),
    ],
)
def test_what_is_no_merge_patch_is_400(body: bytes, text: str) -> None:
    assert refusal(body, merge_patch) == (400, text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text("abc", max_size=1), children, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text("abc", min_size=1, max_size=1), JSON, max_size=3)


# Nulls inside lists are kept or not by what was there before: lists have none here.
MERGES = st.recursive(
    st.none() | st.booleans() | st.lists(st.integers(0, 9), max_size=2),
    lambda inner: st.dictionaries(st.text("abc", max_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS, st.dictionaries(st.text("abc", min_size=1, max_size=1), MERGES, max_size=3))
def test_a_merge_patch_applied_twice_is_applied_once(document: dict[str, Any], patch: dict[str, Any]) -> None:
    body = orjson.dumps(patch)
    once = merge_patch(document, body)
    assert merge_patch(once, body) == once


@given(JSON, JSON)
def test_json_equality_tells_true_from_one(one: Any, other: Any) -> None:
    assert same(one, other) == (orjson.dumps(one, option=32) == orjson.dumps(other, option=32))


def test_values_are_shown_as_go_shows_them() -> None:
    value = {"b": [1, "x", None], "a": {"c": True}}
    assert value_text(value) == "map[a:map[c:true] b:[1 x <nil>]]"
    assert [float_text(x) for x in (1.0, 1.5, 1e21, 1e-5)] == ["1", "1.5", "1e+21", "1e-05"]
