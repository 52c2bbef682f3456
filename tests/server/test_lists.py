"""Which revision gets and lists are answered from."""

from __future__ import annotations

import pytest
from server_client import Client, Start

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
WRONG = 'resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax'


@pytest.fixture
async def client(start: Start) -> Client:
    client = (await start("--controllers=none")).client
    for name in "abc":
        await client.ask("POST", CONFIGMAPS, {"metadata": {"name": name}})
    return client


async def test_a_limit_with_a_resource_version_means_that_very_revision(client: Client) -> None:
    seen = (await client.ask("GET", CONFIGMAPS)).json["metadata"]["resourceVersion"]
    await client.ask("DELETE", f"{CONFIGMAPS}/a")
    exact = (await client.ask("GET", f"{CONFIGMAPS}?limit=2&resourceVersion={seen}")).json
    assert exact["metadata"]["resourceVersion"] == seen
    assert [item["metadata"]["name"] for item in exact["items"]] == ["a", "b"]
    newer = (await client.ask("GET", f"{CONFIGMAPS}?resourceVersion={seen}")).json
    assert [item["metadata"]["name"] for item in newer["items"]] == ["b", "c"]
    for other in ("resourceVersion=0", f"resourceVersion={seen}&resourceVersionMatch=NotOlderThan"):
        listed = (await client.ask("GET", f"{CONFIGMAPS}?limit=1&{other}")).json
        assert listed["items"][0]["metadata"]["name"] == "b"


@pytest.mark.parametrize("path", ["", "/a", "?watch=1", "?limit=1"])
async def test_a_resource_version_that_is_no_number_is_an_error_without_a_reason(client: Client, path: str) -> None:
    found = await client.ask("GET", f"{CONFIGMAPS}{path}{'&' if '?' in path else '?'}resourceVersion=x")
    assert (found.status, found.json["message"]) == (500, WRONG)
    assert "reason" not in found.json


async def test_events_which_no_cache_holds_tell_it_as_a_bad_request(client: Client) -> None:
    for path in ("events", "events/a"):
        found = await client.ask("GET", f"/api/v1/namespaces/default/{path}?resourceVersion=x")
        assert (found.status, found.json["message"]) == (400, f"invalid resource version: {WRONG}")


async def test_what_is_not_there_yet_is_waited_for_and_then_refused(client: Client) -> None:
    for path in (CONFIGMAPS, f"{CONFIGMAPS}/a"):
        found = await client.ask("GET", f"{path}?resourceVersion=99999999")
        assert (found.status, found.json["reason"]) == (504, "Timeout")
        assert found.json["message"].startswith("Timeout: Too large resource version: 99999999, current: ")
    assert (await client.ask("GET", f"{CONFIGMAPS}/a?resourceVersion=0")).status == 200
