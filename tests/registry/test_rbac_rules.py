"""Roles and bindings: what may be stored, and who may store it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rbac_world import GROUP, World, role, rule, world

from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo
from kubegate.registry.rbac.aggregation import aggregate, applied, resolve

ALICE = UserInfo("alice", groups=("dev", "system:authenticated"))
BOB = UserInfo("bob", groups=("system:authenticated",))


@pytest.fixture
async def w() -> AsyncIterator[World]:
    async with world() as found:
        yield found


def binding(name: str, kind: str = "ClusterRole", to: str = "view", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "roleRef": {"kind": kind, "name": to}, **more}


async def refused(work: Any) -> StatusError:
    with pytest.raises(StatusError) as caught:
        await work
    return caught.value


# --- what may be stored ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([{}], "[rules[0].verbs: Required value: verbs must contain at least one value, "
               "rules[0].apiGroups: Required value: resource rules must supply at least one api group, "
               "rules[0].resources: Required value: resource rules must supply at least one resource]"),
        ([{"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]}],
         '[rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs, '
         'rules[0].nonResourceURLs: Invalid value: ["/x"]: '
         "rules cannot apply to both regular resources and non-resource URLs]"),
    ],
)  # fmt: skip
async def test_what_a_role_may_not_say(w: World, rules: list[Any], text: str) -> None:
    error = await refused(w.create("roles", role("r", *rules), namespace="ns"))
    assert (error.code, error.message) == (422, f'Role.{GROUP} "r" is invalid: {text}')


async def test_a_role_without_rules_shows_null(w: World) -> None:
    assert (await w.create("roles", {"metadata": {"name": "a"}}, namespace="ns"))["rules"] is None
    assert (await w.create("roles", role("b"), namespace="ns"))["rules"] is None


@pytest.mark.parametrize(
    ("aggregation", "text"),
    [
        ({}, "aggregationRule.clusterRoleSelectors: Required value: "
             "at least one clusterRoleSelector required if aggregationRule is non-nil"),
        ({"clusterRoleSelectors": [{"matchLabels": {"a b": "c"}}]},
         "aggregationRule.clusterRoleSelectors[0].matchLabels: "),
        ({"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}]},
         "[aggregationRule.clusterRoleSelectors[0].matchExpressions[0].values: Forbidden: "
         "may not be specified when `operator` is 'Exists' or 'DoesNotExist', "
         "aggregationRule.clusterRoleSelectors[0]: Invalid value: null: invalid label selector.]"),
    ],
)  # fmt: skip
async def test_what_an_aggregation_may_not_say(w: World, aggregation: Any, text: str) -> None:
    error = await refused(w.create("clusterroles", role("r", aggregationRule=aggregation)))
    assert error.code == 422
    assert text in error.message


async def test_api_groups_of_references_and_subjects_are_filled_in(w: World) -> None:
    subjects = [{"kind": "User", "name": "a"}, {"kind": "ServiceAccount", "name": "b", "namespace": "c"}]
    made = await w.create("clusterrolebindings", binding("b", subjects=subjects))
    assert made["roleRef"]["apiGroup"] == GROUP
    assert [each.get("apiGroup", "") for each in made["subjects"]] == [GROUP, ""]


@pytest.mark.parametrize(
    ("resource", "subject", "text"),
    [
        (
            "rolebindings",
            {"kind": "ServiceAccount", "name": "A"},
            'subjects[0].name: Invalid value: "A": a lowercase RFC',
        ),
        (
            "rolebindings",
            {"kind": "ServiceAccount", "name": "a", "apiGroup": GROUP},
            "subjects[0].apiGroup: Unsupported",
        ),
        ("rolebindings", {"kind": "User", "name": "a", "apiGroup": "x"}, "subjects[0].apiGroup: Unsupported value"),
        ("rolebindings", {"kind": "Group"}, "subjects[0].name: Required value"),
        ("rolebindings", {"kind": "user", "name": "a"}, "subjects[0].kind: Unsupported value"),
        ("clusterrolebindings", {"kind": "ServiceAccount", "name": "a"}, "subjects[0].namespace: Required value"),
    ],
)
async def test_what_a_subject_may_not_be(w: World, resource: str, subject: Any, text: str) -> None:
    namespace = "ns" if resource == "rolebindings" else ""
    error = await refused(w.create(resource, binding("b", subjects=[subject]), namespace=namespace))
    assert error.code == 422
    assert text in error.message


async def test_a_binding_never_changes_its_role(w: World) -> None:
    made = await w.create("rolebindings", binding("b"), namespace="ns")
    changed = {**made, "roleRef": {**made["roleRef"], "name": "edit"}}
    error = await refused(w.update("rolebindings", "b", changed, namespace="ns"))
    assert error.message == (
        f'RoleBinding.{GROUP} "b" is invalid: roleRef: Invalid value: '
        f'{{"APIGroup":"{GROUP}","Kind":"ClusterRole","Name":"edit"}}: cannot change roleRef'
    )


# --- who may store it -----------------------------------------------------------------------------------------------


async def test_nobody_writes_a_role_that_says_more_than_they_hold(w: World) -> None:
    await w.bind(role("mine", rule("get list", "pods"), rule("get", "secrets", "", "one")), "alice", "ns")
    await w.create("roles", role("less", rule("get", "pods"), rule("get", "secrets", "", "one")), ALICE, "ns")
    wanted = role("more", rule("get delete", "pods nodes"), rule("get", "secrets", "", "one", "two"))
    error = await refused(w.create("roles", wanted, ALICE, "ns"))
    assert (error.code, error.message) == (
        403,
        f'roles.{GROUP} "more" is forbidden: user "alice" (groups=["dev" "system:authenticated"]) is attempting to '
        "grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["nodes"], Verbs:["get" "delete"]}\n'
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n'
        '{APIGroups:[""], Resources:["secrets"], ResourceNames:["two"], Verbs:["get"]}',
    )


async def test_rights_in_a_namespace_do_not_reach_the_cluster_or_another_namespace(w: World) -> None:
    await w.bind(role("mine", rule("*", "*", "*")), "alice", "ns")
    await w.create("roles", role("all", rule("*", "*", "*")), ALICE, "ns")
    assert (await refused(w.create("roles", role("all", rule("get", "pods")), ALICE, "other"))).code == 403
    assert (await refused(w.create("clusterroles", role("all", rule("get", "pods")), ALICE))).code == 403


async def test_escalate_lifts_the_check_and_by_name_only_on_changes(w: World) -> None:
    await w.create("roles", role("one"), namespace="ns")
    await w.bind(role("e", rule("escalate", "roles", GROUP, "one")), "alice", "ns")
    await w.update("roles", "one", role("one", rule("get", "pods")), ALICE, "ns")
    assert (await refused(w.create("roles", role("two", rule("get", "pods")), ALICE, "ns"))).code == 403
    # a PUT that creates has the name in its address
    await w.bind(role("e1", rule("escalate", "roles", GROUP, "put"), rule("create", "roles", GROUP)), "alice", "ns")
    await w.update("roles", "put", role("put", rule("get", "pods")), ALICE, "ns")
    await w.bind(role("e2", rule("escalate", "roles", GROUP)), "alice", "ns")
    await w.create("roles", role("two", rule("get", "pods")), ALICE, "ns")


async def test_a_binding_takes_all_rules_of_its_role_or_the_verb_bind(w: World) -> None:
    await w.create("clusterroles", role("small", rule("get", "pods")))
    error = await refused(w.create("rolebindings", binding("b", to="small"), ALICE, "ns"))
    assert 'attempting to grant RBAC permissions not currently held:\n{APIGroups:[""]' in error.message
    await w.bind(role("binder", rule("bind", "clusterroles", GROUP, "small")), "alice", "ns")
    await w.create("rolebindings", binding("b", to="small"), ALICE, "ns")
    assert (await refused(w.create("clusterrolebindings", binding("b", to="small"), ALICE))).code == 403
    await w.bind(role("holder", rule("get list", "pods")), "bob")
    await w.create("clusterrolebindings", binding("c", to="small"), BOB)


async def test_a_binding_to_no_role_is_for_those_who_may_bind_anything(w: World) -> None:
    await w.create("rolebindings", binding("admin-s", "Role", "gone"), namespace="ns")
    error = await refused(w.create("rolebindings", binding("b", "Role", "gone"), ALICE, "ns"))
    assert (error.code, error.message) == (404, f'rolebindings.{GROUP} "gone" not found')


@pytest.mark.parametrize(
    ("kind", "to", "code", "text"),
    [
        ("Pod", "x", 500, 'unsupported role reference kind: "Pod"'),
        ("ClusterRole", "", 400, "Name parameter required."),
        ("ClusterRole", "a/b", 400, "Name parameter invalid: \"a/b\": may not contain '/'"),
        ("Role", "x", 400, "Namespace parameter required."),
    ],
)
async def test_a_reference_to_what_cannot_be_looked_up(w: World, kind: str, to: str, code: int, text: str) -> None:
    error = await refused(w.create("clusterrolebindings", binding("b", kind, to), ALICE))
    assert (error.code, error.message) == (code, text)


async def test_a_missing_role_of_the_writer_is_told(w: World) -> None:
    await w.create(
        "rolebindings", binding("lost", "Role", "gone", subjects=[{"kind": "User", "name": "alice"}]), namespace="ns"
    )
    error = await refused(w.create("roles", role("r", rule("get", "pods")), ALICE, "ns"))
    assert error.message.endswith(
        f'{{APIGroups:[""], Resources:["pods"], Verbs:["get"]}}; resolution errors: [roles.{GROUP} "gone" not found]'
    )


async def test_gathering_roles_takes_full_authority(w: World) -> None:
    aggregation = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
    error = await refused(w.create("clusterroles", role("sum", aggregationRule=aggregation), ALICE))
    assert error.message == (
        f'clusterroles.{GROUP} "sum" is forbidden: must have cluster-admin privileges to use the aggregationRule'
    )
    await w.bind(role("all", rule("*", "*", "*"), {"verbs": ["*"], "nonResourceURLs": ["*"]}), "alice")
    await w.create("clusterroles", role("sum", aggregationRule=aggregation), ALICE)
    # taking the rule away is setting it, too
    await w.bind(role("bobs", rule("get", "pods")), "bob")
    assert (await refused(w.update("clusterroles", "sum", role("sum"), BOB))).code == 403


async def test_an_aggregation_without_selectors_is_wrong_rather_than_forbidden(w: World) -> None:
    error = await refused(w.create("clusterroles", role("sum", aggregationRule={}), ALICE))
    assert error.code == 422


async def test_who_may_not_create_by_an_update_is_told_first_what_is_wrong(w: World) -> None:
    await w.bind(role("mine", rule("get", "pods")), "alice", "ns")
    error = await refused(w.update("roles", "new", role("new", {"verbs": []}), ALICE, "ns"))
    assert error.code == 422
    error = await refused(w.update("roles", "new", role("new", rule("get", "pods")), ALICE, "ns"))
    assert error.message == (
        f'roles.{GROUP} "new" is forbidden: User "alice" cannot create resource "roles" in API group "{GROUP}" '
        'in the namespace "ns"'
    )


async def test_the_garbage_collector_may_change_owners_of_what_it_does_not_hold(w: World) -> None:
    made = await w.create("roles", role("r", rule("get", "pods")), namespace="ns")
    metadata = {**made["metadata"], "finalizers": ["example.org/x"]}
    await w.update("roles", "r", {**made, "metadata": metadata}, BOB, "ns")
    labelled = {**made, "metadata": {**metadata, "labels": {"a": "b"}, "resourceVersion": ""}}
    assert (await refused(w.update("roles", "r", labelled, BOB, "ns"))).code == 403


async def test_escalation_comes_before_validation(w: World) -> None:
    error = await refused(w.create("roles", role("r", rule("get", "pods"), {"verbs": ["get"]}), ALICE, "ns"))
    assert error.code == 403


async def test_escalation_by_an_update_of_the_reference_is_checked_like_a_new_binding(w: World) -> None:
    """Who may update bindings must not reach another role by changing roleRef."""
    await w.create("clusterroles", role("strong", rule("*", "*", "*")))
    await w.bind(role("weak", rule("get", "pods")), "alice", "ns")
    made = await w.create("rolebindings", binding("mine", "Role", "weak"), ALICE, "ns")
    changed = {**made, "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "strong"}}
    assert (await refused(w.update("rolebindings", "mine", changed, ALICE, "ns"))).code == 403


# --- aggregation ----------------------------------------------------------------------------------------------------


def labelled(name: str, labels: dict[str, str], *rules: Any, select: list[Any] | None = None) -> dict[str, Any]:
    found = role(name, *rules)
    found["metadata"]["labels"] = labels
    if select is not None:
        found["aggregationRule"] = {"clusterRoleSelectors": select}
    return found


PODS, NODES = rule("get", "pods"), rule("get", "nodes")


def test_gathered_rules_come_by_selector_then_by_name_each_once() -> None:
    roles = [
        labelled("z", {"a": "1"}, PODS),
        labelled("b", {"a": "2"}, NODES, PODS),
        labelled("c", {"a": "2"}, rule("list", "pods")),
        labelled("sum", {"a": "2"}, select=[{"matchLabels": {"a": "2"}}, {"matchLabels": {"a": "1"}}]),
    ]
    assert aggregate(roles) == {"sum": [NODES, PODS, rule("list", "pods")]}
    roles[-1]["rules"] = [NODES, PODS, rule("list", "pods")]
    assert aggregate(roles) == {}


def test_a_role_that_picks_only_itself_keeps_what_it_has() -> None:
    own = labelled("self", {"a": "1"}, PODS, select=[{"matchLabels": {"a": "1"}}])
    assert aggregate([own]) == {"self": []}
    # applied without rules: those that somebody else set stay
    assert applied("self", []) == {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "self"},
    }
    assert resolve([own]) == [own]


def test_roles_made_of_made_roles_settle() -> None:
    roles = [
        labelled("top", {}, select=[{"matchLabels": {"a": "mid"}}]),
        labelled(
            "mid", {"a": "mid"}, select=[{"matchExpressions": [{"key": "a", "operator": "In", "values": ["leaf"]}]}]
        ),
        labelled("leaf", {"a": "leaf"}, PODS),
    ]
    assert [each["rules"] for each in resolve(roles)] == [[PODS], [PODS], [PODS]]
