"""DeleteOptions: read as Go reads them, and held against the object that is there."""

from __future__ import annotations

import pytest
from server_client import Client, Start

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
UID = "preconditions.uid"


@pytest.fixture
async def client(start: Start) -> Client:
    client = (await start("--controllers=none")).client
    await client.ask("POST", CONFIGMAPS, {"metadata": {"name": "a"}})
    return client


@pytest.mark.parametrize(
    ("preconditions", "text"),
    [
        ({"uid": ""}, "the UID in the precondition () does not match the UID in record ("),
        ({"resourceVersion": ""}, "the ResourceVersion in the precondition () does not match the ResourceVersion in"),
    ],
)
async def test_a_precondition_that_is_empty_is_one(client: Client, preconditions: object, text: str) -> None:
    found = await client.ask("DELETE", f"{CONFIGMAPS}/a", {"preconditions": preconditions})
    assert (found.status, found.json["reason"]) == (409, "Conflict")
    assert text in found.json["message"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dryRun": "All"}, "string into Go struct field DeleteOptions.dryRun of type []string"),
        ({"preconditions": {"uid": 1}}, f"number into Go struct field Preconditions.{UID} of type types.UID"),
    ],
)
async def test_options_of_another_type_are_refused(client: Client, options: object, text: str) -> None:
    found = await client.ask("DELETE", f"{CONFIGMAPS}/a", options)
    assert (found.status, found.json["message"]) == (400, f"json: cannot unmarshal {text}")
