"""What of Secrets and tokens an audit log of everything holds: who did what to which, and nothing that is secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from audit_log import events, logged
from server_client import Start

SECRETS = "/api/v1/namespaces/default/secrets"
HIDDEN = "aHVudGVyMg=="
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
PARTIALS = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
PROTOBUF = "application/vnd.kubernetes.protobuf"
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC_PATCH, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"

SECRET = {
    "metadata": {"name": "s", "labels": {"app": "web"}, "annotations": {"tool.example/applied": HIDDEN}},
    "type": "example.com/kind",
    "data": {"password": HIDDEN},
}


def written(folder: Path) -> list[dict[str, Any]]:
    """The events, in none of which the secret is."""
    text = (folder / "audit.log").read_text()
    assert HIDDEN not in text and "hunter2" not in text
    return events(folder / "audit.log")


async def test_an_event_tells_what_was_done_to_which_secret(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    await running.client.ask("POST", f"{SECRETS}?dryRun=All", SECRET)
    await running.client.ask("POST", SECRETS, SECRET)
    await running.server.stop()
    for event in written(tmp_path):
        for shown in (event["requestObject"], event["responseObject"]):
            assert shown["metadata"]["name"] == "s"
            assert shown["metadata"]["labels"] == {"app": "web"}
            assert shown["metadata"]["annotations"] == {"tool.example/applied": "<redacted>"}
            assert (shown["kind"], shown["type"]) == ("Secret", "example.com/kind")
            assert shown["data"] == {"password": "<redacted>"}


@pytest.mark.parametrize("accept", ["", "application/yaml", PROTOBUF, TABLE, PARTIAL, PARTIALS])
@pytest.mark.parametrize("path", [f"{SECRETS}/s", SECRETS, f"{SECRETS}?includeObject=Object"])
async def test_no_form_of_an_answer_tells_a_secret(start: Start, tmp_path: Path, accept: str, path: str) -> None:
    running = await logged(start, tmp_path)
    await running.client.ask("POST", SECRETS, SECRET)
    await running.client.ask("GET", path, **({"Accept": accept} if accept else {}))
    await running.client.ask("DELETE", SECRETS)
    await running.server.stop()
    assert [event["verb"] for event in written(tmp_path)][-1] == "deletecollection"


@pytest.mark.parametrize(
    ("media_type", "patch", "shown"),
    [
        (
            JSON_PATCH,
            [{"op": "add", "path": "/data/more", "value": HIDDEN}, {"op": "test", "path": "/type", "Value": HIDDEN}],
            [
                {"op": "add", "path": "/data/more", "value": "<redacted>"},
                {"op": "test", "path": "/type", "Value": "<redacted>"},
            ],
        ),
        (
            MERGE_PATCH,
            {"data": {"more": HIDDEN}, "stringData": "hunter2"},
            {"data": {"more": "<redacted>"}, "stringData": "<redacted>"},
        ),
        (
            STRATEGIC_PATCH,
            {"Data": {"more": HIDDEN}, "type": ["hunter2"], "spec": {"password": "hunter2"}},
            {"Data": "<redacted>", "type": "<redacted>", "spec": {"password": "<redacted>"}},
        ),
        (
            MERGE_PATCH,
            {"kind": "ConfigMap", "metadata": {"annotations": {"a": HIDDEN}, "Labels": HIDDEN}},
            {"kind": "ConfigMap", "metadata": {"annotations": {"a": "<redacted>"}, "Labels": "<redacted>"}},
        ),
        (
            APPLY,
            b"{kind: Secret, apiVersion: v1, metadata: {name: s}, data: {more: aHVudGVyMg==}}",
            {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"more": "<redacted>"}},
        ),
        (MERGE_PATCH, b'"hunter2"', "<redacted>"),
    ],
)
async def test_a_patch_is_shown_without_what_it_sets(
    start: Start, tmp_path: Path, media_type: str, patch: Any, shown: Any
) -> None:
    running = await logged(start, tmp_path)
    await running.client.ask("POST", SECRETS, SECRET)
    await running.client.ask("PATCH", f"{SECRETS}/s?fieldManager=me", patch, Content_Type=media_type)
    await running.server.stop()
    assert written(tmp_path)[-1]["requestObject"] == shown


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata": {"name": "s"}, "data": {"password": "aHVudGVyMg=="',
        b'{"metadata": {"name": "s"}, "data": "hunter2"}',
        b'{"metadata": {"name": "s"}, "Data": {"password": "hunter2"}}',
        b'{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"password": "hunter2"}}',
        b'{"kind": "List", "apiVersion": "v1", "items": [{"kind": "Secret", "stringData": {"password": "hunter2"}}]}',
        b'[{"stringData": {"password": "hunter2"}}]',
        b"password: hunter2",
    ],
)
async def test_a_body_that_is_refused_is_not_told(start: Start, tmp_path: Path, body: bytes) -> None:
    running = await logged(start, tmp_path)
    refused = await running.client.ask("POST", f"{SECRETS}?fieldValidation=Strict", body)
    await running.server.stop()
    assert refused.status == 400
    assert written(tmp_path)[-1]["responseStatus"]["code"] == 400


async def test_a_secret_that_is_sent_elsewhere_is_not_told(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    path = "/api/v1/namespaces/default/configmaps"
    refused = await running.client.ask("POST", path, {"kind": "Secret", "apiVersion": "v1", **SECRET})
    await running.server.stop()
    assert refused.status == 400
    assert len(written(tmp_path)) == 1


# ---------------------------------------------------------------------- tokens
@pytest.mark.parametrize("validation", ["Strict", "Ignore"])
@pytest.mark.parametrize("spec", [{"token": "hunter2"}, {"Token": "hunter2"}, {"token": ["hunter2"]}])
async def test_a_token_that_is_asked_about_is_not_told(
    start: Start, tmp_path: Path, spec: dict[str, Any], validation: str
) -> None:
    running = await logged(start, tmp_path)
    path = f"/apis/authentication.k8s.io/v1/tokenreviews?fieldValidation={validation}"
    await running.client.ask("POST", path, {"spec": {**spec, "audiences": ["vault"]}})
    await running.server.stop()
    (event,) = written(tmp_path)
    if event["responseStatus"]["code"] == 201 and "token" in spec:
        assert event["requestObject"]["spec"] == {"token": "<redacted>", "audiences": ["vault"]}


async def test_a_token_that_is_given_is_not_told(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    path = "/api/v1/namespaces/default/serviceaccounts"
    await running.client.ask("POST", path, {"metadata": {"name": "robot"}})
    asked = {"spec": {"audiences": ["vault"], "expirationSeconds": 600}}
    given = await running.client.ask("POST", f"{path}/robot/token", asked)
    await running.server.stop()
    event = written(tmp_path)[-1]
    assert given.json["status"]["token"] not in str(event)
    assert event["requestObject"]["spec"] == asked["spec"]
    assert event["responseObject"]["status"] == {**given.json["status"], "token": "<redacted>"}
