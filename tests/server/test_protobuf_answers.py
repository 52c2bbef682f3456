"""Who takes protobuf alone is answered in it."""

from __future__ import annotations

import pytest
from server_client import Client, Start

from kubegate.api import protobuf

PROTOBUF = "application/vnd.kubernetes.protobuf"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
CONFIGMAP = "io.k8s.api.core.v1.ConfigMap"
STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
PARTIAL = f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@pytest.fixture
async def client(start: Start) -> Client:
    client = (await start("--controllers=none")).client
    await client.ask("POST", CONFIGMAPS, {"metadata": {"name": "a", "labels": {"in": "yes"}}, "data": {"color": "red"}})
    return client


async def test_an_object_and_a_list(client: Client) -> None:
    found = await client.ask("GET", f"{CONFIGMAPS}/a", Accept=PROTOBUF)
    api_version, kind, raw = protobuf.envelope(found.body)
    assert (found.headers["content-type"], api_version, kind) == (PROTOBUF, "v1", "ConfigMap")
    obj = protobuf.decode(raw, CONFIGMAP)
    assert (obj["metadata"]["name"], obj["data"]) == ("a", {"color": "red"})
    listed = await client.ask("GET", f"{CONFIGMAPS}?labelSelector=in", Accept=PROTOBUF)
    _, kind, raw = protobuf.envelope(listed.body)
    items = protobuf.decode(raw, f"{CONFIGMAP}List")["items"]
    assert (kind, [item["data"] for item in items]) == ("ConfigMapList", [{"color": "red"}])


async def test_who_takes_json_too_is_given_that(client: Client) -> None:
    for accept in (f"{PROTOBUF}, */*", f"{PROTOBUF},application/json"):
        assert (await client.ask("GET", f"{CONFIGMAPS}/a", Accept=accept)).json["data"] == {"color": "red"}


async def test_refusals(client: Client) -> None:
    found = await client.ask("GET", f"{CONFIGMAPS}/none", Accept=PROTOBUF)
    assert (found.status, found.headers["content-type"]) == (404, PROTOBUF)
    said = protobuf.decode(protobuf.envelope(found.body)[2], STATUS)
    assert (said["message"], said["details"]["name"]) == ('configmaps "none" not found', "none")


async def test_a_watch_is_of_frames_with_their_length_before_them(client: Client) -> None:
    path = f"{CONFIGMAPS}?labelSelector=in&watch=1&timeoutSeconds=1"
    found = await client.ask("GET", path, Accept=f"{PROTOBUF};stream=watch")
    assert (found.status, found.headers["content-type"]) == (200, f"{PROTOBUF};stream=watch")
    assert int.from_bytes(found.body[:4], "big") == len(found.body) - 4
    assert found.body[4:].startswith(b"\x0a\x05ADDED\x12") and b"k8s\x00" in found.body


async def test_metadata_alone(client: Client) -> None:
    found = await client.ask("GET", f"{CONFIGMAPS}/a", Accept=PARTIAL)
    assert protobuf.envelope(found.body)[:2] == ("meta.k8s.io/v1", "PartialObjectMetadata")


async def test_discovery(client: Client) -> None:
    found = await client.ask("GET", "/apis/apps/v1", Accept=PROTOBUF)
    _, kind, raw = protobuf.envelope(found.body)
    resources = protobuf.decode(raw, f"io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")["resources"]
    assert "get" in next(r for r in resources if r["name"] == "deployments")["verbs"]


async def test_what_has_no_form_in_protobuf_is_not_acceptable(client: Client) -> None:
    for path, accept in (
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", PROTOBUF),
        (f"{CONFIGMAPS}/a", f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1"),
    ):
        found = await client.ask("GET", path, Accept=accept)
        assert found.status == 406 and b"only the following media types are accepted" in found.body
