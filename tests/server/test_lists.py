"""Which revision gets and lists are answered from."""

from __future__ import annotations

from urllib.parse import urlencode

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


@pytest.mark.parametrize("path", ["/a", "?watch=1"])
async def test_a_resource_version_that_is_no_number_is_an_error_without_a_reason(client: Client, path: str) -> None:
    found = await client.ask("GET", f"{CONFIGMAPS}{path}{'&' if '?' in path else '?'}resourceVersion=x")
    assert (found.status, found.json["message"]) == (500, WRONG)
    assert "reason" not in found.json


@pytest.mark.parametrize("path", ["", "?limit=1"])
async def test_a_list_at_a_resource_version_that_is_no_number_is_a_bad_request(client: Client, path: str) -> None:
    found = await client.ask("GET", f"{CONFIGMAPS}{path}{'&' if '?' in path else '?'}resourceVersion=x")
    assert (found.status, found.json["message"]) == (400, f"invalid resource version: {WRONG}")
    assert found.json["reason"] == "BadRequest"


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


async def test_objects_are_found_by_labels_and_by_name(client: Client) -> None:
    for name, labels in ("a", {"app": "x", "size": "3"}), ("b", {"app": "y", "size": "10"}), ("c", {}):
        patch = {"metadata": {"labels": labels}}
        headers = {"Content-Type": "application/merge-patch+json"}
        assert (await client.ask("PATCH", f"{CONFIGMAPS}/{name}", patch, **headers)).status == 200

    async def found(**query: str) -> str:
        listed = (await client.ask("GET", f"{CONFIGMAPS}?{urlencode(query)}")).json
        return "".join(item["metadata"]["name"] for item in listed["items"])

    selected = {
        "app=x": "a", "app==y": "b", "app!=x": "bc", "app in (x,y)": "ab", "app notin (x)": "bc", "app": "ab",
        "!app": "c", "size>3": "b", "size<4": "a", "app,size=3": "a", "app,!size": "", "": "abc",
    }  # fmt: skip
    for selector, names in selected.items():
        for _ in range(2):
            assert await found(labelSelector=selector) == names, selector
    assert await found(fieldSelector="metadata.name=b") == "b"
    assert await found(fieldSelector="metadata.name=b", labelSelector="app=x") == ""
    assert await found(fieldSelector="metadata.name=b,metadata.name!=b") == ""
    assert await found(fieldSelector="metadata.name=nobody") == ""
    await client.ask("DELETE", f"{CONFIGMAPS}/a")
    assert await found(labelSelector="app") == await found(fieldSelector="metadata.name=b") == "b"
    assert await found(labelSelector="size<4") == ""


async def test_secrets_are_found_by_type(client: Client) -> None:
    secrets = "/api/v1/namespaces/default/secrets"
    for name, kind in (("a", "mine"), ("b", "yours")):
        await client.ask("POST", secrets, {"metadata": {"name": name}, "type": kind})
    found = (await client.ask("GET", f"{secrets}?fieldSelector=type%3Dmine")).json
    assert [item["metadata"]["name"] for item in found["items"]] == ["a"]


async def test_pods_are_found_by_what_they_are_on_and_by_nothing_of_all_their_addresses(client: Client) -> None:
    pods = "/api/v1/namespaces/default/pods"
    await client.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    for name, node in (("a", "one"), ("b", "two")):
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
        await client.ask("POST", pods, {"metadata": {"name": name}, "spec": spec})

    async def found(selector: str) -> list[str]:
        answer = await client.ask("GET", f"{pods}?fieldSelector={selector}")
        return [item["metadata"]["name"] for item in answer.json["items"]]

    assert await found("spec.nodeName%3Done") == await found("spec.host%3Done") == ["a"]
    assert await found("status.podIPs%3D") == ["a", "b"]


ONLY = 'is not a known field selector: only "metadata.name", "metadata.namespace"'


@pytest.mark.parametrize(
    ("path", "selector", "message"),
    [
        ("/api/v1/pods", "status.podIPs", ""),
        ("/api/v1/pods", "spec.host", ""),
        ("/api/v1/pods", "spec.image", "field label not supported: spec.image"),
        ("/api/v1/namespaces", "metadata.namespace", "field label not supported: metadata.namespace"),
        ("/api/v1/nodes", "metadata.namespace", "field label not supported: metadata.namespace"),
        ("/api/v1/configmaps", "", f'"" {ONLY}'),
        ("/apis/storage.k8s.io/v1/storageclasses", "metadata.namespace", ""),
    ],
)
async def test_which_fields_may_be_asked_for(client: Client, path: str, selector: str, message: str) -> None:
    found = await client.ask("GET", f"{path}?fieldSelector={selector}%3Dx")
    assert (found.status, found.json.get("message", "")) == (400 if message else 200, message)


async def test_watches_are_streams_of_json_alone(client: Client) -> None:
    assert (await client.ask("GET", CONFIGMAPS, Accept="application/json;stream=watch")).status == 200
    found = await client.ask("GET", f"{CONFIGMAPS}?watch=1&timeoutSeconds=1", Accept="application/yaml")
    assert found.status == 406
    assert b"only the following media types are accepted: application/json;stream=watch," in found.body


async def test_a_watch_of_rows_is_refused_before_it_begins(client: Client) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    found = await client.ask("GET", f"{CONFIGMAPS}?watch=1&timeoutSeconds=1&includeObject=x", Accept=accept)
    assert (found.status, found.json["reason"]) == (400, "BadRequest")


async def test_what_cannot_be_watched(client: Client) -> None:
    found = await client.ask("GET", "/api/v1/componentstatuses?watch=1")
    assert (found.status, found.json["message"]) == (
        405,
        'watch is not supported on resources of kind "componentstatuses"',
    )
    for path in ("componentstatuses", "namespaces/default/pods/x/status"):
        assert (await client.ask("GET", f"/api/v1/watch/{path}")).status == 404
    found = await client.ask("GET", "/api/v1/watch?x=1&y=%3C", token="")
    assert (found.status, found.headers["content-type"]) == (500, "text/plain; charset=utf-8")
    assert found.body == (
        b'Internal Server Error: "/api/v1/watch?x=1&amp;y=%3C": failed to create RequestInfo: '
        b"unable to determine kind and namespace from url, /api/v1/watch?x=1&amp;y=%3C\n"
    )


async def test_initial_events_of_the_future_are_an_error_event(client: Client) -> None:
    asked = "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    found = await client.ask("GET", f"{CONFIGMAPS}?{asked}&resourceVersion=99999999")
    assert (found.status, found.json["type"], found.json["object"]["code"]) == (200, "ERROR", 504)


@pytest.mark.parametrize("name", ["limit", "timeoutSeconds"])
async def test_numbers_that_are_given_are_numbers(client: Client, name: str) -> None:
    found = await client.ask("GET", f"{CONFIGMAPS}?{name}=")
    assert (found.status, found.json["message"]) == (400, 'strconv.ParseInt: parsing "": invalid syntax')


async def test_who_deletes_some_of_many_is_told_where_to_go_on(client: Client) -> None:
    deleted = (await client.ask("DELETE", f"{CONFIGMAPS}?limit=2")).json
    assert (len(deleted["items"]), deleted["metadata"]["remainingItemCount"]) == (2, 1)
    assert deleted["metadata"]["continue"]


async def test_grace_that_is_cut_short_is_seen_in_the_answer(client: Client) -> None:
    spec = {"nodeName": "n", "containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": False}
    pods = "/api/v1/namespaces/default/pods"
    await client.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    await client.ask("POST", pods, {"metadata": {"name": "p"}, "spec": spec})
    assert (await client.ask("DELETE", f"{pods}/p")).json["metadata"]["deletionGracePeriodSeconds"] == 30
    last = (await client.ask("DELETE", f"{pods}/p?gracePeriodSeconds=0")).json
    assert last["metadata"]["deletionGracePeriodSeconds"] == 0
    assert (await client.ask("GET", f"{pods}/p")).status == 404
