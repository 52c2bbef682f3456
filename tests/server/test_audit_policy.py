"""An audit policy that says something else than it seems to is refused at the start, with each place."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubegate.server.audit_policy import Policy, read_policy
from kubegate.server.options import UsageError


def policy(folder: Path, text: str) -> Policy:
    (folder / "policy.yaml").write_text(text)
    return read_policy(folder / "policy.yaml")


def said(folder: Path, text: str) -> str:
    """Why it is refused."""
    with pytest.raises(UsageError) as refused:
        policy(folder, text)
    start = f"--audit-policy-file: {folder}/policy.yaml: "
    assert str(refused.value).startswith(start)
    return str(refused.value).removeprefix(start)


def rules(text: str) -> str:
    return f"kind: Policy\napiVersion: audit.k8s.io/v1\nrules: {text}\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "not YAML: "),
        ("[]", "expected kind: Policy of apiVersion: audit.k8s.io/v1"),
        ("kind: Policy\napiVersion: v1\nrules: []\n", "apiVersion: 'v1'; expected audit.k8s.io/v1"),
        ("kind: Policy\napiVersion: audit.k8s.io/v1\n", "rules: loaded illegal policy with 0 rules"),
    ],
)
def test_what_is_no_policy(tmp_path: Path, text: str, why: str) -> None:
    assert said(tmp_path, text).startswith(why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (rules("[{level: None, user: [bob]}]"), 'unknown field "rules[0].user", did you mean users?'),
        (rules("[{level: None, Users: [bob]}]"), 'unknown field "rules[0].Users", did you mean users?'),
        (
            rules('[{level: Metadata}, {level: None, resources: [{group: "", resource: [pods]}]}]'),
            'unknown field "rules[1].resources[0].resource", did you mean resources?',
        ),
        (f"{rules('[{level: None}]')}omitStage: [Panic]\n", 'unknown field "omitStage", did you mean omitStages?'),
        (rules("[{level: None, level: Metadata}]"), 'line 3: key "level" already set in map'),
    ],
)
def test_a_field_that_nobody_would_read_is_refused(tmp_path: Path, text: str, why: str) -> None:
    assert why in said(tmp_path, text)
    assert said(tmp_path, text).startswith("strict decoding error: ")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("alice", 'rules[0]: Invalid value: "alice": must be an object'),
        ("{level: None, users: alice}", 'rules[0].users: Invalid value: "alice": must be a list'),
        ("{level: None, users: {alice: true}}", 'rules[0].users: Invalid value: {"alice":true}: must be a list'),
        ("{level: None, userGroups: [a, 1]}", "rules[0].userGroups[1]: Invalid value: 1: must be a text"),
        ("{level: None, verbs: get}", 'rules[0].verbs: Invalid value: "get": must be a list'),
        ("{level: None, namespaces: x}", 'rules[0].namespaces: Invalid value: "x": must be a list'),
        ("{level: None, resources: [pods]}", 'rules[0].resources[0]: Invalid value: "pods": must be an object'),
        (
            "{level: None, resources: [{resources: pods}]}",
            'rules[0].resources[0].resources: Invalid value: "pods": must be a list',
        ),
        ("{level: None, omitStages: Panic}", 'rules[0].omitStages: Invalid value: "Panic": must be a list'),
        (
            "{level: None, omitManagedFields: x}",
            'rules[0].omitManagedFields: Invalid value: "x": must be true or false',
        ),
    ],
)
def test_what_has_the_wrong_type_is_refused(tmp_path: Path, rule: str, why: str) -> None:
    assert why in said(tmp_path, rules(f"[{rule}]")).split("; ")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("{users: [alice]}", "rules[0].level: Required value"),
        (
            "{level: Loud}",
            'rules[0].level: Unsupported value: "Loud": supported values: '
            '"None", "Metadata", "Request", "RequestResponse"',
        ),
        (
            "{level: None, omitStages: [Panic, x]}",
            'rules[0].omitStages[1]: Invalid value: "x": allowed stages are '
            "RequestReceived,ResponseStarted,ResponseComplete,Panic",
        ),
        (
            "{level: None, nonResourceURLs: [livez]}",
            'rules[0].nonResourceURLs[0]: Invalid value: "livez": '
            "non-resource URL rules must begin with a '/' character",
        ),
        (
            '{level: None, nonResourceURLs: ["*", "/a*b"]}',
            'rules[0].nonResourceURLs[1]: Invalid value: "/a*b": '
            "non-resource URL wildcards '*' must be the final character of the rule",
        ),
        (
            "{level: None, nonResourceURLs: [/a], namespaces: [b]}",
            'rules[0].nonResourceURLs: Invalid value: ["/a"]: '
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
        (
            "{level: None, resources: [{resourceNames: [x]}]}",
            'rules[0].resources[0].resourceNames: Invalid value: ["x"]: '
            "using resourceNames requires at least one resource",
        ),
    ],
)
def test_what_kube_apiserver_refuses_is_refused_in_its_words(tmp_path: Path, rule: str, why: str) -> None:
    assert said(tmp_path, rules(f"[{rule}]")) == why


def test_a_group_is_a_name(tmp_path: Path) -> None:
    why = said(tmp_path, rules('[{level: None, resources: [{group: "*"}]}]'))
    assert why.startswith('rules[0].resources[0].group: Invalid value: "*": a lowercase RFC 1123 subdomain')


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    why = said(tmp_path, rules("[{level: Loud}, {users: alice}]"))
    assert [part.partition(":")[0] for part in why.split("; ")] == [
        "rules[0].level",
        "rules[1].level",
        "rules[1].users",
    ]


def test_what_is_left_out_or_null_matches_everything(tmp_path: Path) -> None:
    (rule,) = policy(tmp_path, rules("[{level: Metadata, users: null, omitManagedFields: null}]")).rules
    assert (rule.users, rule.resources, rule.omit_managed_fields) == (frozenset(), (), False)


def test_a_rule_may_differ_from_the_policy_in_what_it_leaves_out(tmp_path: Path) -> None:
    text = rules("[{level: Request, omitManagedFields: false, omitStages: [Panic]}, {level: Request}]")
    first, second = policy(tmp_path, f"{text}omitManagedFields: true\nomitStages: [RequestReceived]\n").rules
    assert (first.omit_managed_fields, second.omit_managed_fields) == (False, True)
    assert first.omit_stages == {"RequestReceived", "Panic"}
    assert second.omit_stages == {"RequestReceived"}
