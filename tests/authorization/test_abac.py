"""ABAC policy files."""

from __future__ import annotations

from pathlib import Path

import pytest
from authorization_world import ask, ask_path, user

from kubegate.authorization.abac import Abac, PolicyError

V1 = '{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": %s}'


def policy(path: Path, *lines: str) -> Abac:
    file = path / "policy.jsonl"
    file.write_text("\n".join(lines))
    return Abac.from_file(file)


async def allowed(abac: Abac, question: object) -> bool:
    return (await abac.authorize(question)).allowed  # type: ignore[arg-type]


async def test_a_line_allows_what_all_its_fields_say(tmp_path: Path) -> None:
    abac = policy(
        tmp_path,
        "# comments and empty lines are skipped",
        "",
        V1 % '{"user": "alice", "namespace": "a", "resource": "pods", "apiGroup": "", "readonly": true}',
        V1 % '{"user": "alice", "namespace": "b", "resource": "*", "apiGroup": "*"}',
    )
    # an empty apiGroup is the core group, an empty field allows nothing else
    assert await allowed(abac, ask("get", "pods", namespace="a"))
    assert not await allowed(abac, ask("create", "pods", namespace="a"))
    assert not await allowed(abac, ask("get", "secrets", namespace="a"))
    assert not await allowed(abac, ask("get", "pods", namespace="a", who=user("bob")))
    assert await allowed(abac, ask("delete", "deployments.apps", namespace="b"))
    assert not await allowed(abac, ask("get", "pods"))
    assert not await allowed(abac, ask_path("get", "/healthz"))


async def test_user_and_group_must_both_match(tmp_path: Path) -> None:
    abac = policy(
        tmp_path, V1 % '{"user": "alice", "group": "dev", "namespace": "*", "resource": "*", "apiGroup": "*"}'
    )
    assert await allowed(abac, ask("get", "pods", who=user("alice", "dev")))
    assert not await allowed(abac, ask("get", "pods", who=user("alice")))
    assert not await allowed(abac, ask("get", "pods", who=user("bob", "dev")))


async def test_a_star_means_those_who_logged_in(tmp_path: Path) -> None:
    abac = policy(tmp_path, V1 % '{"user": "*", "nonResourcePath": "/health*"}')
    assert await allowed(abac, ask_path("get", "/healthz", user("alice", "system:authenticated")))
    assert not await allowed(abac, ask_path("get", "/healthz", user("system:anonymous", "system:unauthenticated")))
    assert not await allowed(abac, ask_path("get", "/metrics", user("alice", "system:authenticated")))


@pytest.mark.parametrize("who", ['"user": "*", "group": "dev"', '"user": "bob", "group": "*"'])
async def test_a_star_counts_more_than_what_stands_beside_it(tmp_path: Path, who: str) -> None:
    abac = policy(tmp_path, V1 % f'{{{who}, "nonResourcePath": "*"}}')
    assert await allowed(abac, ask_path("get", "/x", user("alice", "system:authenticated")))
    assert not await allowed(abac, ask_path("get", "/x", user("bob", "dev")))


async def test_the_oldest_form_may_say_so(tmp_path: Path) -> None:
    version = "abac.authorization.kubernetes.io/v0"
    abac = policy(tmp_path, f'{{"apiVersion": "{version}", "kind": "Policy", "user": "admin"}}')
    assert await allowed(abac, ask_path("post", "/x", user("admin")))


async def test_the_oldest_form_takes_what_is_left_out_as_everything(tmp_path: Path) -> None:
    abac = policy(
        tmp_path, '{"user": "admin"}', '{"user": "bob", "namespace": "b", "readonly": true}', '{"resource": "events"}'
    )
    assert await allowed(abac, ask("delete", "nodes", who=user("admin")))
    assert await allowed(abac, ask_path("post", "/x", user("admin")))
    assert await allowed(abac, ask("get", "deployments.apps", namespace="b", who=user("bob")))
    assert not await allowed(abac, ask_path("get", "/x", user("bob")))
    assert await allowed(abac, ask("create", "events", namespace="z", who=user("eve", "system:authenticated")))


async def test_a_refusal_and_the_rules_are_told(tmp_path: Path) -> None:
    abac = policy(
        tmp_path,
        V1 % '{"user": "alice", "namespace": "a", "resource": "pods", "apiGroup": "", "readonly": true}',
        V1 % '{"user": "alice", "namespace": "*", "nonResourcePath": "/x"}',
    )
    assert (await abac.authorize(ask("get", "secrets"))).reason == "No policy matched."
    rules = await abac.rules_for(user("alice"), "a")
    assert rules.resource_rules == [{"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]}]
    assert rules.non_resource_rules == [{"verbs": ["*"], "nonResourceURLs": ["/x"]}]
    assert (await abac.rules_for(user("alice"), "b")).resource_rules == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2"),
        ("[]", "JSON object"),
        ('{"apiVersion": "v1", "kind": "Policy"}', "apiVersion must be abac"),
        (V1 % '{"users": "x"}', "no field 'users'"),
        (V1 % '{"readonly": "yes"}', "readonly must be a boolean"),
        (V1 % "3", "spec is missing"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy(tmp_path, '{"user": "a"}', line)
    assert "policy.jsonl, line 2: " in str(caught.value)
    assert words in str(caught.value)
