"""From flags and files to authorizers; their union; what is reloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from authorization_world import FakeClock, FakeReader, ask, user

from kubegate.authorization import NO_OPINION, Attributes, Decision, Verdict
from kubegate.authorization.build import Authorization, AuthorizationOptions, BuildError, build
from kubegate.authorization.texts import forbidden_error, internal_error
from kubegate.authorization.union import Union

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: it, cluster: {server: "https://127.0.0.1:1/authorize"}}]
users: [{name: me, user: {}}]
contexts: [{name: it, context: {cluster: it, user: me}}]
current-context: it
"""

CONFIG = """
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: hook.example.org
  webhook:
    timeout: 3s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: NoOpinion
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: FILE}
    matchConditions:
    - expression: request.user == 'ward'
- type: RBAC
  name: rbac
"""


def made(reader: FakeReader | None = None, **options: Any) -> Authorization:
    return build(AuthorizationOptions(**options), reader or FakeReader(), FakeClock())  # type: ignore[arg-type]


def types(authorization: Authorization) -> list[str]:
    return [type(each).__name__ for each in authorization.authorizer.authorizers]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    file = tmp_path / "authorization.yaml"
    file.write_text(CONFIG.replace("FILE", str(tmp_path / "kubeconfig")))
    return file


class Says:
    def __init__(self, decision: Decision | Exception) -> None:
        self.decision = decision

    async def authorize(self, attributes: Attributes) -> Decision:
        if isinstance(self.decision, Exception):
            raise self.decision
        return self.decision


def no(reason: str = "", error: str = "") -> Says:
    return Says(Decision(Verdict.NO_OPINION, reason, error))


async def test_the_first_opinion_decides() -> None:
    allow, deny = Says(Decision(Verdict.ALLOW, "yes")), Says(Decision(Verdict.DENY, "no"))
    assert (await Union([no("x"), allow, deny]).authorize(ask("get", "pods"))).reason == "yes"
    assert (await Union([no("x"), deny, allow]).authorize(ask("get", "pods"))).verdict is Verdict.DENY


async def test_without_an_opinion_all_reasons_are_told() -> None:
    decision = await Union([no("a", "e"), no(), no("b", "f"), no("", "e")]).authorize(ask("get", "pods"))
    assert decision == Decision(Verdict.NO_OPINION, "a\nb", "[e, f]")
    assert await Union([no()]).authorize(ask("get", "pods")) == NO_OPINION


async def test_an_authorizer_that_breaks_refuses() -> None:
    allow = Says(Decision(Verdict.ALLOW))
    decision = await Union([Says(RuntimeError("secret")), allow]).authorize(ask("get", "pods"))
    assert decision.verdict is Verdict.DENY
    assert "secret" not in decision.error


def test_an_internal_error_is_no_markup() -> None:
    assert internal_error('/a"?b=1&c=<', "<x> failed") == (
        'Internal Server Error: "/a\\"?b=1&amp;c=&lt;": &lt;x&gt; failed\n'
    )


async def test_masters_may_do_anything_whatever_the_modes_are() -> None:
    authorization = made(authorization_mode=["AlwaysDeny"])
    assert (await authorization.authorizer.authorize(ask("x", "y", who=user("any", "system:masters")))).allowed
    refused = await authorization.authorizer.authorize(ask("x", "y", who=user("system:masters", "System:Masters")))
    assert (refused.allowed, refused.reason) == (False, "Everything is forbidden.")
    assert types(made()) == ["Masters", "NodeAuthorizer", "RbacIndex"]
    assert (await made(authorization_mode=["AlwaysAllow"]).authorizer.authorize(ask("x", "y"))).allowed


async def test_decisions_follow_the_reader() -> None:
    reader = FakeReader()
    authorization = made(reader)
    question = ask("get", "pods", namespace="ns")
    assert not (await authorization.authorizer.authorize(question)).allowed
    rules = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    reader.put("clusterroles.rbac.authorization.k8s.io", {"metadata": {"name": "r"}, "rules": rules})
    reader.put(
        "rolebindings.rbac.authorization.k8s.io",
        {
            "metadata": {"name": "b", "namespace": "ns"},
            "roleRef": {"kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "name": "alice"}],
        },
    )
    assert (await authorization.authorizer.authorize(question)).allowed
    listed = await authorization.rules.rules_for(user("alice"), "ns")
    assert listed.resource_rules == [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
    reader.remove("clusterroles.rbac.authorization.k8s.io", "", "r")
    decision = await authorization.authorizer.authorize(question)
    assert forbidden_error(question, decision).message == (
        'pods is forbidden: User "alice" cannot get resource "pods" in API group "" in the namespace "ns": '
        'RBAC: clusterrole.rbac.authorization.k8s.io "r" not found'
    )
    await authorization.close()
    assert not any(reader.listeners.values())


def test_what_cannot_be_built_is_told(tmp_path: Path) -> None:
    for options, words in (
        ({"authorization_mode": ["Foo"]}, 'authorization-mode "Foo" is not a valid mode'),
        ({"authorization_mode": []}, "at least one authorization-mode must be passed"),
        (
            {"authorization_mode": ["RBAC", "RBAC"]},
            r'authorization-mode \["RBAC" "RBAC"\] has mode specified more than',
        ),
        (
            {"authorization_mode": ["ABAC", "Webhook"]},
            "authorization-mode ABAC's authorization policy file not passed; "
            "authorization-mode Webhook's authorization config file not passed",
        ),
        (
            {"authorization_webhook_config_file": "/x", "authorization_policy_file": "/y"},
            "cannot specify --authorization-policy-file without mode ABAC; "
            "cannot specify --authorization-webhook-config-file without mode Webhook",
        ),
        ({"authorization_config": str(tmp_path / "none")}, "none: cannot be read"),
        ({"authorization_mode": ["ABAC"], "authorization_policy_file": "/none"}, "/none: cannot be read"),
    ):
        with pytest.raises(BuildError, match=words):
            made(**options)


def test_a_configuration_file_names_authorizers_in_order(config: Path) -> None:
    authorization = made(authorization_config=str(config))
    assert types(authorization) == ["Masters", "WebhookAuthorizer", "RbacIndex"]
    assert authorization.modes == ("Webhook", "RBAC")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "v1\nkind",
            "v9\nkind",
            'no kind "AuthorizationConfiguration" is registered for version "apis',
        ),
        ("kind: Auth", "king: Auth", "Object 'Kind' is missing in '"),
        ("timeout: 3s", "timeout: 61s", 'authorizers[0].timeout: Invalid value: "1m1s": must be > 0s and <= 30s'),
        ("    timeout: 3s\n", "", "authorizers[0].timeout: Required value"),
        ("timeout: 3s", "timeout: soon", 'time: invalid duration "soon"'),
        (
            "timeout: 3s",
            "timeout: 3s\n    authorizedTTL: -1s",
            'authorizers[0].authorizedTTL: Invalid value: "-1s"',
        ),
        (
            "timeout: 3s",
            "timeout: 3",
            "struct field WebhookConfiguration.authorizers.webhook.timeout of type string",
        ),
        ("type: RBAC", "type: Rbac", 'authorizers[1].type: Unsupported value: "Rbac"'),
        ("name: rbac", "name: hook.example.org", "authorizers[1].name: Duplicate value"),
        ("name: rbac", "name: R B", "authorizer name is invalid"),
        ("name: rbac", "name: roles", "expected name rbac for authorizer RBAC instead of roles"),
        ("failurePolicy: NoOpinion", "failurePolicy: Allow", "authorizers[0].failurePolicy: Unsupported value"),
        ("    matchConditionSubjectAccessReviewVersion: v1\n", "", "required if match conditions are specified"),
        (
            "request.user == 'ward'",
            "request.usr == 'w'",
            "authorizers[0].matchConditions[0].expression: Invalid value: \"request.usr == 'w'\": compilation failed: "
            "ERROR: <input>:1:8: undefined field 'usr'",
        ),
        ("request.user == 'ward'", "request.user", "must evaluate to bool but got string"),
        (
            "request.user == 'ward'",
            "request.resourceAttributes.labelSelector.requirements[0] == 1",
            "applied to '(kubernetes.SelectorRequirement, int)'",
        ),
        ("name: rbac", "name: rbac\n  webhook: {}", "may only be specified when type=Webhook"),
        (
            "    failurePolicy",
            "    failPolicy",
            'strict decoding error: unknown field "authorizers[0].webhook.failPolicy"',
        ),
        ("type: KubeConfigFile", "type: X", 'connectionInfo.type: Unsupported value: {"Type":"X","KubeConfigFile":"/'),
        ("kubeConfigFile: /", "kubeConfigFile: /none/", "error loading file: stat /none/"),
        ("authorizers:", "authorizers: [", "authorization.yaml: "),
    ],
)
def test_the_place_of_a_mistake_is_named(config: Path, old: str, new: str, problem: str) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    with pytest.raises(BuildError) as caught:
        made(authorization_config=str(config))
    assert problem in str(caught.value)


async def test_a_node_authorizer_that_comes_with_a_reload_knows_the_pods(config: Path) -> None:
    reader = FakeReader()
    authorization = made(reader, authorization_config=str(config))
    spec = {"nodeName": "a", "imagePullSecrets": [{"name": "s"}]}
    reader.put("pods", {"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})
    write(config, text_of(config).replace("type: RBAC", "type: Node").replace("name: rbac", "name: node"))
    assert authorization._reload is not None
    assert await authorization._reload.look(authorization.authorizer)
    node = user("system:node:a", "system:nodes")
    assert (await authorization.authorizer.authorize(ask("get", "secrets", who=node, namespace="ns", name="s"))).allowed


def test_abac_of_a_configuration_file_needs_its_policy_file(config: Path) -> None:
    write(config, text_of(config).replace("type: RBAC", "type: ABAC").replace("name: rbac", "name: abac"))
    with pytest.raises(BuildError, match="--authorization-policy-file"):
        made(authorization_config=str(config))


async def test_a_changed_file_comes_into_force_and_a_broken_one_does_not(config: Path) -> None:
    authorization = made(authorization_config=str(config))
    current, reload = authorization.authorizer, authorization._reload
    assert reload is not None
    good = text_of(config)
    assert not await reload.look(current)
    write(config, "authorizers: 3")
    assert not await reload.look(current)
    assert types(authorization) == ["Masters", "WebhookAuthorizer", "RbacIndex"]
    write(config, good[: good.index("- type: Webhook")] + good[good.index("- type: RBAC") :])
    assert await reload.look(current)
    assert types(authorization) == ["Masters", "RbacIndex"]
    assert current.authorizers[1] is authorization.rbac
    write(config, None)
    assert not await reload.look(current)
    assert types(authorization) == ["Masters", "RbacIndex"]


def text_of(file: Path) -> str:
    return file.read_text()


def write(file: Path, text: str | None) -> None:
    """None deletes it."""
    file.unlink()
    if text is not None:
        file.write_text(text)
