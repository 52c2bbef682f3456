"""Strategic merge patches: keys, directives, order, and the errors of each."""

from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kubegate.api.schema import schema_for
from kubegate.api.status import StatusError
from kubegate.api.strategic import strategic_merge_patch


def patched(obj: dict[str, Any], patch: dict[str, Any], kind: tuple[str, str, str] = ("", "v1", "Service")) -> Any:
    return strategic_merge_patch(obj, orjson.dumps(patch), schema_for(*kind))


def refusal(obj: dict[str, Any], patch: Any, kind: tuple[str, str, str] = ("", "v1", "Service")) -> tuple[int, str]:
    with pytest.raises(StatusError) as caught:
        patched(obj, patch, kind)
    return caught.value.code, caught.value.message


SERVICE = {"spec": {"ports": [{"port": 1, "name": "x"}, {"port": 2, "name": "y"}], "selector": {"a": "b"}}}


def test_list_elements_merge_by_their_key() -> None:
    result = patched(SERVICE, {"spec": {"ports": [{"port": 2, "targetPort": 22}, {"port": 3}], "selector": {"c": "d"}}})
    assert result["spec"] == {
        "ports": [{"port": 1, "name": "x"}, {"port": 2, "name": "y", "targetPort": 22}, {"port": 3}],
        "selector": {"a": "b", "c": "d"},
    }


def test_elements_are_deleted_and_maps_replaced_by_directive() -> None:
    patch = {"spec": {"ports": [{"port": 1, "$patch": "delete"}], "selector": {"$patch": "replace", "e": "f"}}}
    assert patched(SERVICE, patch)["spec"] == {"ports": [{"port": 2, "name": "y"}], "selector": {"e": "f"}}


def test_a_list_is_replaced_by_directive() -> None:
    patch = {"spec": {"ports": [{"port": 7}, {"$patch": "replace"}]}}
    assert patched(SERVICE, patch)["spec"]["ports"] == [{"port": 7}]


def test_a_map_is_emptied_by_directive() -> None:
    assert patched(SERVICE, {"spec": {"selector": {"$patch": "delete"}}})["spec"]["selector"] == {}


def test_the_order_of_elements_is_what_the_patch_says() -> None:
    patch = {"spec": {"$setElementOrder/ports": [{"port": 2}, {"port": 1}], "ports": [{"port": 2, "name": "zz"}]}}
    assert patched(SERVICE, patch)["spec"]["ports"] == [{"port": 2, "name": "zz"}, {"port": 1, "name": "x"}]


def test_elements_that_only_the_server_has_keep_their_place() -> None:
    obj = {"spec": {"ports": [{"port": n} for n in (1, 2, 3, 4)]}}
    patch = {"spec": {"$setElementOrder/ports": [{"port": 4}, {"port": 2}]}}
    assert [p["port"] for p in patched(obj, patch)["spec"]["ports"]] == [1, 3, 4, 2]


def test_primitive_lists_are_merged_without_duplicates() -> None:
    obj = {"metadata": {"finalizers": ["a", "b"]}}
    assert patched(obj, {"metadata": {"finalizers": ["b", "c"]}})["metadata"]["finalizers"] == ["a", "b", "c"]
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}
    assert patched(obj, patch)["metadata"]["finalizers"] == ["c", "b"]


def test_atomic_lists_are_replaced_whole_directives_and_all() -> None:
    role = {"rules": [{"verbs": ["get"]}]}
    kind = ("rbac.authorization.k8s.io", "v1", "Role")
    assert patched(role, {"rules": [{"$patch": "replace"}]}, kind)["rules"] == [{"$patch": "replace"}]


def test_retain_keys_clears_what_it_does_not_name() -> None:
    obj = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    kind = ("apps", "v1", "Deployment")
    assert patched(obj, patch, kind)["spec"]["strategy"] == {"type": "Recreate"}
    wrong = {"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}}
    assert refusal(obj, wrong, kind) == (400, "invalid patch format of retainKeys")


def test_what_is_new_comes_without_nulls_and_maps_that_are_directives() -> None:
    patch = {"spec": {"sessionAffinityConfig": {"clientIP": {"$patch": "replace", "timeoutSeconds": 5}}}}
    assert patched({"spec": {}}, patch)["spec"] == {"sessionAffinityConfig": {}}
    patch = {"spec": {"sessionAffinityConfig": {"$retainKeys": ["clientIP"], "clientIP": {"timeoutSeconds": None}}}}
    found = patched({"spec": {}}, patch)["spec"]["sessionAffinityConfig"]
    assert found == {"$retainKeys": ["clientIP"], "clientIP": {}}
    patch = {"spec": {"externalIPs": ["a"], "ports": [{"port": 1, "name": None}, {"port": 2, "$patch": "delete"}]}}
    assert patched({"spec": {}}, patch)["spec"] == {"externalIPs": ["a"], "ports": [{"port": 1}]}


def test_errors_are_kubernetes_own() -> None:
    assert refusal(SERVICE, {"spec": {"ports": [{"name": "x"}]}}) == (
        500,
        "map: map[name:x] does not contain declared merge key: port",
    )
    assert refusal(SERVICE, {"spec": {"selector": {"$patch": "turn"}}}) == (
        500,
        "unknown patch type: turn in map: map[$patch:turn]",
    )
    assert refusal(SERVICE, {"spec": {"$setElementOrder/ports": 1}})[0] == 500
    assert refusal(SERVICE, {"spec": {"$deleteFromPrimitiveListX": []}}) == (
        400,
        "invalid patch format of primitive list",
    )
    order = {"spec": {"$setElementOrder/ports": [{"port": 1}], "ports": [{"port": 2}]}}
    assert refusal(SERVICE, order)[1].startswith("The order in patch list:\n[map[port:2]]")
    order = {"spec": {"$setElementOrder/ports": [], "ports": [{"port": 2, "name": "z"}]}}
    assert patched(SERVICE, order)["spec"]["ports"] == [{"port": 1, "name": "x"}, {"port": 2, "name": "z"}]
    assert refusal({"spec": {"ports": None}}, {"spec": {"$setElementOrder/ports": []}}) == (
        500,
        "expected a []interface {}, but received a %!s(<nil>)",
    )
    assert refusal({"spec": {"ports": []}}, {"spec": {"$setElementOrder/ports": []}}) == (
        500,
        "no elements in any of the given slices",
    )
    assert refusal(SERVICE, {"spec": {"$setElementOrder/ports": [None]}}) == (500, "value for key 0 is not a map")
    assert refusal(SERVICE, {"spec": {"$setElementOrder/nope": ["a"]}}) == (
        500,
        'unable to find api field in struct ServiceSpec for the json field "nope"',
    )
    assert refusal(SERVICE, {"spec": {"ports": [1]}}) == (
        500,
        "list element types are not identical: [[map[name:x port:1] map[name:y port:2]] [1]]",
    )
    assert refusal(SERVICE, {"spec": {"selector": {"$patch": 1}}})[1] == (
        "unknown patch type: %!s(int64=1) in map: map[$patch:1]"
    )
    with pytest.raises(StatusError) as caught:
        strategic_merge_patch(SERVICE, b"[]", None)
    assert caught.value.message == "json: cannot unmarshal array into Go value of type map[string]interface {}"


PORTS = st.lists(st.integers(1, 9), unique=True, max_size=6)


@given(PORTS, PORTS, st.randoms())
def test_a_patch_keeps_every_element_once_and_its_own_order(ours: list[int], theirs: list[int], random: Any) -> None:
    assume(ours or theirs)
    obj = {"spec": {"ports": [{"port": n} for n in ours]}}
    order = [*theirs, *(n for n in ours if n not in theirs and random.random() < 0.5)]
    patch = {
        "spec": {
            "$setElementOrder/ports": [{"port": n} for n in order],
            "ports": [{"port": n, "name": "new"} for n in theirs],
        }
    }
    result = [p["port"] for p in patched(obj, patch)["spec"].get("ports", [])]
    assert sorted(result) == sorted({*ours, *theirs})
    assert [n for n in result if n in order] == order
    server_only = [n for n in ours if n not in order]
    assert [n for n in result if n in server_only] == server_only
