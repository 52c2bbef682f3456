"""Tables as clients ask for them."""

from __future__ import annotations

from server_client import Start

V1, V2 = (f"/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers" for version in ("v1", "v2"))
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def test_cells_are_made_of_what_is_stored_whatever_version_is_asked_for(start: Start) -> None:
    client = (await start("--controllers=none")).client
    memory = {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Mi"}}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
    metrics = [{"type": "Resource", "resource": metric} for metric in (cpu, memory)]
    target = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
    body = {"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target, "metrics": metrics}}
    dry = await client.ask("POST", f"{V2}?dryRun=All", body, Accept=TABLE)
    assert dry.json["metadata"] == {}  # no resourceVersion: nothing is stored
    assert (await client.ask("POST", V2, body)).status == 201
    shown = "cpu: <unknown>/50%, memory: <unknown>/1Mi"
    for path in (V1, f"{V1}/a", V2):
        assert (await client.ask("GET", path, Accept=TABLE)).json["rows"][0]["cells"][2] == shown
    row = (await client.ask("GET", f"{V1}?includeObject=Object", Accept=TABLE)).json["rows"][0]
    assert row["object"]["spec"]["targetCPUUtilizationPercentage"] == 50
    patch = await client.ask("PATCH", f"{V1}/a", {}, Accept=TABLE, Content_Type="application/merge-patch+json")
    assert patch.json["rows"][0]["cells"][2] == "memory: <unknown>/1Mi, cpu: <unknown>/50%"
