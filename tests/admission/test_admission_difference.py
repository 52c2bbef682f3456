"""What a plugin changed, as a JSON patch."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from kubegate.admission.difference import between

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
