"""Custom resources in another version: what a conversion webhook is sent, and what of its answers is taken."""

from __future__ import annotations

from typing import Any

import pytest

from kubegate.api import clone
from kubegate.api.status import StatusError
from kubegate.registry.apiextensions.conversion import reviewed
from kubegate.remote.client import RemoteError

Object = dict[str, Any]
V1, V2 = "example.org/v1", "example.org/v2"
OBJECT = {
    "apiVersion": V1,
    "kind": "Form",
    "metadata": {"name": "a", "uid": "u", "labels": {"l": "1"}, "generation": 3},
    "spec": {"n": 1},
}
FAILED = "conversion webhook for example.org/v1, Kind=Form "


def answering(**changes: Any) -> Any:
    async def call(review: Object) -> Object:
        request = review["request"]
        objects = [
            {**clone(obj), "apiVersion": request["desiredAPIVersion"], "spec": {"m": 2}} for obj in request["objects"]
        ]
        response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects, **changes}
        return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}

    return call


def answered(**changes: Any) -> Object:
    """An object of the webhook's, right but for `changes`."""
    return {**clone(OBJECT), "apiVersion": V2, **changes}


def meta(**changes: Any) -> Object:
    return {"name": "a", "uid": "u", **changes}


async def test_all_objects_are_converted_by_one_call() -> None:
    found = await reviewed([OBJECT, OBJECT], V2, "v1", answering())
    assert [obj["spec"] for obj in found] == [{"m": 2}, {"m": 2}]
    assert OBJECT["spec"] == {"n": 1}


async def test_a_webhook_may_change_labels_and_annotations_of_metadata_alone() -> None:
    objects = [answered(metadata=meta(labels={"new": "1"}, generation=7))]
    [found] = await reviewed([OBJECT], V2, "v1", answering(convertedObjects=objects))
    assert found["metadata"] == {"name": "a", "uid": "u", "labels": {"new": "1"}, "generation": 3}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"result": {"status": "Failure", "message": "no"}}, "failed: no"),
        ({"result": {}}, "failed: response.result.status was '', not 'Success'"),
        ({"convertedObjects": []}, "returned 0 objects, expected 1"),
        (
            {"convertedObjects": [OBJECT]},
            "returned invalid object at index 0: invalid groupVersion (expected example.org/v2, "
            "received example.org/v1)",
        ),
        (
            {"convertedObjects": [answered(kind="X")]},
            "returned invalid object at index 0: invalid kind (expected Form, received X)",
        ),
        (
            {"convertedObjects": [answered(metadata={"name": "b", "uid": "u"})]},
            "returned invalid object: must have the same name: a != b",
        ),
        (
            {"convertedObjects": [answered(metadata={"name": "a"})]},
            "returned invalid object: must have the same UID: u != ",
        ),
        (
            {"convertedObjects": [answered(metadata=meta(labels="x"))]},
            "returned invalid metadata: invalid metadata.labels of type string in converted object",
        ),
        (
            {"convertedObjects": [answered(metadata=meta(annotations={"a": 1}))]},
            "returned invalid metadata: metadata.annotations[a] must be a string, but is int64 in converted object",
        ),
        (
            {"convertedObjects": [answered(metadata=meta(labels={"a": "_"}))]},
            'returned invalid metadata: metadata.labels: Invalid value: "_": a valid label must be an empty string or',
        ),
    ],
)
async def test_what_a_webhook_may_not_answer_is_an_error_with_its_reason(changes: Object, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        await reviewed([OBJECT], V2, "v1", answering(**changes))
    assert (caught.value.code, caught.value.reason) == (500, "")
    assert caught.value.message.startswith(FAILED + text)


async def test_of_several_objects_the_wrong_one_is_named_by_its_place() -> None:
    objects = [answered(), answered(kind="X")]
    with pytest.raises(StatusError) as caught:
        await reviewed([OBJECT, OBJECT], V2, "v1", answering(convertedObjects=objects))
    place = "returned invalid converted object at index 2: invalid kind (expected Form, received X)"
    assert caught.value.message == FAILED + place


@pytest.mark.parametrize(("version", "taken"), [("v1", False), ("v1beta1", True)])
async def test_only_the_newer_review_is_held_to_its_uid_and_kind(version: str, taken: bool) -> None:
    async def call(review: Object) -> Object:
        assert review["apiVersion"] == f"apiextensions.k8s.io/{version}"
        return {"response": {"result": {"status": "Success"}, "convertedObjects": [answered()]}}

    if taken:
        assert await reviewed([OBJECT], V2, version, call)
        return
    with pytest.raises(StatusError, match=r"expected webhook response of apiextensions\.k8s\.io/v1, Kind=Conversion"):
        await reviewed([OBJECT], V2, version, call)
    with pytest.raises(StatusError, match=r"failed: expected response\.uid="):
        await reviewed([OBJECT], V2, version, answering(uid="x"))


async def test_an_object_without_a_kind_is_told_as_it_is_decoded() -> None:
    for wrong, text in (
        ({"metadata": {}}, "Object 'Kind' is missing in '{\"metadata\":{}}'"),
        ("x", "json: cannot unmarshal string into Go value of type struct"),
    ):
        with pytest.raises(StatusError) as caught:
            await reviewed([OBJECT], V2, "v1", answering(convertedObjects=[wrong]))
        assert caught.value.message.startswith(text)


async def test_a_webhook_that_cannot_be_reached_is_told() -> None:
    async def call(review: Object) -> Object:
        raise RemoteError("connection refused")

    with pytest.raises(StatusError, match="failed: connection refused"):
        await reviewed([OBJECT], V2, "v1", call)
