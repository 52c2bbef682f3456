"""Custom resources in another version, with and without a webhook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from crd_world import crd

from kubegate.api import clone
from kubegate.api.status import StatusError
from kubegate.api.structural import Structural
from kubegate.registry.apiextensions.conversion import convert
from kubegate.registry.apiextensions.customresources import custom_of

Object = dict[str, Any]
CONFIG = {"url": "https://converter.example.org"}
V1, V2 = "example.org/v1", "example.org/v2"
OBJECT = {
    "apiVersion": V1,
    "kind": "Form",
    "metadata": {"name": "a", "uid": "u", "labels": {"l": "1"}},
    "spec": {"n": 1},
}


def custom(*, webhook: bool) -> Any:
    definition = crd("forms")
    definition["spec"]["names"]["listKind"] = "FormList"
    if webhook:
        wanted = {"clientConfig": CONFIG, "conversionReviewVersions": ["v9", "v1beta1"]}
        definition["spec"]["conversion"] = {"strategy": "Webhook", "webhook": wanted}
    schemas = {"v1": Structural({"type": "object"})}
    return custom_of(definition, definition["spec"]["versions"][0], schemas)


def answering(**changes: Any) -> Any:
    async def call(config: Mapping[str, Any], review: Object) -> Object:
        assert config == CONFIG
        request = review["request"]
        objects = [
            {**clone(obj), "apiVersion": request["desiredAPIVersion"], "spec": {"m": 2}} for obj in request["objects"]
        ]
        response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects, **changes}
        return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}

    return call


async def test_without_a_webhook_only_the_version_changes() -> None:
    assert await convert([OBJECT], V2, custom(webhook=False), answering()) == [{**OBJECT, "apiVersion": V2}]


async def test_a_webhook_converts_what_is_in_another_version_in_one_call() -> None:
    there = {**OBJECT, "apiVersion": V2}
    found = await convert([OBJECT, there, OBJECT], V2, custom(webhook=True), answering())
    assert [obj["spec"] for obj in found] == [{"m": 2}, {"n": 1}, {"m": 2}]
    assert OBJECT["spec"] == {"n": 1}


async def test_a_webhook_may_change_labels_and_annotations_of_metadata_alone() -> None:
    meta = {**OBJECT["metadata"], "labels": {"new": "1"}, "generation": 7}
    objects = [{**OBJECT, "apiVersion": V2, "metadata": meta}]
    [found] = await convert([OBJECT], V2, custom(webhook=True), answering(convertedObjects=objects))
    assert found["metadata"] == {"name": "a", "uid": "u", "labels": {"new": "1"}}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"result": {"status": "Failure", "message": "no"}}, "failed: no"),
        ({"result": {}}, 'failed: response.result.status was "", not "Success"'),
        ({"uid": "x"}, "failed: expected response.uid="),
        ({"convertedObjects": []}, "returned 0 objects, expected 1"),
        (
            {"convertedObjects": [OBJECT]},
            "index 0: invalid groupVersion (expected example.org/v2, received example.org/v1)",
        ),
        (
            {"convertedObjects": [{**OBJECT, "apiVersion": V2, "metadata": {"name": "b", "uid": "u"}}]},
            "index 0: must have the same name: a != b",
        ),
        ({"convertedObjects": [{**OBJECT, "apiVersion": V2, "kind": "X"}]}, "invalid kind (expected Form, received X)"),
        ({"convertedObjects": ["x"]}, "it is no object with metadata"),
    ],
)
async def test_what_a_webhook_may_not_answer_is_an_error_with_its_reason(changes: Object, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        await convert([OBJECT], V2, custom(webhook=True), answering(**changes))
    assert caught.value.code == 500
    assert caught.value.message.startswith("conversion webhook for example.org/v1, Kind=Form ")
    assert text in caught.value.message


async def test_a_webhook_that_cannot_be_reached_is_told() -> None:
    async def call(config: Mapping[str, Any], review: Object) -> Object:
        raise OSError("connection refused")

    with pytest.raises(StatusError, match="failed: connection refused"):
        await convert([OBJECT], V2, custom(webhook=True), call)
