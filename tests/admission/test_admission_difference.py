"""What a plugin changed, as a JSON patch."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubegate.admission.difference import between, changes, members

SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab/~", max_size=3)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=4)
)
OBJECTS = st.dictionaries(st.text("ab/~", max_size=2), DOCUMENTS, max_size=4)


def applied(document, operations):
    """RFC 6902's add, remove and replace, as the RFC says them."""
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        holder = document
        for part in parents:
            holder = holder[int(part)] if isinstance(holder, list) else holder[part]
        if isinstance(holder, list):
            if operation["op"] == "add":
                assert last == "-"
                holder.append(operation["value"])
            elif operation["op"] == "remove":
                del holder[int(last)]
            else:
                holder[int(last)] = operation["value"]
        elif operation["op"] == "remove":
            del holder[last]
        else:
            assert (last in holder) is (operation["op"] == "replace")
            holder[last] = operation["value"]
    return document


@given(OBJECTS, OBJECTS)
def test_the_operations_turn_one_object_into_the_other(before, after):
    operations = between(orjson.dumps(before), orjson.dumps(after))
    assert applied(orjson.loads(orjson.dumps(before)), operations) == after


@given(OBJECTS)
def test_nothing_changed_is_no_operation(same):
    assert between(orjson.dumps(same), orjson.dumps(same)) == []


NUMBERS = st.sampled_from([0, 1, 2, 1.0, 0.0, True, False, None, "1"])
ALIKE = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        NUMBERS, lambda inner: st.lists(inner, max_size=2) | st.fixed_dictionaries({"a": inner}), max_leaves=4
    ),
)


@given(ALIKE, ALIKE)
def test_what_python_takes_for_equal_is_told_apart_as_json_is(before, after):
    operations = between(orjson.dumps(before), orjson.dumps(after))
    found = applied(orjson.loads(orjson.dumps(before)), operations)
    assert orjson.dumps(found, option=orjson.OPT_SORT_KEYS) == orjson.dumps(after, option=orjson.OPT_SORT_KEYS)


@given(OBJECTS | ALIKE, OBJECTS | ALIKE)
def test_a_state_and_the_document_as_it_is_now_differ_as_the_two_documents_do(before, after):
    assert changes(members(before), after) == between(orjson.dumps(before), orjson.dumps(after))


def test_a_state_is_reached_by_no_later_change():
    document = {"metadata": {"labels": {"a": "b"}}, "spec": {"deep": [{"x": 1}]}}
    before = members(document)
    document["metadata"]["labels"]["a"] = "c"
    document["spec"]["deep"][0]["x"] = True
    assert changes(before, document) == [
        {"op": "replace", "path": "/metadata/labels/a", "value": "c"},
        {"op": "replace", "path": "/spec/deep/0/x", "value": True},
    ]


@pytest.mark.parametrize("document", [{1: "a"}, {"a": object()}, {"a": {1: "b"}}])
def test_what_is_no_json_is_told_so(document):
    with pytest.raises(TypeError):
        changes(members({}), document)


def test_documents_whose_keys_are_in_another_order_are_the_same_however_deep():
    one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    for level in range(240):
        one, other = {"n": one, "w": level}, {"n": other, "w": level}
    assert between(orjson.dumps(one), orjson.dumps(other)) == []
