"""What a real kube-apiserver v1.36 sent to webhooks (the corpus' `hooks_see`), replayed through a Gate."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubegate import Gate
from kubegate.admission.webhooks import jsonpatch
from kubegate.admission.webhooks.review import verify
from kubegate.webhooks.client import GateClient

_SCENARIOS = Path(__file__).parents[2] / "conformance" / "scenarios" / "admission"


def _recorded() -> Iterator[Any]:
    for path in sorted(_SCENARIOS.glob("*.yaml")):
        document = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
        for hook, reviews in (document.get("hooks_see") or {}).items():
            for number, review in enumerate(reviews):
                yield pytest.param(review, id=f"{path.stem}-{hook}-{number}")


@pytest.fixture(scope="module")
def client() -> Iterator[GateClient]:
    gate = Gate()

    @gate.mutate("*/*", "*", operations="*")
    def stamped(obj: dict[str, Any], review: Any) -> None:
        obj.setdefault("metadata", {}).setdefault("labels", {})["stamped/by"] = review.user.name

    @gate.validate("*/*", "*", operations="*")
    async def seen(obj: dict[str, Any], review: Any) -> None:
        review.warn(f"{review.operation} {review.name}")

    @gate.images
    def all_of_them(image: str) -> bool:
        return True

    with GateClient(gate) as client:
        yield client


@pytest.mark.parametrize("review", list(_recorded()))
def test_a_recorded_request_is_answered_to_an_api_servers_liking(client: GateClient, review: dict[str, Any]) -> None:
    if review["kind"] == "ImageReview":
        found = client.review("/images", review)
        assert (found["apiVersion"], found["kind"]) == (review["apiVersion"], "ImageReview")
        assert found["status"] == {"allowed": True}
        return
    version, request = review["apiVersion"].partition("/")[2], review["request"]
    for path, mutating in (("/mutate/stamped", True), ("/validate/seen", False)):
        found = client.review(path, review)
        # how kubegate's own API server, which follows the recordings, reads a webhook's answer
        answer = verify(found, request["uid"], version, mutating)
        assert answer.allowed
        if mutating and request.get("object") is not None:
            patched = jsonpatch.apply(request["object"], jsonpatch.decode(answer.patch))
            assert patched["metadata"]["labels"]["stamped/by"] == request["userInfo"]["username"]
            without = json.loads(base64.b64decode(found["response"]["patch"]))
            assert all(operation["path"].startswith("/metadata") for operation in without)
        elif not mutating:
            assert answer.warnings == (f"{request['operation']} {request.get('name', '')}",)


def test_there_are_recordings() -> None:
    assert len(list(_recorded())) > 50
