"""Why, over HTTP: an addition for those who may create SubjectAccessReviews."""

from __future__ import annotations

from typing import Any

import orjson
from server_client import Start

PATH = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
REVIEW: dict[str, Any] = {
    "spec": {"user": "alice", "resourceAttributes": {"verb": "get", "resource": "secrets", "namespace": "prod"}}
}


async def test_a_review_asked_with_explain_says_what_would_allow_it(start: Start) -> None:
    running = await start("--controllers=none")
    answer = (await running.client.ask("POST", f"{PATH}?explain", REVIEW)).json
    explanation = orjson.loads(answer["metadata"]["annotations"]["kubegate.dev/explanation"])
    assert answer["status"] == {"allowed": False}
    assert explanation["allowed"] is False
    assert explanation["changes"], "a refusal comes with the smallest change that would allow it"


async def test_without_explain_the_answer_is_kubernetes_own(start: Start) -> None:
    running = await start("--controllers=none")
    answer = (await running.client.ask("POST", PATH, REVIEW)).json
    assert "annotations" not in answer["metadata"]


async def test_who_may_not_create_reviews_gets_no_explanation(start: Start) -> None:
    running = await start("--controllers=none")
    answer = await running.client.ask("POST", f"{PATH}?explain", REVIEW, token="alice-token")
    assert answer.status == 403
    assert b"explanation" not in answer.body
