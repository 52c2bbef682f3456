"""What a real kube-apiserver v1.36 sent to webhooks (the corpus' `hooks_see`), replayed through a Gate."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubegate import Deny, Gate, User
from kubegate.admission.webhooks import jsonpatch
from kubegate.admission.webhooks.review import verify
from kubegate.webhooks.client import GateClient

_SCENARIOS = Path(__file__).parents[2] / "conformance" / "scenarios"
_STATUS = {
    "TokenReview": {"authenticated": bool, "user": dict, "audiences": list, "error": str},
    "SubjectAccessReview": {"allowed": bool, "denied": bool, "reason": str, "evaluationError": str},
}
_USER = {"username": str, "uid": str, "groups": list, "extra": dict}


def _recorded() -> Iterator[Any]:
    for path in sorted(_SCENARIOS.glob("*/*.yaml")):
        if b"hooks_see" not in path.read_bytes():
            continue
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

    @gate.authenticate
    async def known(token: str, review: Any) -> User | None:
        if not token.startswith("wh-"):
            return None
        return User("jane", "1", ["dev"], {"k": ["v"]}, review.audiences[:1] or None)

    @gate.authorize
    def named(attributes: Any) -> bool | None:
        if attributes.subresource == "log":
            raise Deny("no logs")
        return {"get": True, "list": None}.get(attributes.verb, False)

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
    if review["kind"] in _STATUS:
        _check_status(client, review)
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


def _check_status(client: GateClient, review: dict[str, Any]) -> None:
    """In both versions: the fields that k8s.io/api knows, of their types, and never a yes and a no at once."""
    kind, path = review["kind"], "/authenticate" if review["kind"] == "TokenReview" else "/authorize"
    group = review["apiVersion"].partition("/")[0]
    for version in ("v1", "v1beta1"):
        found = client.review(path, review | {"apiVersion": f"{group}/{version}"})
        assert (found["apiVersion"], found["kind"]) == (f"{group}/{version}", kind)
        assert set(found) == {"apiVersion", "kind", "metadata", "status"}
        status = found["status"]
        assert all(isinstance(value, _STATUS[kind][name]) for name, value in status.items())
        spec = review["spec"]
        if kind == "TokenReview":
            assert status["authenticated"] is spec["token"].startswith("wh-") is ("user" in status)
            assert all(isinstance(value, _USER[name]) for name, value in status.get("user", {}).items())
            assert set(status.get("audiences", ())) <= set(spec["audiences"])
        else:
            attributes = spec.get("resourceAttributes") or spec["nonResourceAttributes"]
            allowed = attributes["verb"] == "get" and attributes.get("subresource") != "log"
            assert status["allowed"] is allowed
            assert not (status["allowed"] and status.get("denied"))


def test_there_are_recordings() -> None:
    kinds = {each.values[0]["kind"] for each in _recorded()}
    assert kinds == {"AdmissionReview", "ImageReview", "TokenReview", "SubjectAccessReview"}
    assert len(list(_recorded())) > 50
