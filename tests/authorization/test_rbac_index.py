"""The RBAC index decides as a plain evaluator does, and as the recorded kube-apiserver did."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rbac_plain import grants, missing

from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes, Verdict
from kubegate.authorization.rbac import RbacIndex, index_of

CORPUS = Path(__file__).parents[2] / "conformance" / "rbac" / "decisions-open.json.gz"
GROUP = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module")
def corpus() -> dict[str, Any]:
    with gzip.open(CORPUS) as file:
        found: dict[str, Any] = json.load(file)
    return found


@pytest.fixture(scope="module")
def policy(corpus: dict[str, Any]) -> list[dict[str, Any]]:
    """The corpus's objects with its aggregated roles as the reference's controller had filled them."""
    filled = corpus["aggregated"]
    return [
        {**obj, "rules": filled[obj["metadata"]["name"]]}
        if obj["kind"] == "ClusterRole" and obj["metadata"]["name"] in filled
        else obj
        for obj in corpus["defaults"] + corpus["policy"]
    ]


def asked(spec: dict[str, Any]) -> Attributes:
    user = UserInfo(spec.get("user", ""), "", tuple(spec.get("groups") or ()))
    if "resourceAttributes" in spec:
        r = spec["resourceAttributes"]
        return Attributes(
            user,
            r.get("verb", ""),
            True,
            r.get("group", ""),
            r.get("version", ""),
            r.get("resource", ""),
            r.get("subresource", ""),
            r.get("namespace", ""),
            r.get("name", ""),
        )
    r = spec["nonResourceAttributes"]
    return Attributes(user, r.get("verb", ""), False, path=r.get("path", ""))


def parts(reason: str) -> list[str]:
    return sorted(re.split(r", |\[|\]", reason))


def test_every_recorded_decision_is_the_reference_s(corpus: dict[str, Any], policy: list[dict[str, Any]]) -> None:
    index = index_of(policy)
    alone = 0
    for spec, wanted in corpus["reviews"]:
        decision = index.decide(asked(spec))
        assert decision.allowed == wanted.get("allowed", False), spec
        assert decision.verdict is not Verdict.DENY
        if decision.allowed:
            possible = grants(policy, asked(spec))
            assert decision.reason in possible
            assert wanted["reason"] in possible
            if len(possible) == 1:
                alone += 1
                assert decision.reason == wanted["reason"]
        else:
            assert parts(decision.reason) == parts(wanted.get("reason", ""))
    assert alone > 1000


async def test_every_recorded_rule_list_is_the_reference_s(
    corpus: dict[str, Any], policy: list[dict[str, Any]]
) -> None:
    index = index_of(policy)

    def ordered(rules: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps({k: sorted(v) for k, v in rule.items()}, sort_keys=True) for rule in rules)

    for user, groups, namespace, wanted in corpus["rules"]:
        found = await index.rules_for(UserInfo(user, "", tuple(groups)), namespace)
        assert ordered(found.resource_rules) == ordered(wanted.get("resourceRules") or [])
        assert ordered(found.non_resource_rules) == ordered(wanted.get("nonResourceRules") or [])
        assert parts(found.error) == parts(wanted.get("evaluationError", ""))
        assert not found.incomplete


# --- a differential test over random policies -----------------------------------------------------------------------

NAMESPACES = ("one", "two")
USERS = ("ann", "bob", "system:serviceaccount:one:robot", "system:serviceaccount:two:robot")
GROUPS = ("dev", "ops", "system:authenticated", "ann")
ROLES = ("a", "b", "c")
VERBS = ("get", "list", "*", "impersonate")
API_GROUPS = ("", "apps", "*")
RESOURCES = ("pods", "pods/log", "*", "*/log", "*/scale", "deployments/scale", "deployments", "")
NAMES = ("x", "y", "")
URLS = ("*", "/", "/healthz", "/healthz/*", "/h*", "/healthz*", "/healthz**", "//", "")
PATHS = ("/", "/healthz", "/healthz/", "/healthz/ping", "/h", "//", "", "*", "/healthz*")

resource_rules = st.fixed_dictionaries(
    {
        "verbs": st.lists(st.sampled_from(VERBS), min_size=1, max_size=2),
        "apiGroups": st.lists(st.sampled_from(API_GROUPS), min_size=1, max_size=2),
        "resources": st.lists(st.sampled_from(RESOURCES), min_size=1, max_size=3),
    },
    optional={"resourceNames": st.lists(st.sampled_from(NAMES), max_size=2)},
)
url_rules = st.fixed_dictionaries(
    {
        "verbs": st.lists(st.sampled_from(VERBS), min_size=1, max_size=2),
        "nonResourceURLs": st.lists(st.sampled_from(URLS), min_size=1, max_size=2),
    }
)
rule_lists = st.one_of(st.none(), st.lists(st.one_of(resource_rules, url_rules), max_size=3))
subjects = st.one_of(
    st.fixed_dictionaries({"kind": st.just("User"), "name": st.sampled_from(USERS)}),
    st.fixed_dictionaries({"kind": st.just("Group"), "name": st.sampled_from(GROUPS)}),
    st.fixed_dictionaries(
        {"kind": st.just("ServiceAccount"), "name": st.just("robot")},
        optional={"namespace": st.sampled_from((*NAMESPACES, ""))},
    ),
)


def role(kind: str, namespace: str, name: str, rules: Any) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"kind": kind, "metadata": metadata, "rules": rules}


def binding(kind: str, namespace: str, name: str, to: tuple[str, str], who: Any) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": GROUP, "kind": to[0], "name": to[1]},
        "subjects": who,
    }


who = st.one_of(st.none(), st.lists(subjects, max_size=3))
bound_names = st.sampled_from(("p", "q", "r"))
objects = st.one_of(
    st.builds(role, st.just("ClusterRole"), st.just(""), st.sampled_from(ROLES), rule_lists),
    st.builds(role, st.just("Role"), st.sampled_from(NAMESPACES), st.sampled_from(ROLES), rule_lists),
    st.builds(
        binding,
        st.just("ClusterRoleBinding"),
        st.just(""),
        bound_names,
        st.tuples(st.just("ClusterRole"), st.sampled_from(ROLES)),
        who,
    ),
    st.builds(
        binding,
        st.just("RoleBinding"),
        st.sampled_from(NAMESPACES),
        bound_names,
        st.tuples(st.sampled_from(("Role", "ClusterRole")), st.sampled_from(ROLES)),
        who,
    ),
)
steps = st.lists(st.tuples(st.booleans(), objects), max_size=30)
users = st.builds(
    lambda name, groups: UserInfo(name, "", tuple(groups)),
    st.sampled_from((*USERS, "nobody")),
    st.lists(st.sampled_from(GROUPS), max_size=3),
)
questions = st.one_of(
    st.builds(
        lambda user, verb, group, resource, subresource, namespace, name: Attributes(
            user, verb, True, group, "v1", resource, subresource, namespace, name
        ),
        users,
        st.sampled_from(("get", "list", "impersonate", "delete", "*")),
        st.sampled_from(("", "apps", "batch")),
        st.sampled_from(("pods", "deployments", "nodes", "*", "")),
        st.sampled_from(("", "log", "scale", "x")),
        st.sampled_from((*NAMESPACES, "", "three")),
        st.sampled_from(("x", "y", "z", "")),
    ),
    st.builds(
        lambda user, verb, path: Attributes(user, verb, False, path=path),
        users,
        st.sampled_from(("get", "list", "*")),
        st.sampled_from(PATHS),
    ),
)

POLICIES = int(os.environ.get("KUBEGATE_DIFFERENTIAL_POLICIES", "150"))
"""Policies tried, each with 40 questions; 2,500 make the 100,000 decisions that the releases are held to."""


def key(obj: dict[str, Any]) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


@settings(max_examples=POLICIES, deadline=None)
@given(steps, st.lists(questions, min_size=40, max_size=40))
def test_the_index_decides_as_a_plain_evaluator_after_any_changes(
    changes: list[tuple[bool, dict[str, Any]]], asks: list[Attributes]
) -> None:
    index = RbacIndex()
    present: dict[tuple[str, str, str], dict[str, Any]] = {}
    for removed, obj in changes:
        if removed:
            present.pop(key(obj), None)
            index.remove(obj)
        else:
            present[key(obj)] = obj
            index.put(obj)
    now = list(present.values())
    for attributes in asks:
        decision = index.decide(attributes)
        possible = grants(now, attributes)
        assert decision.allowed == bool(possible)
        if possible:
            assert decision.reason in possible
            namespaced = {reason for reason in possible if "by RoleBinding" in reason}
            assert decision.reason not in namespaced or namespaced == set(possible)
        else:
            lost = missing(now, attributes)
            text = decision.reason.removeprefix("RBAC: ")
            assert set(filter(None, parts(text))) == lost
    assert len(index) == sum("Binding" in kind for kind, _, _ in present)


def test_nothing_is_left_behind_when_everything_is_taken_away() -> None:
    index = RbacIndex()
    objs = [
        role("Role", "one", "a", [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]),
        binding("RoleBinding", "one", "p", ("Role", "a"), [{"kind": "User", "name": "ann"}]),
        binding("RoleBinding", "one", "q", ("ClusterRole", "gone"), [{"kind": "Group", "name": "dev"}]),
    ]
    for obj in objs:
        index.put(obj)
    assert list(index.namespaces()) == ["one"]
    for obj in objs:
        index.remove(obj)
    assert not list(index.namespaces())
    assert not list(index.roles())
    assert len(index) == 0


def test_a_subject_that_comes_first_in_the_binding_is_the_one_named() -> None:
    index = index_of(
        [
            role("ClusterRole", "", "a", [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]),
            binding(
                "ClusterRoleBinding",
                "",
                "p",
                ("ClusterRole", "a"),
                [{"kind": "Group", "name": "dev"}, {"kind": "User", "name": "ann"}],
            ),
        ]
    )
    decision = index.decide(Attributes(UserInfo("ann", "", ("dev",)), "get", resource="pods"))
    assert decision.reason == 'RBAC: allowed by ClusterRoleBinding "p" of ClusterRole "a" to Group "dev"'
