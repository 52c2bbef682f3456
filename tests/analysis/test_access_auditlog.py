"""Audit logs put to use: replay, least privilege."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from access_manifests import bound, cluster, role, rule
from hypothesis import given, settings
from hypothesis import strategies as st

from kubegate.analysis import auditlog
from kubegate.analysis.auditlog import Recorded
from kubegate.analysis.least_privilege import Used, roles_for, used_by
from kubegate.analysis.questions import question, text_of, user_of
from kubegate.analysis.replay import replay
from kubegate.analysis.sources import SourceError
from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import index_of


def event(number: int, who: str, verb: str, decision: str | None = "allow", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": "Event",
        "auditID": f"id-{number}",
        "stage": "ResponseComplete",
        "verb": verb,
        "user": {"username": who, "groups": ["system:authenticated"]},
        "requestURI": "/api/v1/namespaces/ns/pods/x?limit=1",
        "objectRef": {"resource": "pods", "namespace": "ns", "name": "x", "apiVersion": "v1"},
    }
    if decision is not None:
        found["annotations"] = {
            "authorization.k8s.io/decision": decision,
            "authorization.k8s.io/reason": "RBAC: allowed by …" if decision == "allow" else "",
        }
    return found | more


def log(path: Path, *events: dict[str, Any] | str) -> Path:
    file = path / "audit.log"
    file.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in events))
    return file


def test_each_request_is_read_once(tmp_path: Path) -> None:
    file = log(
        tmp_path,
        event(1, "ann", "get", None, stage="RequestReceived"),
        event(1, "ann", "get"),
        event(2, "ann", "watch", stage="ResponseStarted"),
        event(2, "ann", "watch"),
        "",
        {"kind": "EventList", "items": [event(3, "bob", "get", "forbid")]},
    )
    found = [(each.audit_id, each.attributes.verb, each.allowed) for each in auditlog.read(file)]
    assert found == [("id-1", "get", True), ("id-2", "watch", True), ("id-3", "get", False)]
    zipped = tmp_path / "audit.log.gz"
    zipped.write_bytes(gzip.compress(file.read_bytes()))
    assert len(list(auditlog.read(zipped))) == 3
    one = auditlog.find(file, "id-3")
    assert one is not None
    assert text_of(one.attributes) == 'get pods "x" in namespace "ns"'
    assert auditlog.find(file, "none") is None


def test_paths_and_impersonated_users_are_read_as_they_were_asked_about(tmp_path: Path) -> None:
    path = event(1, "ann", "get", requestURI="/metrics%2Fa?x=1")
    del path["objectRef"]
    acting = event(2, "ann", "get", impersonatedUser={"username": "bob", "groups": ["g"]})
    first, second = auditlog.read(log(tmp_path, path, acting))
    assert first.attributes == Attributes(
        UserInfo("ann", "", ("system:authenticated",)), "get", False, path="/metrics/a"
    )
    assert second.attributes.user == UserInfo("bob", "", ("g",))


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"audit\.log, line 2"):
        list(auditlog.read(log(tmp_path, event(1, "a", "get"), "{")))
    with pytest.raises(SourceError, match="cannot be read"):
        list(auditlog.read(tmp_path / "none"))


def test_a_replay_tells_what_would_be_decided_otherwise(tmp_path: Path) -> None:
    file = log(
        tmp_path,
        event(1, "ann", "get"),
        event(2, "ann", "delete"),
        event(3, "ann", "delete"),
        event(4, "bob", "get", "forbid"),
        event(5, "ann", "get", None),
        event(6, "system:node:a", "get", annotations={"authorization.k8s.io/decision": "allow"}),
        event(7, "root", "get", user={"username": "root", "groups": ["system:masters"]},
              annotations={"authorization.k8s.io/decision": "allow"}),
    )  # fmt: skip
    policy = cluster(
        role("ClusterRole", "r", [rule("get", "pods")]), bound("b", "ClusterRole", "r", "User ann", "User bob")
    )
    found = replay(policy, auditlog.read(file))
    assert (found.requests, found.same, found.changed, found.undecided, found.elsewhere) == (7, 2, 3, 1, 1)
    assert [(each.attributes.user.name, each.allowed, each.count, each.audit_id) for each in found.otherwise] == [
        ("ann", False, 2, "id-2"),
        ("bob", True, 1, "id-4"),
    ]
    assert found.to_dict()["otherwise"][0]["recorded"] == "allow"


# --- least privilege ------------------------------------------------------------------------------------------------

ANN = user_of("ann")
VERBS = ("get", "list", "create", "delete")
RESOURCES = ("pods", "secrets", "deployments.apps", "jobs.batch")
asked = st.builds(
    lambda v, r, n, ns, s: question(ANN, v, r, n, namespace=ns, subresource=s),
    st.sampled_from(VERBS),
    st.sampled_from(RESOURCES),
    st.sampled_from(("", "x", "y")),
    st.sampled_from(("a", "b", "")),
    st.sampled_from(("", "status")),
)
EVERY = [
    question(ANN, v, r, n, namespace=ns, subresource=s)
    for v in VERBS for r in RESOURCES for n in ("", "x", "y", "z") for ns in ("a", "b", "c", "") for s in ("", "status")
]  # fmt: skip


def used(*questions: Attributes) -> Used:
    return used_by(ANN, [Recorded(each, True, "", "") for each in questions])


def made(found: Used, **more: int) -> list[dict[str, Any]]:
    return roles_for(ANN, found, "ann-used", **more)


@settings(max_examples=150, deadline=None)
@given(st.lists(asked, max_size=12), st.sampled_from((0, 1, 5)))
def test_roles_cover_what_was_used_and_nothing_else(questions: list[Attributes], max_names: int) -> None:
    index = index_of(made(used(*questions), max_names=max_names))
    for each in questions:
        assert index.decide(each).allowed
    places = {(each.verb, each.api_group, each.resource, each.subresource) for each in questions}
    everywhere = {p for p in places for each in questions if not each.namespace and p == place(each)}
    local = {(place(each), each.namespace) for each in questions}
    for each in EVERY:
        if index.decide(each).allowed:
            assert place(each) in everywhere or (place(each), each.namespace) in local


def place(each: Attributes) -> tuple[str, str, str, str]:
    return each.verb, each.api_group, each.resource, each.subresource


def test_rules_are_few_and_named_where_all_uses_named_an_object() -> None:
    found = made(
        used(
            question(ANN, "get", "pods/x", namespace="a"),
            question(ANN, "get", "secrets/x", namespace="a"),
            question(ANN, "list", "pods", namespace="a"),
            question(ANN, "list", "secrets", namespace="a"),
            question(ANN, "get", "/metrics"),
        )
    )
    assert [(obj["kind"], obj.get("rules")) for obj in found] == [
        ("ClusterRole", [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]),
        ("ClusterRoleBinding", None),
        ("Role", [rule("get", "pods secrets", "", "x"), rule("list", "pods secrets")]),
        ("RoleBinding", None),
    ]


def test_namespaces_with_the_same_use_share_a_cluster_role() -> None:
    found = made(used(question(ANN, "list", "pods", namespace="a"), question(ANN, "list", "pods", namespace="b")))
    assert [(obj["kind"], obj["metadata"].get("namespace")) for obj in found] == [
        ("ClusterRole", None),
        ("RoleBinding", "a"),
        ("RoleBinding", "b"),
    ]


def test_only_what_was_allowed_counts_unless_asked() -> None:
    recorded = [
        Recorded(question(ANN, "get", "pods", namespace="a"), True, "", ""),
        Recorded(question(ANN, "delete", "pods", namespace="a"), False, "", ""),
        Recorded(question(user_of("bob"), "create", "pods", namespace="a"), True, "", ""),
    ]
    assert made(used_by(ANN, recorded))[0]["rules"] == [rule("get", "pods")]
    assert made(used_by(ANN, recorded, refused=True))[0]["rules"] == [rule("get delete", "pods")]
