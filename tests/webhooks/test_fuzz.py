"""Whatever is sent to whichever path: an answer that is well formed, and never a 500."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubegate import Gate, User
from kubegate.webhooks.app import App
from kubegate.webhooks.calls import Caller

_GROUPS = {
    "AdmissionReview": "admission.k8s.io",
    "TokenReview": "authentication.k8s.io",
    "SubjectAccessReview": "authorization.k8s.io",
    "ImageReview": "imagepolicy.k8s.io",
}
_NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
_SCALARS = st.none() | st.booleans() | _NUMBERS | st.text(max_size=8)
_NAMES = """
    uid kind apiVersion metadata request spec object oldObject operation namespace name labels resource group version
    userInfo username groups extra dryRun options token audiences user resourceAttributes nonResourceAttributes path
    verb subresource fieldSelector labelSelector requirements containers image annotations subResource
"""
_FIELDS = st.sampled_from(_NAMES.split())


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(_FIELDS | st.text(max_size=4), inner, max_size=5)


_JSON = st.recursive(_SCALARS, _nested)


def _maybe(valid: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(valid, valid, valid, _JSON)


_USER = st.fixed_dictionaries({}, optional={"username": _maybe(st.text()), "groups": _JSON, "extra": _JSON})
_GVR = st.fixed_dictionaries({}, optional={"group": _maybe(st.text()), "version": _maybe(st.text()), "resource": _JSON})
_REQUEST = st.fixed_dictionaries(
    {"uid": _maybe(st.text(min_size=1))},
    optional={
        "operation": _maybe(st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT"])),
        "object": _maybe(st.dictionaries(_FIELDS, _JSON)),
        "oldObject": _maybe(st.dictionaries(_FIELDS, _JSON)),
        "resource": _maybe(_GVR),
        "requestResource": _maybe(_GVR),
        "userInfo": _maybe(_USER),
        "namespace": _JSON,
        "dryRun": _JSON,
    },
)
_SPEC = st.dictionaries(_FIELDS, _JSON) | st.fixed_dictionaries(
    {},
    optional={
        "token": _maybe(st.text(min_size=1)),
        "audiences": _maybe(st.lists(st.text())),
        "user": _maybe(st.text()),
        "resourceAttributes": _maybe(st.dictionaries(_FIELDS, _JSON)),
        "nonResourceAttributes": _maybe(st.dictionaries(_FIELDS, _JSON)),
        "containers": _maybe(st.lists(st.fixed_dictionaries({"image": _maybe(st.text())}))),
    },
)


@st.composite
def _reviews(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(sorted(_GROUPS)))
    version = draw(st.sampled_from(["v1", "v1beta1", "v1alpha1", "v3"]))
    review: dict[str, Any] = {"kind": kind, "apiVersion": f"{_GROUPS[kind]}/{version}"}
    review["request" if kind == "AdmissionReview" else "spec"] = draw(
        _maybe(_REQUEST if kind == "AdmissionReview" else _SPEC)
    )
    return review


_BODIES = st.binary(max_size=64) | _JSON.map(orjson.dumps) | _reviews().map(orjson.dumps)


@pytest.fixture(scope="module")
def app() -> App:
    gate = Gate()

    @gate.mutate("*", objects={"a": "b"}, namespaces={"kubernetes.io/metadata.name": "n"})
    async def mutate(obj: Any) -> Any:
        obj["metadata"]["labels"]["x"] = "y"
        return obj

    @gate.validate("*")
    async def validate(obj: Any, review: Any) -> None:
        review.warn(obj["metadata"]["name"])
        review.audit("user", review.user.name)

    @gate.authenticate
    async def authenticate(token: str, review: Any) -> Any:
        return User(token, groups=review.audiences)

    @gate.authorize
    async def authorize(attributes: Any) -> Any:
        return {"get": True, "list": "nonsense"}.get(attributes.verb)

    @gate.images
    async def images(image: str) -> Any:
        return len(image) > 2

    return App(lambda: gate, Caller())


_PATHS = st.sampled_from(
    ["/mutate", "/mutate/mutate", "/validate", "/validate/validate", "/authenticate", "/authorize", "/images"]
)
_OTHERS = st.sampled_from(["/livez", "/readyz", "/metrics", "/nothing", "/", "/mutate/"])


@given(path=_PATHS | _OTHERS, body=_BODIES, method=st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "OPTIONS"]))
@settings(max_examples=400, deadline=None)
async def test_no_body_is_answered_with_a_500(app: App, path: str, body: bytes, method: str) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "path": path, "method": method, "extensions": {}}, receive, send)
    start, end = sent
    assert start["status"] in (200, 400, 404, 405)
    assert dict(start["headers"])[b"content-length"] == str(len(end["body"])).encode()
    if method == "POST":
        answer = json.loads(end["body"])
        if start["status"] == 200:
            asked = json.loads(body)
            assert (answer["apiVersion"], answer["kind"]) == (asked["apiVersion"], asked["kind"])
            if answer["kind"] == "AdmissionReview":
                assert answer["response"]["uid"] == asked["request"]["uid"]
        else:
            assert (answer["kind"], answer["code"]) == ("Status", start["status"])
