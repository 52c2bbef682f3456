"""The webhook authorizer: what is sent, what answers mean, what is kept."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from authorization_world import FakeClock, ask, ask_path

from kubegate.authentication import UserInfo
from kubegate.authorization import Verdict
from kubegate.authorization.conditions import MatchConditions, compile_condition
from kubegate.authorization.webhook import Settings, WebhookAuthorizer, review_of, spec_of
from kubegate.cel import CompileError
from kubegate.remote.client import Endpoint, RemoteError, Response

WARD = UserInfo("ward", "id-9", ("team", "system:authenticated"), {"scopes": ("x",)})


class FakeClient:
    """Answers with `answers`, one after the other; the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.sent = list(answers), []

    async def post_json(self, body: bytes, *, within: float) -> Response:
        self.sent.append(orjson.loads(body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return Response(answer, {}, b"")
        review = {"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": answer}
        return Response(200, {"content-type": "application/json"}, orjson.dumps(review))

    async def close(self) -> None:
        pass


def authorizer(client: FakeClient, clock: FakeClock | None = None, **more: Any) -> WebhookAuthorizer:
    conditions = MatchConditions(more.pop("conditions")) if "conditions" in more else None
    return WebhookAuthorizer(client, Settings(name="hook", **more), clock or FakeClock(), conditions)  # type: ignore[arg-type]


async def test_a_review_says_all_and_leaves_out_what_is_empty() -> None:
    client = FakeClient({"allowed": True, "reason": "fine"})
    question = ask(
        "list",
        "deployments.apps",
        who=WARD,
        name="d",
        field_requirements=[{"key": "metadata.name", "operator": "In", "values": ["d"]}],
        label_requirements=[{"key": "c", "operator": "DoesNotExist"}],
    )
    decision = await authorizer(client).authorize(question)
    assert decision.allowed
    assert (decision.reason, decision.authorizer) == ("fine", "hook")
    assert client.sent == [
        {
            "kind": "SubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {},
            "spec": {
                "resourceAttributes": {
                    "verb": "list",
                    "group": "apps",
                    "version": "v1",
                    "resource": "deployments",
                    "name": "d",
                    "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["d"]}]},
                    "labelSelector": {"requirements": [{"key": "c", "operator": "DoesNotExist"}]},
                },
                "user": "ward",
                "groups": ["team", "system:authenticated"],
                "extra": {"scopes": ["x"]},
                "uid": "id-9",
            },
            "status": {"allowed": False},
        }
    ]


def test_v1beta1_calls_the_groups_group() -> None:
    review = review_of(spec_of(ask_path("get", "/x", WARD)), "v1beta1")
    assert review["apiVersion"] == "authorization.k8s.io/v1beta1"
    assert review["spec"]["group"] == ["team", "system:authenticated"]
    assert "groups" not in review["spec"]
    assert review["spec"]["nonResourceAttributes"] == {"path": "/x", "verb": "get"}


@pytest.mark.parametrize(
    ("status", "verdict", "error"),
    [
        ({"allowed": True}, Verdict.ALLOW, ""),
        ({"allowed": False}, Verdict.NO_OPINION, ""),
        ({"allowed": False, "denied": True}, Verdict.DENY, ""),
        (
            {"allowed": True, "denied": True},
            Verdict.DENY,
            "webhook subject access review returned both allow and deny response",
        ),
        (
            {"allowed": "true"},
            Verdict.NO_OPINION,
            "json: cannot unmarshal string into Go struct field SubjectAccessReviewStatus.status.allowed of type bool",
        ),
        (None, Verdict.NO_OPINION, ""),
    ],
)
async def test_what_an_answer_means(status: Any, verdict: Verdict, error: str) -> None:
    decision = await authorizer(FakeClient(status)).authorize(ask("get", "pods"))
    assert (decision.verdict, decision.error) == (verdict, error)


@pytest.mark.parametrize("failure", [Verdict.DENY, Verdict.NO_OPINION])
async def test_a_failure_is_what_the_policy_says_and_never_an_allowance(failure: Verdict) -> None:
    for answer in (404, RemoteError("Post: connection refused"), 500):
        client = FakeClient(answer)
        decision = await authorizer(client, failure=failure).authorize(ask("get", "pods"))
        assert decision.verdict is failure
        assert decision.error
        # 500 may pass: it is asked again, a bounded number of times
        assert len(client.sent) == (5 if answer == 500 else 1)


async def test_answers_are_kept_as_long_as_is_said_and_failures_not_at_all() -> None:
    clock = FakeClock()
    client = FakeClient({"allowed": True}, RemoteError("down"), {"allowed": False})
    webhook = authorizer(client, clock, authorized_ttl=5.0, unauthorized_ttl=2.0)
    question = ask("get", "pods")
    assert (await webhook.authorize(question)).allowed
    clock.time += 4.9
    assert (await webhook.authorize(question)).allowed
    assert len(client.sent) == 1
    clock.time += 0.2
    assert (await webhook.authorize(question)).error == "down"
    assert not (await webhook.authorize(question)).allowed
    clock.time += 1.9
    await webhook.authorize(question)
    assert len(client.sent) == 3
    clock.time += 0.2
    await webhook.authorize(question)
    assert len(client.sent) == 4


async def test_long_questions_are_not_kept() -> None:
    client = FakeClient({"allowed": True})
    webhook = authorizer(client)
    for _ in range(2):
        await webhook.authorize(ask("get", "pods", name="n" * 10_000))
    assert len(client.sent) == 2


async def test_another_user_s_answer_is_never_used() -> None:
    client = FakeClient({"allowed": True}, {"allowed": False})
    webhook = authorizer(client)
    assert (await webhook.authorize(ask("get", "pods", who=UserInfo("a", "1")))).allowed
    assert not (await webhook.authorize(ask("get", "pods", who=UserInfo("a", "2")))).allowed


async def test_conditions_are_asked_first() -> None:
    client = FakeClient({"allowed": True})
    webhook = authorizer(
        client, conditions=["has(request.resourceAttributes)", "request.resourceAttributes.namespace != 'kube-system'"]
    )
    assert (await webhook.authorize(ask_path("get", "/x"))).verdict is Verdict.NO_OPINION
    assert not (await webhook.authorize(ask("get", "pods", namespace="kube-system"))).allowed
    assert not client.sent
    # a cluster-wide question has an empty namespace: conditions need not ask has()
    assert (await webhook.authorize(ask("get", "pods"))).allowed


async def test_a_condition_finds_values_in_every_requirement() -> None:
    client = FakeClient({"allowed": True})
    condition = "request.resourceAttributes.labelSelector.requirements.all(r, has(r.values) && size(r.values) < 2)"
    webhook = authorizer(client, conditions=["has(request.resourceAttributes.labelSelector)", condition])
    exists = ask("list", "pods", label_requirements=[{"key": "a", "operator": "Exists"}])
    assert (await webhook.authorize(exists)).allowed
    assert client.sent[0]["spec"]["resourceAttributes"]["labelSelector"] == {
        "requirements": [{"key": "a", "operator": "Exists"}]
    }
    assert not (await webhook.authorize(ask("list", "pods"))).allowed


@pytest.mark.parametrize("failure", [Verdict.DENY, Verdict.NO_OPINION])
async def test_a_condition_that_fails_is_a_failure_unless_another_is_false(failure: Verdict) -> None:
    broken = "request.extra['none'][0] == 'x'"
    client = FakeClient({"allowed": True})
    decision = await authorizer(client, failure=failure, conditions=[broken]).authorize(ask("get", "pods"))
    assert decision.verdict is failure
    assert decision.error == (f"cel evaluation error: expression '{broken}' resulted in error: no such key: none")
    decided = await authorizer(client, failure=failure, conditions=[broken, "false"]).authorize(ask("get", "pods"))
    assert (decided.verdict, decided.error) == (Verdict.NO_OPINION, "")
    assert not client.sent


def test_a_condition_with_a_wrong_field_or_type_cannot_be_compiled() -> None:
    for expression in ("request.groops == []", "request.user", "request.user == 3", "object.x == 1"):
        with pytest.raises(CompileError):
            compile_condition(expression)


async def test_it_cannot_list_rules() -> None:
    rules = await authorizer(FakeClient({})).rules_for(WARD, "ns")
    assert rules.incomplete
    assert rules.error == "webhook authorizer does not support user rule resolution"


async def test_who_answers_too_late_is_told_as_by_go() -> None:
    late = RemoteError('Post "https://hook/authorize?timeout=3s": context deadline exceeded', timeout=True)
    decision = await authorizer(FakeClient(late)).authorize(ask("get", "pods"))
    assert decision.error.endswith("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")


@pytest.mark.parametrize(
    ("seconds", "told"), [(3, "3s"), (30.0, "30s"), (1.5, "1.5s"), (0.5, "500ms"), (90, "1m30s"), (3600, "1h0m0s")]
)
def test_the_webhook_is_told_how_long_it_may_take(seconds: float, told: str) -> None:
    assert Endpoint("https://hook/authorize").within(seconds).url == f"https://hook/authorize?timeout={told}"
