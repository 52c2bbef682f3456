"""The commands, as people type them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from access_manifests import write
from typer.testing import CliRunner, Result

from kubegate.cli.commands import load

app = load("")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "manifests")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def found(*words: object) -> object:
    result = run(*words, "-o", "json")
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)


def test_why_explains_a_refusal_and_says_so_in_its_exit_code(folder: Path) -> None:
    result = run("why", "--as", "alice", "get", "secrets/db", "-n", "prod", "--from", folder)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == 'alice (groups: system:authenticated) may not get secrets "db" in namespace "prod"'
    assert "  RoleBinding prod/readers -> Role prod/reader, for User alice, rule 1 comes closest" in lines
    assert "    resourceName: tls, not db" in lines
    assert any(line.startswith("  (and what every cluster has: system:") for line in lines)
    assert "the smallest change: a new Role with just this, bound to User alice" in lines
    assert found("why", "--as", "alice", "get", "secrets/db", "-n", "prod", "--from", folder)["allowed"] is False  # type: ignore[index]


def test_why_explains_an_allowance(folder: Path) -> None:
    result = run("why", "--as", "ci:robot", "delete", "deployments/web", "-n", "prod", "--from", folder)
    assert result.exit_code == 0
    assert "ClusterRoleBinding deployers -> ClusterRole deployer, for ServiceAccount ci/robot" in result.stdout


def test_why_explains_a_request_of_an_audit_log(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    reference = {"resource": "pods", "namespace": "prod"}
    event = {"auditID": "x-1", "verb": "list", "user": {"username": "alice"}, "objectRef": reference}
    log.write_text(json.dumps(event))
    assert run("why", "--audit-log", log, "x-1", "--from", folder).exit_code == 0
    missing = run("why", "--audit-log", log, "x-2", "--from", folder)
    assert (missing.exit_code, "no request has the audit ID x-2" in missing.stderr) == (2, True)


def test_who_can_and_lookup_print_tables(folder: Path) -> None:
    result = run("who-can", "list", "pods", "-n", "prod", "--from", folder)
    rows = [line.split()[:3] for line in result.stdout.splitlines()]
    assert rows[0] == ["KIND", "SUBJECT", "NAMESPACE"]
    assert ["User", "alice", "prod"] in rows
    result = run("lookup", "alice", "--from", folder)
    assert [line.split() for line in result.stdout.splitlines()][1:] == [
        ["alice", "User", "Role", "prod", "Role/reader", "readers"],
        ["alice", "User", "Role", "staging", "ClusterRole/edit", "editors"],
    ]
    assert len(found("lookup", "-e", "^(alice|bob)$", "--from", folder)) == 3  # type: ignore[arg-type]
    assert run("lookup", "-e", "(", "--from", folder).exit_code == 2


@pytest.mark.parametrize(
    "words", [("who-can", "get", "pods"), ("why", "--as", "mallory", "get", "pods"), ("matrix", "pods")]
)
def test_a_name_that_would_steer_the_terminal_is_shown_as_what_it_is(tmp_path: Path, words: tuple[str, ...]) -> None:
    """CVE-2021-25743 of kubectl: escape sequences in what others wrote. Names of bindings and users may hold any."""
    evil = "\x1b]0;title\x07\x1b[2J\u202egnp"
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"binding{evil}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "User", "name": name} for name in ("mallory", f"mallory{evil}")],
    }
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    role = {**binding, "kind": "ClusterRole", "metadata": {"name": "reader"}, "rules": rules}
    (tmp_path / "list.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [binding, role]}))
    printed = run(*words, "--from", tmp_path).stdout
    assert "\\x1b]0;title\\x07\\x1b[2J\\u202egnp" in printed
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)


def test_rolesum_is_a_table_of_verbs(folder: Path) -> None:
    lines = run("rolesum", "alice", "--from", folder).stdout.splitlines()
    here = lines.index("in namespace prod")
    cells = [line.split() for line in lines[here + 1 : here + 6]]
    assert cells[0] == ["RoleBinding", "prod/readers", "->", "Role", "prod/reader"]
    assert cells[2] == ["configmaps", "*", "x", "x", "x", "-", "-", "-", "-", "-"]
    assert cells[4] == ["secrets", "tls", "x", "-", "-", "-", "-", "-", "-", "-"]


def test_a_matrix_comes_as_text_csv_and_html(folder: Path, tmp_path: Path) -> None:
    write(folder, "{kind: RoleBinding, metadata: {name: x, namespace: prod}, roleRef: {kind: Role, name: reader}, "
                  "subjects: [{kind: User, name: '=1+1'}, {kind: User, name: <b>}]}", "more.yaml")  # fmt: skip
    asked = ("matrix", "pods", "secrets", "-n", "prod", "--from", folder)
    text = [line.split() for line in run(*asked).stdout.splitlines()]
    assert ["User", "alice", "GLW-----"] in text
    rows = list(csv.reader(io.StringIO(run(*asked, "-o", "csv").stdout)))
    assert rows[0] == ["kind", "subject", "pods", "secrets"]
    # what is a formula in a spreadsheet is not one here
    assert ["User", "'=1+1", "get list watch", ""] in rows
    page = run(*asked, "-o", "html").stdout
    assert "<th scope=row>&lt;b&gt;</th>" in page
    assert "<b>" not in page


def test_an_audit_fails_a_pipeline_from_a_severity_on(folder: Path) -> None:
    result = run("audit-roles", "--from", folder)
    assert result.exit_code == 0
    assert "  1. ServiceAccount ci/robot may create deployments.apps that run as it" in result.stdout
    assert run("audit-roles", "--from", folder, "--fail-on", "critical").exit_code == 1
    safe = write(folder.parent / "safe", "{kind: Role, metadata: {name: unused}, rules: []}")
    assert run("audit-roles", "--from", safe, "--fail-on", "low").exit_code == 1
    assert run("audit-roles", "--from", safe, "--fail-on", "medium").exit_code == 0
    assert run("audit-roles", "--from", folder, "--severity", "terrible").exit_code == 2
    assert {each["check"] for each in found("audit-roles", "--from", folder, "--severity", "medium")} == {  # type: ignore[union-attr,index,attr-defined]
        "missing-role",
        "path-to-admin",
        "wildcard",
    }


def test_a_difference_says_who_gains_and_loses(folder: Path, tmp_path: Path) -> None:
    patch = tmp_path / "patch.yaml"
    patch.write_text("{kind: RoleBinding, metadata: {name: readers, namespace: prod}, $patch: delete}")
    result = run("diff", folder, patch, "--exit-code")
    assert result.exit_code == 1
    assert 'User alice in namespace prod\n  - {APIGroups:[""], Resources:["configmaps"]' in result.stdout
    same = run("diff", folder, folder, "--exit-code")
    assert (same.exit_code, same.stdout) == (0, "nobody gains or loses anything\n")


def test_a_log_is_replayed_and_roles_are_made_of_it(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    reference = {"resource": "secrets", "namespace": "prod", "name": "db"}
    allowed = {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "RBAC: allowed by x"}
    event = {
        "auditID": "1",
        "verb": "get",
        "user": {"username": "alice"},
        "objectRef": reference,
        "annotations": allowed,
    }
    log.write_text(json.dumps(event))
    result = run("replay", log, "--policy", folder, "--exit-code")
    assert result.exit_code == 1
    assert "FORBID" in result.stdout
    assert "1 requests: 0 as recorded, 1 otherwise" in result.stdout
    made = run("least-privilege", log, "--for", "alice")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "roles.yaml").write_text(made.stdout)
    assert run("replay", log, "--policy", tmp_path / "made", "--exit-code").exit_code == 0
    assert run("least-privilege", log, "--for", "nobody").exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        ("why", "get", "pods"),
        ("why", "--as", "a", "get"),
        ("who-can", "get", "pods/x", "y"),
        ("lookup", "a", "--kubeconfig", "/none"),
        ("diff", "/none", "/none"),
        ("replay", "/none", "--policy", "/none"),
    ],
)
def test_what_cannot_be_understood_is_one_line(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("kubegate: ")
    assert result.stderr.count("\n") == 1
