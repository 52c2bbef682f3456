"""What may be said in the metadata of an object that is made or changed."""

from __future__ import annotations

import pytest
from server_client import Client, Start

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"}


@pytest.fixture
async def client(start: Start) -> Client:
    return (await start("--controllers=none")).client


async def test_what_only_the_server_says_is_nobody_s_field(client: Client) -> None:
    said = {"uid": "5", "deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5, "selfLink": "/x"}
    made = (await client.ask("POST", CONFIGMAPS, {"metadata": {"name": "a", **said}})).json["metadata"]
    assert made.keys() == {"name", "namespace", "uid", "resourceVersion", "creationTimestamp"}


async def test_kinds_that_count_no_generations_keep_what_is_said(client: Client) -> None:
    made = (await client.ask("POST", CONFIGMAPS, {"metadata": {"name": "a", "generation": 7}})).json
    assert made["metadata"]["generation"] == 7
    refused = (await client.ask("POST", CONFIGMAPS, {"metadata": {"name": "b", "generation": -1}})).json
    text = 'ConfigMap "b" is invalid: metadata.generation: Invalid value: -1: must be greater than or equal to 0'
    assert refused["message"] == text


async def test_an_owner_that_is_named_twice_is_kept_once(client: Client) -> None:
    other = {**OWNER, "name": "other"}
    found = await client.ask("POST", CONFIGMAPS, {"metadata": {"name": "a", "ownerReferences": [OWNER, other, OWNER]}})
    assert found.json["metadata"]["ownerReferences"] == [OWNER, other]
    assert ".metadata.ownerReferences contains duplicate entries; API server dedups" in found.headers["warning"]
    assert found.headers["warning"].endswith('duplicate UID(s) observed: u"')
    patch = {"metadata": {"ownerReferences": [OWNER, OWNER]}}
    kind = "application/merge-patch+json"
    found = await client.ask("PATCH", f"{CONFIGMAPS}/a", patch, Content_Type=kind)
    assert found.json["metadata"]["ownerReferences"] == [OWNER]
    assert "duplicate entries after mutating admission happens; API server" in found.headers["warning"]


@pytest.mark.parametrize(
    ("metadata", "field", "times"),
    [
        ({"labels": {"bad key": "x"}}, "metadata.labels", 3),
        ({"annotations": {"bad key": "x"}}, "metadata.annotations", 3),
        ({"ownerReferences": [{**OWNER, "kind": ""}]}, "metadata.ownerReferences.kind", 3),
        ({"finalizers": ["bad name"]}, "metadata.finalizers", 1),
    ],
)
async def test_bad_metadata_of_a_change_is_found_by_each_who_looks(
    client: Client, metadata: object, field: str, times: int
) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    await client.ask("POST", leases, {"metadata": {"name": "a"}})
    found = await client.ask(
        "PATCH", f"{leases}/a", {"metadata": metadata}, Content_Type="application/merge-patch+json"
    )
    assert found.status == 422
    assert [cause["field"] for cause in found.json["details"]["causes"]].count(field) == times
