"""Requests for the scale subresource: what bodies it takes, and how it is shown."""

from __future__ import annotations

import pytest
from server_client import Client, Start

REPLICASETS = "/apis/apps/v1/namespaces/default/replicasets"
SCALE = f"{REPLICASETS}/r/scale"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
ITSELF = {"apiVersion": "autoscaling/v1", "kind": "Scale"}


@pytest.fixture
async def client(start: Start) -> Client:
    client = (await start("--controllers=none")).client
    labels = {"a": "b"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    await client.ask("POST", REPLICASETS, {"metadata": {"name": "r"}, "spec": spec})
    return client


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"metadata": {"name": "x"}}, 400, "the name of the object (x) does not match the name on the URL (r)"),
        (
            {"metadata": {"name": None}},
            400,
            "the name of the object (r based on URL) was undeterminable: name must be provided",
        ),
        (
            {"metadata": {"namespace": "x"}},
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        ({"kind": "Foo"}, 422, 'no kind "Foo" is registered for version "autoscaling/v1" in scheme'),
        ({"kind": "HorizontalPodAutoscaler"}, 422, "to (autoscaling.Scale): unknown conversion"),
    ],
)
async def test_what_a_scale_cannot_be_patched_into(client: Client, body: object, code: int, message: str) -> None:
    found = await client.ask("PATCH", SCALE, body, Content_Type=MERGE)
    assert (found.status, message in found.json["message"]) == (code, True)


async def test_fields_that_a_scale_has_not(client: Client) -> None:
    body = b'{"spec":{"why":1,"replicas":3,"replicas":4}}'
    told = await client.ask("PATCH", f"{SCALE}?dryRun=All", body, Content_Type=MERGE)
    assert (told.json["spec"], bool(told.headers["warning"])) == ({"replicas": 4}, True)
    strict = await client.ask("PATCH", f"{SCALE}?fieldValidation=Strict", body, Content_Type=MERGE)
    assert strict.status == 422
    errors = 'strict decoding error: duplicate field "spec.replicas", unknown field "spec.why"'
    assert strict.json["message"].endswith(errors)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", 400, "invalid object type: /, Kind="),
        (b"a: [", 400, "error decoding YAML: error converting YAML to JSON: yaml: line 1: did not find expected node"),
        ({**ITSELF, "metadata": {"name": "x"}}, 400, "the name of the object (x) does not match the name on the URL"),
    ],
)
async def test_what_cannot_be_applied_to_a_scale(client: Client, body: object, code: int, message: str) -> None:
    found = await client.ask("PATCH", f"{SCALE}?fieldManager=m", body, Content_Type=APPLY)
    assert (found.status, found.json["message"].startswith(message)) == (code, True)


async def test_a_scale_is_shown_as_a_row(client: Client) -> None:
    table = (await client.ask("GET", SCALE, Accept="application/json;as=Table;v=v1;g=meta.k8s.io")).json
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
    assert table["rows"][0]["cells"][:3] == ["r", 2, 0]
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    assert (await client.ask("GET", SCALE, Accept=accept)).json["kind"] == "PartialObjectMetadata"
