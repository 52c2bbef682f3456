"""Bookmarks: what they look like, and when a watcher is sent one."""

from __future__ import annotations

import orjson
import pytest
from server_client import Client, Start

from kubegate.server.watch import BOOKMARK_SECONDS, _next_bookmark

INITIAL = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
META = "meta.k8s.io"


@pytest.fixture
async def client(start: Start) -> Client:
    return (await start("--controllers=none")).client


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/api/v1/namespaces/none/secrets", {}),
        ("/api/v1/namespaces/none/pods", {"spec": {"containers": None}, "status": {}}),
        ("/apis/rbac.authorization.k8s.io/v1/namespaces/none/roles", {"rules": None}),
    ],
)
async def test_a_bookmark_is_an_object_in_which_nothing_is_set(client: Client, path: str, rest: object) -> None:
    [event] = (await client.ask("GET", f"{path}?{INITIAL}")).body.splitlines()
    found = orjson.loads(event)["object"]
    metadata = found.pop("metadata")
    del found["kind"], found["apiVersion"]
    assert found == rest
    assert metadata.keys() == {"resourceVersion", "annotations"}
    assert metadata["annotations"] == {"k8s.io/initial-events-end": "true"}


@pytest.mark.parametrize("version", ["", "&resourceVersion=0"])
async def test_who_watches_from_the_beginning_is_told_where_it_ends(client: Client, version: str) -> None:
    path = f"/api/v1/namespaces/default/serviceaccounts?watch=1&timeoutSeconds=1{version}"
    await client.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "a"}})
    plain = [orjson.loads(line)["type"] for line in (await client.ask("GET", path)).body.splitlines()]
    assert set(plain) == {"ADDED"}
    told = [orjson.loads(line) for line in (await client.ask("GET", f"{path}&allowWatchBookmarks=1")).body.splitlines()]
    assert [event["type"] for event in told] == [*plain, "BOOKMARK"]
    assert told[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


@pytest.mark.parametrize("kind", ["Table", "PartialObjectMetadata"])
async def test_a_bookmark_is_shown_as_objects_are(client: Client, kind: str) -> None:
    accept = f"application/json;as={kind};v=v1;g={META}"
    found = await client.ask("GET", f"/api/v1/namespaces/none/pods?{INITIAL}", Accept=accept)
    assert found.json["type"] == "BOOKMARK"
    assert found.json["object"]["kind"] == kind


def test_a_watcher_is_told_every_minute_and_once_before_the_end() -> None:
    end = 200.0
    now, told = 0.0, []
    while (now := _next_bookmark(now, end)) < end:
        told.append(now)
    assert told == [BOOKMARK_SECONDS, 2 * BOOKMARK_SECONDS, 3 * BOOKMARK_SECONDS, end - 2]
    assert _next_bookmark(0.0, 1.0) > 1.0
