"""APIs that other servers serve: told in discovery, and not to be had here."""

from __future__ import annotations

from server_client import Start

APISERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


async def test_what_another_server_serves_is_unavailable(start: Start) -> None:
    client = (await start("--controllers=none")).client
    spec = {"group": "other.io", "groupPriorityMinimum": 17750, "versionPriority": 10}
    service = {"namespace": "default", "name": "s"}
    for version in ("v1beta1", "v1"):
        body = {"metadata": {"name": f"{version}.other.io"}, "spec": {**spec, "version": version, "service": service}}
        assert (await client.ask("POST", APISERVICES, body)).status == 201
    for path in ("/apis/other.io/v1", "/apis/other.io/v1/forms", "/apis/other.io/v1/namespaces/default/forms/a"):
        found = await client.ask("GET", path)
        assert (found.status, found.body) == (503, b"service unavailable\n")
    group = (await client.ask("GET", "/apis/other.io")).json
    assert [version["version"] for version in group["versions"]] == ["v1", "v1beta1"]
    groups = [found["name"] for found in (await client.ask("GET", "/apis")).json["groups"]]
    assert groups[groups.index("other.io") - 1] == "events.k8s.io"
    items = (await client.ask("GET", "/apis", Accept=AGGREGATED)).json["items"]
    [told] = [found["versions"] for found in items if found["metadata"]["name"] == "other.io"]
    assert told == [{"version": "v1", "freshness": "Stale"}, {"version": "v1beta1", "freshness": "Stale"}]
    for version in ("v1beta1", "v1"):
        await client.ask("DELETE", f"{APISERVICES}/{version}.other.io")
    for path in ("/apis/other.io", "/apis/other.io/v1"):
        assert (await client.ask("GET", path)).body == b"404 page not found\n"
