"""managedFields: who owns what after each kind of write, and server-side apply."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubegate.api import managedfields
from kubegate.api.managedfields import entries, scale, sets, typed
from kubegate.api.managedfields.resets import NOTHING, ResetFields
from kubegate.api.managedfields.zero import zero
from kubegate.api.normalize import complete
from kubegate.api.resources import Resources
from kubegate.api.schema import Schema, from_openapi, schema_for
from kubegate.api.status import StatusError

Object = dict[str, Any]
RESOURCES = Resources.built_in()
TIMES = [f"2026-01-01T00:00:{second:02}Z" for second in range(60)]


def schema(kind: str) -> Schema:
    group, _, rest = kind.rpartition("/") if kind.count("/") else ("", "", kind)
    version, _, name = rest.partition(".")
    found = schema_for(group, version, name)
    assert found is not None
    return found


CONFIG_MAP, SERVICE, POD = schema("v1.ConfigMap"), schema("v1.Service"), schema("v1.Pod")
POLICY = schema("networking.k8s.io/v1.NetworkPolicy")


def update(live: Object | None, new: Object, kind: Schema, **more: Any) -> Object:
    options: Object = {"manager": "me", "api_version": "v1", "subresource": "", "time": TIMES[1], **more}
    write = managedfields.Write(schema=kind, **options)
    return managedfields.create(new, write) if live is None else managedfields.update(live, new, write)


def apply(live: Object | None, applied: Object, of: Schema, **more: Any) -> Object:
    options: Object = {"force": False}
    options |= {name: more.pop(name) for name in ("force", "kind", "default") if name in more}
    who: Object = {"manager": "me", "api_version": "v1", "subresource": "", "time": TIMES[1], **more}
    return managedfields.apply(live, applied, managedfields.Write(schema=of, **who), **options)


def config(data: Object | None = None, **meta: Any) -> Object:
    found: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", **meta}}
    if data is not None:
        found["data"] = data
    return found


def owners(obj: Object) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", [])}


def conflict(live: Object, applied: Object, of: Schema, **more: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        apply(live, applied, of, **more)
    return caught.value


# ------------------------------------------------------------------ creates and updates
def test_a_create_owns_what_it_sets_and_nothing_of_the_servers() -> None:
    made = update(None, config({"k": "v"}, uid="u", resourceVersion="1", generateName="a-"), CONFIG_MAP)
    assert owners(made) == {"me": {"f:data": {".": {}, "f:k": {}}, "f:metadata": {"f:generateName": {}}}}
    entry = made["metadata"]["managedFields"][0]
    assert (entry["operation"], entry["apiVersion"], entry["time"]) == ("Update", "v1", TIMES[1])
    assert entry["fieldsType"] == "FieldsV1" and "subresource" not in entry


def test_what_an_empty_object_has_anyway_belongs_to_nobody() -> None:
    new = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"}}
    new["spec"] = {"podSelector": {}, "policyTypes": ["Ingress"]}
    assert owners(update(None, new, POLICY)) == {"me": {"f:spec": {"f:policyTypes": {}}}}
    assert zero(schema("v1.Event"))["firstTimestamp"] is None


def test_an_object_without_anything_to_own_has_no_managed_fields_and_keeps_none() -> None:
    made = update(None, config(uid="u"), CONFIG_MAP)
    assert "managedFields" not in made["metadata"]
    changed = update(made, config({"k": "v"}, uid="u"), CONFIG_MAP)
    assert "managedFields" not in changed["metadata"]


def test_an_update_takes_what_it_changes_from_others() -> None:
    live = update(None, config({"k": "v", "m": "n"}, uid="u"), CONFIG_MAP, manager="one")
    changed = update(live, config({"k": "w", "m": "n"}, uid="u"), CONFIG_MAP, manager="two")
    assert owners(changed) == {"one": {"f:data": {".": {}, "f:m": {}}}, "two": {"f:data": {"f:k": {}}}}
    removed = update(changed, config({"k": "w"}, uid="u"), CONFIG_MAP, manager="two")
    assert owners(removed) == {"one": {"f:data": {}}, "two": {"f:data": {"f:k": {}}}}


def test_an_update_that_changes_nothing_keeps_times() -> None:
    live = update(None, config({"k": "v"}, uid="u"), CONFIG_MAP)
    again = update(live, config({"k": "v"}, uid="u"), CONFIG_MAP, time=TIMES[9])
    assert again["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_list_elements_are_owned_by_their_keys() -> None:
    new = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    new["spec"] = {"ports": [{"port": 1, "protocol": "TCP", "targetPort": 1}], "selector": {"a": "b"}}
    element = 'k:{"port":1,"protocol":"TCP"}'
    assert owners(update(None, complete(new, SERVICE), SERVICE)) == {
        "me": {
            "f:spec": {
                "f:ports": {".": {}, element: {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
                "f:selector": {},
            }
        }
    }


def test_writes_to_a_subresource_are_entries_of_their_own() -> None:
    pods = RESOURCES.get("", "v1", "pods")
    assert pods is not None
    live = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"nodeName": "n"},
        "status": {},
    }
    live = update(None, live, POD, reset_fields=managedfields.reset_fields(pods, ""))
    new = {**live, "spec": {"nodeName": "other"}, "status": {"phase": "Running"}}
    reset = managedfields.reset_fields(pods, "status")
    changed = update(live, new, POD, subresource="status", reset_fields=reset)
    assert [(e.get("subresource"), e["fieldsV1"]) for e in changed["metadata"]["managedFields"]] == [
        (None, {"f:spec": {"f:nodeName": {}}}),
        ("status", {"f:status": {"f:phase": {}}}),
    ]


def test_old_updates_become_one_entry() -> None:
    obj = update(None, config({"k0": "0"}, uid="u"), CONFIG_MAP, manager="m00", time=TIMES[0])
    for number in range(1, 13):
        new = {**obj, "data": {**obj["data"], f"k{number}": "x"}}
        obj = update(obj, new, CONFIG_MAP, manager=f"m{number:02}", time=TIMES[number])
    names = [entry["manager"] for entry in obj["metadata"]["managedFields"]]
    assert len(names) == entries.MAX_UPDATERS
    assert "ancient-changes" in names and "m12" in names and "m00" not in names
    assert owners(obj)["ancient-changes"]["f:data"].keys() >= {"f:k0", "f:k1", "f:k2"}


def test_clients_may_change_managed_fields_and_clear_them() -> None:
    live = update(None, config({"k": "v"}, uid="u"), CONFIG_MAP)
    mine = [{**live["metadata"]["managedFields"][0], "manager": "other"}]
    assert owners(update(live, config({"k": "v"}, uid="u", managedFields=mine), CONFIG_MAP)).keys() == {"other"}
    for reset in ([{}], []):
        cleared = update(live, config({"k": "v"}, uid="u", managedFields=reset), CONFIG_MAP)
        assert "managedFields" not in cleared["metadata"]
    for nonsense in ([{"manager": "x"}], [{**mine[0], "fieldsType": "V2"}], [{**mine[0], "fieldsV1": {"x": {}}}], [7]):
        kept = update(live, config({"k": "v"}, uid="u", managedFields=nonsense), CONFIG_MAP)
        assert owners(kept) == owners(live)


def test_nothing_is_changed_in_place() -> None:
    live = update(None, config({"k": "v"}, uid="u"), CONFIG_MAP, manager="one")
    new = config({"k": "w", "x": "y"}, uid="u")
    before = orjson.dumps([live, new])
    update(live, new, CONFIG_MAP, manager="two")
    apply(live, config({"k": "x"}), CONFIG_MAP, manager="three", force=True)
    assert orjson.dumps([live, new]) == before


# ------------------------------------------------------------------ apply
def test_apply_creates_merges_removes_and_conflicts() -> None:
    obj = apply(None, config({"k": "v", "m": "n"}, labels={"l": "x"}), CONFIG_MAP, manager="one")
    assert owners(obj) == {"one": {"f:data": {"f:k": {}, "f:m": {}}, "f:metadata": {"f:labels": {"f:l": {}}}}}
    obj = apply(obj, config({"k": "w"}), CONFIG_MAP, manager="one")
    assert obj["data"] == {"k": "w"} and "labels" not in obj["metadata"]
    obj = apply(obj, config({"k": "w", "own": "2"}), CONFIG_MAP, manager="two")
    assert owners(obj)["one"] == {"f:data": {"f:k": {}}}
    error = conflict(obj, config({"k": "x"}), CONFIG_MAP, manager="two")
    assert error.message == 'Apply failed with 1 conflict: conflict with "one": .data.k'
    assert error.details == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"}]
    }
    obj = apply(obj, config({"k": "x", "own": "2"}), CONFIG_MAP, manager="two", force=True)
    assert owners(obj).keys() == {"two"}
    gone = apply(obj, config(), CONFIG_MAP, manager="two")
    assert "data" not in gone and "managedFields" not in gone["metadata"]


def test_several_conflicts_are_told_by_manager() -> None:
    live = update(None, config({"a": "1", "b": "2", "c": "3"}, uid="u"), CONFIG_MAP, manager="one")
    live = update(live, {**live, "data": {**live["data"], "c": "4"}}, CONFIG_MAP, manager="two", subresource="status")
    error = conflict(live, config({"a": "x", "b": "x", "c": "x"}), CONFIG_MAP)
    assert error.message == (
        'Apply failed with 3 conflicts: conflicts with "one" using v1:\n- .data.a\n- .data.b\n'
        'conflicts with "two" with subresource "status" using v1:\n- .data.c'
    )


def test_elements_are_applied_by_key_with_the_keys_default() -> None:
    made = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "uid": "u"}}
    made["spec"] = {"ports": [{"port": 1, "protocol": "TCP", "name": "x"}], "selector": {"a": "b"}}
    live = update(None, complete(made, SERVICE), SERVICE, manager="maker")
    config_ = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    obj = apply(live, {**config_, "spec": {"ports": [{"name": "y", "port": 2}]}}, SERVICE, manager="one")
    assert [port["name"] for port in obj["spec"]["ports"]] == ["x", "y"]
    element = 'k:{"port":2,"protocol":"TCP"}'
    assert owners(obj)["one"] == {"f:spec": {"f:ports": {element: {".": {}, "f:name": {}, "f:port": {}}}}}
    wrong = {**config_, "spec": {"ports": [{"port": 2, "name": "renamed", "protocol": "TCP"}]}}
    assert conflict(obj, wrong, SERVICE, manager="two").message == (
        'Apply failed with 1 conflict: conflict with "one": .spec.ports[port=2,protocol="TCP"].name'
    )
    atomic = {**config_, "spec": {"selector": {"c": "d"}}}
    assert conflict(obj, atomic, SERVICE, manager="two").message == (
        'Apply failed with 1 conflict: conflict with "maker" using v1: .spec.selector'
    )
    obj = apply(obj, {**config_, "spec": {}}, SERVICE, manager="one")
    assert [port["name"] for port in obj["spec"]["ports"]] == ["x"]


def test_fields_of_others_that_came_along_stay() -> None:
    live = apply(None, config({"k": "v"}), CONFIG_MAP, manager="one")
    live = update(
        {**live, "metadata": {**live["metadata"], "uid": "u"}}, config({"k": "v", "x": "y"}, uid="u"), CONFIG_MAP
    )
    gone = apply(live, config(), CONFIG_MAP, manager="one")
    assert gone["data"] == {"x": "y"}
    assert owners(gone) == {"me": {"f:data": {"f:x": {}}}}


def test_an_object_that_was_not_tracked_gets_an_owner_from_before_the_first_apply() -> None:
    live = config({"k": "v"}, uid="u")
    obj = apply(live, config({"x": "y"}), CONFIG_MAP)
    assert owners(obj) == {"me": {"f:data": {"f:x": {}}}, "before-first-apply": {"f:data": {".": {}, "f:k": {}}}}
    assert "before-first-apply" in conflict(live, config({"k": "w"}), CONFIG_MAP).message


def test_applying_the_same_again_changes_nothing() -> None:
    first = apply(None, config({"k": "v"}), CONFIG_MAP, time=TIMES[1])
    assert apply(first, config({"k": "v"}), CONFIG_MAP, time=TIMES[5]) == first


def test_kubectl_takes_over_from_its_client_side_apply() -> None:
    last = orjson.dumps(config({"k": "v"})).decode()
    annotations = {managedfields.LAST_APPLIED: last}
    live = update(
        None, config({"k": "v"}, uid="u", annotations=annotations), CONFIG_MAP, manager="kubectl-client-side-apply"
    )
    obj = apply(live, config({"k": "w"}), CONFIG_MAP, manager="kubectl")
    assert obj["data"] == {"k": "w"}
    kept = orjson.loads(obj["metadata"]["annotations"][managedfields.LAST_APPLIED])
    assert kept == config({"k": "w"})
    assert conflict(live, config({"k": "w"}), CONFIG_MAP, manager="other").code == 409


@pytest.mark.parametrize(
    ("applied", "code", "text"),
    [
        ({"kind": "Secret"}, 400, "invalid object type: /v1, Kind=Secret"),
        ({"apiVersion": "x/v2"}, 400, "invalid object type: x/v2, Kind=ConfigMap"),
        ({"metadata": {"name": "a", "managedFields": []}}, 400, "metadata.managedFields must be nil"),
        (
            {"metadata": "a"},
            500,
            "failed to create typed patch object (/; /v1, Kind=ConfigMap): .metadata: expected map, got &{a}",
        ),
        (
            {"data": {"k": 5}},
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .data.k: expected string, "
            "got &value.valueUnstructured{Value:5}",
        ),
        (
            {"dat": 1},
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .dat: field not declared in schema",
        ),
        (
            {"data": ["x"], "immutable": "no"},
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): errors:\n  .data: expected map, got "
            "&{[x]}\n  .immutable: expected boolean, got &{no}",
        ),
    ],
)
def test_configurations_that_cannot_be_applied_are_refused(applied: Object, code: int, text: str) -> None:
    error = conflict(config(), {**config(), **applied}, CONFIG_MAP, kind="ConfigMap")
    assert (error.code, error.message) == (code, text)


def test_elements_without_keys_and_duplicates_are_refused() -> None:
    items = {"type": "object", "properties": {"port": {"type": "integer"}, "name": {"type": "string"}}}
    ports = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"], "items": items}
    kind = from_openapi(
        {"type": "object", "properties": {"ports": ports, "apiVersion": {}, "kind": {}, "metadata": {}}}
    )
    base = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}}
    texts = {
        '.ports: element 0: associative list with keys has an element that omits all key fields ["port"]': [
            {"name": "x"}
        ],
        ".ports: duplicate entries for key [port=1]": [{"port": 1}, {"port": 1}],
        ".ports: element 0: associative list with keys may not have non-map elements": [7],
        ".ports: element 0: associative list with keys may not have a null element": [None],
    }
    for text, found in texts.items():
        assert text in conflict(base, {**base, "ports": found}, kind).message


def test_an_element_may_leave_out_a_key_if_it_has_another() -> None:
    items = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    keyed = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"], "items": items}
    kind = from_openapi({"type": "object", "properties": {"l": keyed, "apiVersion": {}, "kind": {}, "metadata": {}}})
    applied = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, "l": [{"a": "1"}, {"a": "1", "b": "2"}]}
    owned = apply(None, applied, kind)["metadata"]["managedFields"][0]["fieldsV1"]["f:l"]
    assert owned == {'k:{"a":"1"}': {".": {}, "f:a": {}}, 'k:{"a":"1","b":"2"}': {".": {}, "f:a": {}, "f:b": {}}}
    with pytest.raises(StatusError) as caught:
        apply(None, {**applied, "l": [{"c": "1"}]}, kind)
    assert 'omits all key fields ["a" "b"] (and' in caught.value.message
    with pytest.raises(StatusError) as caught:
        apply(None, {**applied, "l": [{"a": 1}, None, {"b": 1}, {}]}, kind)
    assert caught.value.message.endswith(
        "errors:\n  .l[a=1].a: expected string, got &value.valueUnstructured{Value:1}\n"
        "  .l: element 1: associative list with keys may not have a null element"
    )


def test_an_element_of_which_pruning_leaves_nothing_breaks_nothing() -> None:
    def gates(live: Object | None, manager: str, *found: Object) -> Object:
        spec = {"schedulingGates": list(found), "hostname": "h"}
        applied = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
        return apply(live, applied, POD, manager=manager, default=lambda obj: obj.update(complete(obj, POD)))

    live = gates(gates(None, "one", {}), "two", {"name": ""})
    assert gates(live, "two")["spec"]["hostname"] == "h"


def test_values_of_merged_objects_are_converted_not_read() -> None:
    deployment = schema_for("apps", "v1", "Deployment")
    assert deployment is not None

    def applied(replicas: float) -> Any:
        config = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}
        return apply(
            None,
            {**config, "spec": {"replicas": replicas}},
            deployment,
            api_version="apps/v1",
            default=lambda obj: obj.update(complete(obj, deployment)),
        )

    assert applied(2.0)["spec"]["replicas"] == 2
    assert applied(2**31)["spec"]["replicas"] == -(2**31)
    with pytest.raises(StatusError) as caught:
        applied(1.5)
    assert (caught.value.code, caught.value.message) == (
        500,
        "failed to convert new object (/a; apps/v1, Kind=Deployment) to proper version: unable to convert unstructured "
        "object to apps/v1, Kind=Deployment: cannot convert float64 to int32",
    )


def test_quantities_are_scalars_and_raw_extensions_one_thing() -> None:
    claim = schema_for("", "v1", "ResourceQuota")
    assert claim is not None
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "a"}, "spec": {"hard": {"cpu": {}}}}
    with pytest.raises(StatusError, match=r"\.spec\.hard\.cpu: expected any scalar, got &\{map\[\]\}"):
        apply(None, quota, claim)
    revision = schema_for("apps", "v1", "ControllerRevision")
    assert revision is not None
    raw = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "a"}, "data": {"b": {"c": 1}}}
    made = apply(None, raw, revision, api_version="apps/v1")
    assert made["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {}}


def test_times_alone_are_no_change() -> None:
    live = update(None, config({"k": "v"}, uid="u"), CONFIG_MAP, time=TIMES[1])
    entry = {**live["metadata"]["managedFields"][0], "time": TIMES[7]}
    touched = {**live, "metadata": {**live["metadata"], "managedFields": [entry]}}
    assert managedfields.restore_times(touched, live) == live
    other = {**touched, "data": {"k": "w"}}
    assert managedfields.restore_times(other, live) == other
    both = update(live, {**config({"k": "v", "l": "w"}, uid="u")}, CONFIG_MAP, manager="you", time=TIMES[2])
    first, second = both["metadata"]["managedFields"]
    turned = {**both, "metadata": {**both["metadata"], "managedFields": [second, {**first, "time": TIMES[7]}]}}
    assert managedfields.restore_times(turned, both) == turned  # what was first is last now


# ------------------------------------------------------------------ custom resources and scale
def test_custom_resources_own_their_spec_itself() -> None:
    kind = from_openapi(
        {"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}}
    )
    made = update(None, {"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "x"}, "spec": {"n": 1}}, kind)
    assert owners(made) == {"me": {"f:spec": {".": {}, "f:n": {}}}}


def test_without_a_schema_maps_merge_and_lists_are_atomic() -> None:
    made = managedfields.apply(
        None,
        {"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "x"}, "a": {"b": [1], "c": {}}},
        managedfields.Write("me", "x/v1", "", TIMES[0], None),
        force=False,
    )
    assert owners(made) == {"me": {"f:a": {".": {}, "f:b": {}, "f:c": {}}}}


def test_replicas_belong_to_whoever_scaled_last() -> None:
    paths = {"apps/v1": scale.path_of(".spec.replicas")}
    both = sets.of(scale.REPLICAS, ("f:spec", "f:paused"))
    stored = entries.encode(
        {
            entries.manager("u", "Update", "apps/v1", ""): entries.Owned(both, "apps/v1", TIMES[0]),
            entries.manager("a", "Apply", "apps/v1", ""): entries.Owned(sets.of(scale.REPLICAS), "apps/v1", TIMES[0]),
        }
    )
    as_scale = scale.to_scale(stored, paths)
    assert {(e["manager"], e["apiVersion"]) for e in as_scale} == {("u", "autoscaling/v1"), ("a", "autoscaling/v1")}
    new = [{**as_scale[0], "manager": "hpa", "operation": "Update", "subresource": "scale"}]
    back = scale.to_object(stored, new, "apps/v1", paths)
    assert {e["manager"]: e["fieldsV1"] for e in back} == {
        "hpa": sets.of(scale.REPLICAS),
        "u": {"f:spec": {"f:paused": {}}},
    }


# ------------------------------------------------------------------ laws
PATHS = st.lists(st.sampled_from(["f:a", "f:b", 'k:{"n":1}', 'v:"x"']), min_size=1, max_size=3).map(tuple)
SETS = st.lists(PATHS, max_size=6).map(lambda paths: sets.of(*paths))


def as_set(fields: Object) -> set[sets.Path]:
    return set(sets.members(fields))


@given(SETS, SETS)
def test_field_sets_are_sets(one: Object, other: Object) -> None:
    left, right = as_set(one), as_set(other)
    before = orjson.dumps([one, other])
    assert as_set(sets.union(one, other)) == left | right
    assert as_set(sets.difference(one, other)) == left - right
    assert as_set(sets.intersection(one, other)) == left & right
    assert as_set(sets.without(one, other)) == {p for p in left if not any(p[: len(q)] == q for q in right)}
    assert as_set(sets.only(one, other)) == {p for p in left if any(p[: len(q)] == q for q in right)}
    assert orjson.dumps([one, other]) == before
    assert sets.check(orjson.loads(orjson.dumps(sets.in_order(one)))) == one


TEXTS = st.sampled_from(["1", "2"])
PORTS = st.lists(
    st.fixed_dictionaries({"port": st.integers(1, 3), "protocol": st.just("TCP")}, optional={"name": TEXTS}),
    max_size=3,
    unique_by=lambda port: port["port"],
)
SPECS = st.fixed_dictionaries(
    {}, optional={"ports": PORTS.filter(bool), "selector": st.dictionaries(TEXTS, TEXTS, min_size=1), "type": TEXTS}
)
SERVICES = st.builds(
    lambda spec, labels: {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", **({"labels": labels} if labels else {})},
        "spec": spec,
    },
    SPECS,
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)


CONTAINERS = {("f:metadata", "f:labels"), ("f:spec", "f:ports")}


def stored(obj: Object) -> Object:
    """As the registry hands it on: completed, with a uid."""
    kept = complete(obj, SERVICE)
    return {**kept, "metadata": {**kept["metadata"], "uid": "u"}}


@settings(max_examples=150)
@given(SERVICES, st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), SERVICES), max_size=5))
def test_after_any_writes_every_owned_field_is_there_and_forced_configurations_hold(
    first: Object, writes: list[tuple[bool, str, Object]]
) -> None:
    live = update(None, stored(first), SERVICE, manager="maker")
    for applies, manager, obj in writes:
        if applies:
            live = apply(live, obj, SERVICE, manager=manager, force=True)
            wanted = typed.field_set(SERVICE, {k: v for k, v in obj.items() if k in ("spec",)})
            found = typed.field_set(SERVICE, live)
            assert sets.difference(wanted, found) == {} or not obj["spec"]
            mine = owners(live).get(manager, {})
            assert as_set(sets.difference(wanted, mine)) == set()
        else:
            new = {**stored(obj), "metadata": {**live["metadata"], "labels": obj["metadata"].get("labels", {})}}
            new["metadata"].pop("managedFields", None)
            live = update(live, complete(new, SERVICE), SERVICE, manager=f"{manager}-updates")
        live = {**complete(live, SERVICE)}
        present = sets.union(typed.field_set(SERVICE, live), typed.all_paths(SERVICE, live))
        for manager_name, fields in owners(live).items():
            # Whoever made a map or list keeps it when others empty it, as in Kubernetes.
            assert as_set(sets.difference(fields, present)) <= CONTAINERS, manager_name


@settings(max_examples=100)
@given(SERVICES, SERVICES)
def test_an_applied_configuration_that_is_withdrawn_leaves_what_was_before(first: Object, second: Object) -> None:
    live = update(None, stored(first), SERVICE, manager="maker")
    empty = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    try:
        applied = apply(live, second, SERVICE)
    except StatusError:
        return
    withdrawn = apply(complete(applied, SERVICE), empty, SERVICE)
    assert by_port(complete(withdrawn, SERVICE)["spec"]) == by_port(live["spec"])


def by_port(spec: Object) -> Object:
    """The order of ports is the last applied configuration's, and stays when it is withdrawn."""
    return {**spec, "ports": sorted(spec["ports"], key=lambda port: port["port"])} if "ports" in spec else spec


def test_reset_fields_follow_the_resource() -> None:
    deployments = RESOURCES.get("apps", "v1", "deployments")
    configmaps = RESOURCES.get("", "v1", "configmaps")
    assert deployments is not None and configmaps is not None
    assert managedfields.reset_fields(configmaps, "") is NOTHING
    fields = sets.of(("f:spec", "f:replicas"), ("f:status", "f:replicas"), ("f:metadata", "f:labels", "f:a"))
    assert as_set(managedfields.reset_fields(deployments, "").counted(fields)) == {
        ("f:spec", "f:replicas"),
        ("f:metadata", "f:labels", "f:a"),
    }
    assert as_set(managedfields.reset_fields(deployments, "status").counted(fields)) == {("f:status", "f:replicas")}
    assert ResetFields({}, kept=sets.of(("f:status",))).counted(fields) == {"f:status": {"f:replicas": {}}}


def compared_with_an_empty_one(schema: Schema, sent: Object) -> sets.FieldSet:
    changed, _ = typed.compare(schema, {**zero(schema), "metadata": {}}, sent)
    return sets.in_order(changed) if changed else {}


@given(SERVICES)
def test_a_new_object_brings_what_an_empty_one_has_not(obj: Object) -> None:
    """What fields come to is remembered: here examples meet what those before have left."""
    sent = {**complete(obj, SERVICE), "metadata": {"labels": obj["metadata"].get("labels", {})}}
    del sent["apiVersion"], sent["kind"]
    found = managedfields._fields_of_new(SERVICE, sent)
    expected = compared_with_an_empty_one(SERVICE, sent)
    assert orjson.dumps(found) == orjson.dumps(expected)


ZERO_OR_NOT = st.sampled_from(["", "0", "5", 0, 7, False, True, None, {}, {"a": "1"}, [], ["x"]])


@given(st.dictionaries(st.sampled_from(["hard", "used", "scopes"]), ZERO_OR_NOT), ZERO_OR_NOT)
def test_values_that_an_empty_object_has_are_told_apart_from_others(status: Object, spec: Any) -> None:
    schema = schema_for("", "v1", "ResourceQuota")
    assert schema is not None
    sent = {"metadata": {}, "spec": spec, "status": status}
    assert managedfields._fields_of_new(schema, sent) == compared_with_an_empty_one(schema, sent)


def test_names_that_somebody_made_up_are_not_remembered() -> None:
    made = update(None, config({f"key-{number}": "v" for number in range(2000)}), CONFIG_MAP)
    assert len(made["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]) == 2001
    assert not any(CONFIG_MAP.properties["data"].cache.values())
    update(None, {**config(), "invented": "v"}, CONFIG_MAP)
    assert not any("invented" in names for plans in CONFIG_MAP.cache.values() for names in plans)
