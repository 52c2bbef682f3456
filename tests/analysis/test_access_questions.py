"""Who can, lookup, rolesum, matrix, policy rules, audits, differences."""

from __future__ import annotations

from pathlib import Path

from access_manifests import bound, cluster, role, rule, write

from kubegate.analysis.audit_roles import audit
from kubegate.analysis.privileges import ADMIN, Graph, label
from kubegate.analysis.questions import question, user_of
from kubegate.analysis.sources import from_folder
from kubegate.analysis.subjects import holdings, lookup, matrix, policy_rules, rolesum
from kubegate.analysis.whatif import diff
from kubegate.analysis.whocan import who_can

NOBODY = user_of("nobody")


def test_who_can_names_every_subject_with_its_reach() -> None:
    source = cluster(
        role("ClusterRole", "pods", [rule("get", "pods")]),
        role("Role", "pods", [rule("*", "*", "*")], "b"),
        bound("everywhere", "ClusterRole", "pods", "User ann", "ServiceAccount ci/robot"),
        bound("here", "ClusterRole", "pods", "Group dev", namespace="a"),
        bound("there", "Role", "pods", "User bob", namespace="b"),
    )

    def found(**more: object) -> list[tuple[str, str, str]]:
        holders = who_can(source, question(NOBODY, "get", "pods", namespace="a"), **more)  # type: ignore[arg-type]
        return [(holder.kind, holder.name, holder.scope) for holder in holders]

    everybody = [("Group", "system:masters", ""), ("Group", "dev", "a"), ("ServiceAccount", "robot", "")]
    assert found() == [*everybody, ("User", "ann", "")]
    assert found(all_namespaces=True) == [*everybody, ("User", "ann", ""), ("User", "bob", "b")]
    assert len(who_can(source, question(NOBODY, "get", "/x"))) == 1


def test_lookup_by_name_by_service_account_and_by_expression(tmp_path: Path) -> None:
    source = from_folder(write(tmp_path))
    assert [(each.scope, each.role.name) for each in lookup(source, "alice")] == [
        ("prod", "reader"),
        ("staging", "edit"),
    ]
    for text in ("ci/robot", "ci:robot", "system:serviceaccount:ci:robot", "robot"):
        assert [each.binding.name for each in lookup(source, text)] == ["deployers"]
    assert {each.name for each in lookup(source, "^(alice|bob)$", regex=True)} == {"alice", "bob"}
    assert lookup(source, "bob")[0].to_dict()["role"] == {"kind": "Role", "name": "gone", "missing": True}
    assert lookup(source, "alice", kind="Group") == []


def test_rolesum_adds_up_scope_by_scope() -> None:
    path_rule = {"verbs": ["get"], "nonResourceURLs": ["/x"]}
    source = cluster(
        role("ClusterRole", "a", [rule("get", "pods"), rule("list", "pods secrets"), path_rule]),
        role("Role", "b", [rule("*", "deployments", "apps", "web")], "ns"),
        bound("one", "ClusterRole", "a", "Group dev"),
        bound("two", "Role", "b", "User ann", namespace="ns"),
        bound("three", "ClusterRole", "a", "User ann", namespace="ns"),
    )  # fmt: skip
    everywhere, here = rolesum(source, user_of("ann", ("dev",)))
    assert everywhere.to_dict() == {
        "scope": "cluster",
        "bindings": [{"binding": "one", "role": "a", "missing": False}],
        "permissions": [
            {"resource": "/x", "verbs": ["get"]},
            {"resource": "pods", "verbs": ["get", "list"]},
            {"resource": "secrets", "verbs": ["list"]},
        ],
    }
    assert here.to_dict()["permissions"] == [
        {"resource": "deployments.apps", "verbs": ["*"], "name": "web"},
        {"resource": "pods", "verbs": ["get", "list"]},
        {"resource": "secrets", "verbs": ["list"]},
    ]


def test_a_matrix_has_subjects_by_resources(tmp_path: Path) -> None:
    source = from_folder(write(tmp_path))
    asked = [question(NOBODY, "get", each, namespace="prod") for each in ("pods", "deployments")]
    found = matrix(source, asked, "prod")
    assert found.resources == ("pods", "deployments.apps")
    rows = {label: cells for _, label, cells in found.rows}
    assert rows["alice"] == (("get", "list", "watch"), ())
    assert rows["ci/robot"][1][:2] == ("get", "list")
    assert "system:kube-scheduler" not in rows
    assert "system:kube-scheduler" in {label for _, label, _ in matrix(source, asked, "prod", system=True).rows}


def test_policy_rules_have_a_line_for_each_resource(tmp_path: Path) -> None:
    source = from_folder(write(tmp_path), defaults=False)
    lines = [line.to_dict() for line in policy_rules(source, lookup(source, "alice"))]
    assert lines[2] == {
        "kind": "User",
        "subject": "alice",
        "verbs": ["get"],
        "namespace": "prod",
        "apiGroup": "",
        "resource": "secrets",
        "resourceNames": ["tls"],
        "origin": "Role reader through RoleBinding readers",
    }
    assert len(list(holdings(source))) == 5


# --- audits ---------------------------------------------------------------------------------------------------------


def checks(*objects: object) -> dict[str, str]:
    return {finding.check: finding.where for finding in audit(cluster(*objects))}  # type: ignore[arg-type]


def test_dangerous_rules_are_found() -> None:
    dangers = {
        "wildcard": rule("*", "*", "*"),
        "escalate": rule("escalate", "roles", "rbac.authorization.k8s.io"),
        "bind": rule("bind", "clusterroles", "rbac.authorization.k8s.io"),
        "impersonate": rule("impersonate", "users"),
        "read-secrets": rule("list", "secrets"),
        "service-account-tokens": rule("create", "serviceaccounts/token"),
        "exec": rule("create", "pods/exec"),
        "nodes-proxy": rule("get", "nodes/proxy"),
        "approve-certificates": rule("update", "certificatesigningrequests/approval", "certificates.k8s.io"),
        "admission-webhooks": rule("patch", "mutatingwebhookconfigurations", "admissionregistration.k8s.io"),
    }
    for check, danger in dangers.items():
        found = checks(role("ClusterRole", "r", [danger]), bound("b", "ClusterRole", "r", "User ann"))
        assert found[check] == "ClusterRole r", check
    assert (
        set(checks(role("ClusterRole", "r", [rule("get", "pods")]), bound("b", "ClusterRole", "r", "User a"))) == set()
    )


def test_leftovers_are_found() -> None:
    found = checks(
        role("Role", "unused", [rule("get", "pods")], "ns"),
        role("Role", "empty", [], "ns"),
        bound("lost", "Role", "gone", "User ann", namespace="ns"),
        bound("nobody", "Role", "empty", namespace="ns"),
        bound("twice", "Role", "empty", "User ann", "User ann", namespace="ns"),
        bound("all", "Role", "empty", "Group system:unauthenticated", namespace="ns"),
        bound("foreign", "Role", "empty", "ServiceAccount other/robot", namespace="ns"),
    )
    assert found == {
        "unused-role": "Role ns/unused",
        "empty-role": "Role ns/empty",
        "missing-role": "RoleBinding ns/lost",
        "unused-binding": "RoleBinding ns/nobody",
        "duplicate-subject": "RoleBinding ns/twice",
        "everybody": "RoleBinding ns/all",
        "foreign-service-account": "RoleBinding ns/foreign",
    }


def test_a_fresh_cluster_has_no_findings_of_its_own(tmp_path: Path) -> None:
    source = from_folder(write(tmp_path, "{kind: Namespace, metadata: {name: a}}"))
    assert audit(source) == []
    assert audit(source, system=True)


def path(source: object, kind: str, name: str) -> list[str] | None:
    steps = Graph(source).path_to_admin((kind, name))  # type: ignore[arg-type]
    return None if steps is None else [label(step.target) for step in steps]


ROOT = (
    role("ClusterRole", "root", [rule("*", "*", "*")]),
    bound("root", "ClusterRole", "root", "ServiceAccount sys/root"),
)


def test_each_way_to_cluster_admin_is_found() -> None:
    rbac = "rbac.authorization.k8s.io"
    in_sys = {
        "by a pod": rule("create", "pods"),
        "by a workload": rule("create", "daemonsets", "apps"),
        "by a token": rule("create", "serviceaccounts/token"),
        "by a token of that name": rule("create", "serviceaccounts/token", "", "root"),
        "by a command": rule("create", "pods/exec"),
        "by impersonation": rule("impersonate", "serviceaccounts"),
    }
    for name, held in in_sys.items():
        source = cluster(*ROOT, role("Role", "r", [held], "sys"), bound("b", "Role", "r", "User ann", namespace="sys"))
        assert path(source, "User", "ann") == ["ServiceAccount sys/root", "cluster-admin"], name
        elsewhere = cluster(*ROOT, role("Role", "r", [held], "x"), bound("b", "Role", "r", "User ann", namespace="x"))
        assert path(elsewhere, "User", "ann") is None, name
    everywhere = {
        "bind": [rule("bind", "clusterroles", rbac), rule("create", "clusterrolebindings", rbac)],
        "escalate": [rule("escalate update", "clusterroles", rbac)],
    }
    for name, rules in everywhere.items():
        source = cluster(role("ClusterRole", "r", rules), bound("b", "ClusterRole", "r", "User ann"))
        assert path(source, "User", "ann") == ["cluster-admin"], name
    masters = [rule("impersonate", "users groups")]
    source = cluster(role("ClusterRole", "r", masters), bound("b", "ClusterRole", "r", "User ann"))
    assert path(source, "User", "ann") == ["Group system:masters"]
    # a token of another name, one half of a way, a member of a group
    other = rule("create", "serviceaccounts/token", "", "other")
    source = cluster(*ROOT, role("Role", "r", [other], "sys"), bound("b", "Role", "r", "User ann", namespace="sys"))
    assert path(source, "User", "ann") is None
    half = cluster(role("ClusterRole", "r", [everywhere["bind"][0]]), bound("b", "ClusterRole", "r", "User ann"))
    assert path(half, "User", "ann") is None
    group = cluster(*ROOT, bound("b", "ClusterRole", "root", "Group system:serviceaccounts:ci"),
                    bound("c", "ClusterRole", "none", "ServiceAccount ci/robot"))  # fmt: skip
    assert path(group, "ServiceAccount", "ci/robot") == ["Group system:serviceaccounts:ci", "cluster-admin"]
    assert path(cluster(*ROOT), "ServiceAccount", "sys/root") == [ADMIN[1]]


# --- what if --------------------------------------------------------------------------------------------------------


def test_a_difference_is_told_by_subject_and_scope() -> None:
    old = cluster(
        role("ClusterRole", "r", [rule("get list", "pods")]),
        bound("a", "ClusterRole", "r", "User ann", "User bob", namespace="ns"),
    )
    new = cluster(
        role("ClusterRole", "r", [rule("get", "pods secrets")]),
        bound("a", "ClusterRole", "r", "User ann", namespace="ns"),
        bound("b", "ClusterRole", "r", "Group dev"),
    )
    found = {(each.subject, each.scope): (list(each.gains), list(each.losses)) for each in diff(old, new)}
    assert found == {
        ("dev", ""): ([rule("get", "pods"), rule("get", "secrets")], []),
        ("ann", "ns"): ([rule("get", "secrets")], [rule("list", "pods")]),
        ("bob", "ns"): ([], [rule("get list", "pods")]),
    }
    assert diff(old, old) == []


def test_what_is_held_everywhere_is_not_lost_in_a_namespace() -> None:
    rules = role("ClusterRole", "r", [rule("get", "pods")])
    here = cluster(rules, bound("a", "ClusterRole", "r", "User ann", namespace="ns"))
    everywhere = cluster(rules, bound("a", "ClusterRole", "r", "User ann"))
    [difference] = diff(here, everywhere)
    assert (difference.scope, difference.losses) == ("", ())
    shrunk = diff(everywhere, here)
    assert [(each.scope, bool(each.gains), bool(each.losses)) for each in shrunk] == [("", False, True)]


def test_a_patch_is_put_on_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "old")
    patch = tmp_path / "patch.yaml"
    patch.write_text(
        "{kind: RoleBinding, metadata: {name: readers, namespace: prod}, $patch: delete}\n---\n"
        "{kind: Role, metadata: {name: gone, namespace: prod}, "
        "rules: [{verbs: [get], apiGroups: [''], resources: [pods]}]}"
    )
    found = diff(from_folder(folder), from_folder(folder, patch=patch))
    assert [(each.subject, bool(each.gains), bool(each.losses)) for each in found] == [
        ("dev", False, True),
        ("alice", False, True),
        ("bob", True, False),
    ]
