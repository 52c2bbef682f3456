"""Why may they, why not, and what would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from access_manifests import bound, cluster, role, rule, write
from hypothesis import given, settings
from hypothesis import strategies as st

from kubegate.analysis.questions import QuestionError, question, text_of, user_of
from kubegate.analysis.sources import SourceError, from_folder
from kubegate.analysis.why import explain
from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import index_of


def asked(who: str, verb: str, what: str, *groups: str, **more: str) -> Attributes:
    return question(user_of(who, groups), verb, what, **more)


def test_an_allowance_names_every_binding_that_grants_it(tmp_path: Path) -> None:
    found = explain(from_folder(write(tmp_path)), asked("alice", "get", "secrets/tls", "dev", namespace="prod"))
    assert found.allowed
    [grant] = found.grants
    assert (grant.binding.name, grant.rule_number) == ("readers", 1)
    twice = cluster(
        role("ClusterRole", "a", [rule("*", "pods")]),
        bound("one", "ClusterRole", "a", "User alice"),
        bound("two", "ClusterRole", "a", "Group dev", namespace="ns"),
    )
    both = explain(twice, asked("alice", "get", "pods", "dev", namespace="ns"))
    assert [grant.binding.name for grant in both.grants] == ["one", "two"]
    assert explain(twice, asked("eve", "get", "pods", "system:masters")).masters


def problems(found: Any) -> dict[str, dict[str, str]]:
    return {miss.binding.name: dict(miss.problems) for miss in found.near_misses}


def test_a_refusal_tells_of_each_binding_what_it_lacks(tmp_path: Path) -> None:
    source = from_folder(write(tmp_path), defaults=False)
    found = explain(source, asked("alice", "get", "secrets/db", namespace="prod"))
    assert not found.allowed
    assert problems(found)["readers"] == {"resourceName": "tls, not db"}
    found = explain(source, asked("alice", "delete", "pods/x", namespace="prod"))
    assert problems(found)["readers"] == {"verb": "get, list, watch, not delete"}
    found = explain(source, asked("alice", "get", "pods/x", namespace="prod", subresource="log"))
    assert problems(found)["readers"] == {
        "resource": "pods, configmaps, not pods/log (pods does not include its subresources)"
    }
    found = explain(source, asked("alice", "list", "secrets", namespace="prod"))
    assert problems(found)["readers"]["resourceName"].startswith("tls, and the request names none")
    found = explain(source, asked("alice", "get", "/metrics"))
    assert problems(found)["readers"]["namespace"].startswith("a RoleBinding gives no paths")
    found = explain(source, asked("bob", "get", "pods", namespace="prod"))
    assert problems(found)["lost"] == {"role": "Role gone does not exist"}
    found = explain(source, asked("ci:robot", "get", "deployments.extensions", namespace="prod"))
    assert problems(found)["deployers"] == {"apiGroup": "apps, not extensions"}


def test_bindings_of_other_namespaces_are_near_misses_too() -> None:
    source = cluster(
        role("ClusterRole", "edit", [rule("*", "pods")]),
        bound("editors", "ClusterRole", "edit", "User alice", namespace="staging"),
    )
    found = explain(source, asked("alice", "get", "pods", namespace="prod"))
    assert problems(found)["editors"] == {"namespace": 'it reaches namespace "staging", not "prod"'}
    found = explain(source, asked("alice", "get", "pods"))
    assert problems(found)["editors"]["namespace"].endswith("and this is about the whole cluster")


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("User Alice", 'it names User Alice, not "alice", letter by letter'),
        ("Group alice", "it names Group alice, and alice is a User here"),
        ("User dev", "it names User dev, and dev is a Group here"),
    ],
)
def test_a_subject_written_almost_right_is_pointed_out(subject: str, words: str) -> None:
    source = cluster(role("ClusterRole", "a", [rule("*", "pods")]), bound("b", "ClusterRole", "a", subject))
    [alike] = explain(source, asked("alice", "get", "pods", "dev")).lookalikes
    assert alike.message == words


def test_the_smallest_change_gives_nobody_anything_else() -> None:
    source = cluster(
        role("Role", "shared", [rule("get", "pods")], "ns"),
        bound("shared", "Role", "shared", "User alice", "User bob", namespace="ns"),
        role("ClusterRole", "wide", [rule("*", "*", "*")]),
    )
    found = explain(source, asked("alice", "list", "pods", namespace="ns"))
    titles = [change.title for change in found.changes]
    assert titles == [
        "a new Role with just this, bound to User alice",
        'User alice bound to ClusterRole wide in namespace "ns"',
        "one more rule in Role shared, which User alice is bound to",
    ]
    assert found.changes[2].others == ("User bob",)
    assert found.changes[0].commands == (
        "kubectl create role alice-list-pods --verb=list --resource=pods -n ns",
        "kubectl create rolebinding alice-list-pods --role=alice-list-pods --user=alice -n ns",
    )


def test_a_role_of_ones_own_is_mended_before_another_is_made() -> None:
    source = cluster(
        role("Role", "own", [rule("get", "pods")], "ns"), bound("own", "Role", "own", "User alice", namespace="ns")
    )
    best = explain(source, asked("alice", "list", "pods", namespace="ns")).changes[0]
    assert best.title == "one more rule in Role own, which User alice is bound to"
    assert best.objects[0]["rules"] == [rule("get", "pods"), rule("list", "pods")]


NAMES, SPACES = ("a", "b"), ("one", "two")
rules = st.lists(
    st.builds(rule, st.sampled_from(("get", "list", "get list", "*")), st.sampled_from(("pods", "secrets", "*"))),
    max_size=2,
)
who = st.sampled_from(("User alice", "User bob", "Group dev", "ServiceAccount one/robot"))
objects = st.one_of(
    st.builds(lambda n, r: role("ClusterRole", n, r), st.sampled_from(NAMES), rules),
    st.builds(lambda n, r, s: role("Role", n, r, s), st.sampled_from(NAMES), rules, st.sampled_from(SPACES)),
    st.builds(lambda n, t, s: bound(n, "ClusterRole", t, s), st.sampled_from(NAMES), st.sampled_from(NAMES), who),
    st.builds(
        lambda n, k, t, s, ns: bound(n, k, t, s, namespace=ns),
        st.sampled_from(NAMES),
        st.sampled_from(("Role", "ClusterRole")),
        st.sampled_from(NAMES),
        who,
        st.sampled_from(SPACES),
    ),
)
questions = st.one_of(
    st.builds(
        lambda w, v, r, n, ns: question(user_of(w, ("dev",)), v, r, n, namespace=ns),
        st.sampled_from(("alice", "one:robot")),
        st.sampled_from(("get", "create", "list")),
        st.sampled_from(("pods", "secrets", "nodes", "deployments")),
        st.sampled_from(("", "x")),
        st.sampled_from((*SPACES, "")),
    ),
    st.builds(lambda w: question(user_of(w), "get", "/metrics"), st.sampled_from(("alice", "one:robot"))),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(objects, max_size=12), questions)
def test_every_change_that_is_offered_allows_it(existing: list[Any], attributes: Attributes) -> None:
    present = {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]): o for o in existing}
    found = explain(cluster(*present.values()), attributes)
    index = index_of(present.values())
    assert found.allowed == index.decide(attributes).allowed
    if not found.allowed:
        assert found.changes
    for change in found.changes:
        after = dict(present)
        for obj in change.objects:
            after[(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"])] = obj
        assert index_of(after.values()).decide(attributes).allowed, change.title


# --- questions and sources ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("get", "po/x"), 'get pods "x" in namespace "ns"'),
        (("list", "deploy"), 'list deployments.apps in namespace "ns"'),
        (("get", "Deployment"), 'get deployments.apps in namespace "ns"'),
        (("get", "nodes", "n"), 'get nodes "n" in the whole cluster'),
        (("get", "ns/ns"), 'get namespaces "ns" in namespace "ns"'),
        (("get", "gizmos.example.org"), 'get gizmos.example.org in namespace "ns"'),
        (("get", "events"), 'get events in namespace "ns"'),
        (("get", "/healthz"), "get path /healthz"),
    ],
)
def test_words_are_read_as_kubectl_reads_them(words: tuple[str, ...], text: str) -> None:
    assert text_of(question(UserInfo("a"), *words, namespace="ns")) == text


def test_a_user_brings_the_groups_that_its_login_would() -> None:
    assert user_of("alice", ("dev",)).groups == ("dev", "system:authenticated")
    robot = user_of("ci:robot")
    assert robot.name == "system:serviceaccount:ci:robot"
    assert robot.groups == ("system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated")
    assert user_of("system:anonymous").groups == ("system:unauthenticated",)
    assert user_of("system:kube-scheduler").name == "system:kube-scheduler"


@pytest.mark.parametrize("words", [("get", ""), ("", "pods"), ("get", "pods/x", "y"), ("get", "/x", "y")])
def test_words_without_sense_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(QuestionError):
        question(UserInfo("a"), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "rbac.yaml: "),
        ("kind: Role", "rbac.yaml, document 1: kind and metadata.name are missing"),
        ("- 3", "must be an object"),
        ("{kind: Role, metadata: {name: a}, rules: 3}", "Role a: rules: must be a list"),
        ("{kind: Role, metadata: {name: a}, rules: [{verbs: get}]}", "rules[0].verbs: must be a list"),
        ("{kind: Role, metadata: {name: a}, rules: [{verbs: [1]}]}", "must be a list of texts, not [1]"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        from_folder(write(tmp_path, text))
    assert words in str(caught.value)


def test_a_folder_brings_aggregated_roles_and_what_every_cluster_has(tmp_path: Path) -> None:
    source = from_folder(write(tmp_path))
    view = source.index.role_rules("ClusterRole", "", "view")
    assert view is not None
    assert rule("*", "deployments deployments/scale", "apps") in view
    assert source.origins[("Role", "prod", "reader")].endswith("rbac.yaml")
    assert from_folder(tmp_path, defaults=False).index.role_rules("ClusterRole", "", "edit") is None
