"""ComponentStatuses: the store, the controllers of this process, and the scheduler that there is not."""

from __future__ import annotations

from server_client import Start

PATH = "/api/v1/componentstatuses"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def test_each_component_is_told(start: Start) -> None:
    client = (await start("--controllers=ttl-controller")).client
    found = await client.ask("GET", PATH)
    assert found.headers["warning"] == '299 - "v1 ComponentStatus is deprecated in v1.19+"'
    assert (found.json["kind"], found.json["metadata"]) == ("ComponentStatusList", {})
    told = {item["metadata"]["name"]: item["conditions"][0]["status"] for item in found.json["items"]}
    assert told == {"controller-manager": "True", "etcd-0": "True", "scheduler": "False"}
    etcd = {"type": "Healthy", "status": "True", "message": "ok"}
    assert (await client.ask("GET", f"{PATH}/etcd-0")).json == {
        "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": "etcd-0"}, "conditions": [etcd]
    }  # fmt: skip
    missing = await client.ask("GET", f"{PATH}/none")
    assert (missing.status, missing.json["message"]) == (500, "Component not found: none")


async def test_selectors_and_tables(start: Start) -> None:
    client = (await start("--controllers=none")).client
    found = await client.ask("GET", f"{PATH}?fieldSelector=metadata.name%3Dcontroller-manager", Accept=TABLE)
    [row] = found.json["rows"]
    refused = "dial tcp 127.0.0.1:10257: connect: connection refused"
    assert row["cells"][:2] == ["controller-manager", "Unhealthy"]
    assert row["cells"][2].endswith(refused)
    assert (await client.ask("GET", f"{PATH}?watch=1")).status == 405
