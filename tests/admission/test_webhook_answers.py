"""A webhook's answer is the same whether it is read at once or step by step."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubegate.admission.webhooks import jsonpatch, review
from kubegate.admission.webhooks.review import Answer, InvalidResponse
from kubegate.remote.client import RemoteError, Response

SCALARS = st.none() | st.booleans() | st.integers(-1, 1) | st.sampled_from(["", "u", "x"]) | st.just([]) | st.just({})
PATCH = st.sampled_from(["", "W10=", "W10", "***", "W1 0=", "é"])
RESPONSES = st.fixed_dictionaries(
    {"uid": st.just("u") | SCALARS, "allowed": st.booleans() | SCALARS},
    optional={
        "patch": PATCH | SCALARS,
        "patchType": st.just("JSONPatch") | SCALARS,
        "status": SCALARS | st.just({"code": 403, "message": "no"}) | st.just({"code": "x"}),
        "warnings": SCALARS | st.lists(SCALARS, max_size=2),
        "auditAnnotations": SCALARS | st.dictionaries(st.sampled_from(["a", "b"]), SCALARS, max_size=2),
        "x": SCALARS,
    },
)
REVIEWS = st.fixed_dictionaries(
    {
        "kind": st.just("AdmissionReview") | SCALARS,
        "apiVersion": st.sampled_from(["admission.k8s.io/v1", "admission.k8s.io/v1beta1", "v1"]) | SCALARS,
        "response": RESPONSES | SCALARS,
    },
    optional={"request": SCALARS},
)


def outcome(read: Callable[[], Answer]) -> object:
    try:
        return read()
    except (RemoteError, InvalidResponse) as error:
        return type(error), str(error)


@pytest.mark.parametrize("version", review.VERSIONS)
@given(REVIEWS, st.booleans())
def test_an_answer_is_read_at_once_as_it_is_read_step_by_step(version: str, said: object, mutating: bool) -> None:
    response = Response(200, {}, orjson.dumps(said))
    at_once = outcome(lambda: review.answer(response, "u", version, mutating))
    assert at_once == outcome(lambda: review.verify(review.decode(response, version), "u", version, mutating))


@given(RESPONSES, st.booleans())
def test_so_is_one_that_is_nearly_right(said: dict[str, object], mutating: bool) -> None:
    body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {**said, "uid": "u"}}
    response = Response(200, {}, orjson.dumps(body))
    at_once = outcome(lambda: review.answer(response, "u", "v1", mutating))
    assert at_once == outcome(lambda: review.verify(review.decode(response, "v1"), "u", "v1", mutating))


def test_a_patch_that_is_no_base64_is_told_where_it_is_none() -> None:
    """Text that is not ASCII, too, which Python refuses with another exception."""
    response = {"uid": "u", "allowed": True, "patch": "W10é", "patchType": "JSONPatch"}
    body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}
    with pytest.raises(RemoteError, match="illegal base64 data at input byte 3"):
        review.answer(Response(200, {}, orjson.dumps(body)), "u", "v1", True)


@pytest.mark.parametrize("op", ["add", "copy", "move"])
def test_a_webhook_s_patch_makes_no_object_deeper_than_may_be_stored(op: str) -> None:
    deep = orjson.loads(b'{"a":' * 150 + b"1" + b"}" * 150)
    step = {"op": op, "from": "/y", "path": "/x" + "/a" * 149 + "/b", "value": deep}
    with pytest.raises(jsonpatch.PatchError, match="nested too deeply"):
        jsonpatch.apply({"x": deep, "y": deep}, [step])
