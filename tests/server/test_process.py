"""The server as a whole: what it stored is found again, and what cannot be used is named."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import orjson
from server_client import Start

from kubegate.pki import cluster

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


async def test_what_was_stored_is_there_after_the_next_start(start: Start, tmp_path: Path) -> None:
    storage = f"--storage=sqlite:{tmp_path / 'kubegate.db'}"
    first = await start(storage)
    made = (await first.client.ask("POST", CONFIGMAPS, {"metadata": {"name": "a"}, "data": {"k": "v"}})).json
    await first.server.stop()
    second = await start(storage)
    assert (await second.client.ask("GET", f"{CONFIGMAPS}/a")).json == made


async def test_a_new_server_has_what_kubernetes_has(start: Start) -> None:
    running = await start("--controllers=none")
    names = {n["metadata"]["name"] for n in (await running.client.ask("GET", "/api/v1/namespaces")).json["items"]}
    assert names == {"default", "kube-system", "kube-public", "kube-node-lease"}
    role = await running.client.ask("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin")
    assert role.json["metadata"]["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults"
    service = await running.client.ask("GET", "/api/v1/namespaces/default/services/kubernetes")
    assert service.json["spec"]["clusterIP"] == "10.96.0.1"


async def test_keys_can_be_read_by_their_owner_alone(start: Start, tmp_path: Path) -> None:
    running = await start("--controllers=none")
    path = running.server.write_kubeconfig()
    assert path is not None
    for file in [path, *(tmp_path / "pki").glob("*.key")]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_folders_that_are_made_for_keys_are_their_owner_s_alone(tmp_path: Path) -> None:
    cluster.ensure(tmp_path / "data" / "pki", [])
    for folder in (tmp_path / "data", tmp_path / "data" / "pki"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_watch_ends_cleanly_when_the_server_does(start: Start) -> None:
    running = await start("--controllers=none")
    client = running.client
    url = f"{client.url}{CONFIGMAPS}?watch=1"
    headers = {"Authorization": "Bearer admin-token"}
    async with client.session.get(url, headers=headers, ssl=client.context) as answer:
        await client.ask("POST", CONFIGMAPS, {"metadata": {"name": "a"}})
        event: dict[str, Any] = orjson.loads(await answer.content.readline())
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")
        await running.server.stop()
        assert await answer.content.read() == b"", "the chunked answer has its end"


async def test_metrics_count_requests_under_kube_apiserver_s_names(start: Start) -> None:
    running = await start("--controllers=none")
    await running.client.ask("GET", f"{CONFIGMAPS}/none")
    text = (await running.client.ask("GET", "/metrics")).body.decode()
    wanted = 'verb="GET",dry_run="",group="",version="v1",resource="configmaps",subresource="",scope="resource"'
    line = next(x for x in text.splitlines() if x.startswith("apiserver_request_total") and wanted in x)
    assert line.endswith(" 1") and 'code="404"' in line


async def test_metrics_tell_what_is_being_answered_now(start: Start) -> None:
    running = await start("--controllers=none")
    client = running.client
    lasting = 'apiserver_longrunning_requests{verb="WATCH",dry_run="",group="",version="v1",resource="configmaps",'

    async def watched() -> list[str]:
        text = (await client.ask("GET", "/metrics")).body.decode()
        return [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(lasting)]

    headers = {"Authorization": "Bearer admin-token"}
    url = f"{client.url}{CONFIGMAPS}?watch=1"
    async with client.session.get(url, headers=headers, ssl=client.context) as response:
        assert await watched() == ["1"]
        assert response.connection is not None and response.connection.transport is not None
        response.connection.transport.abort()  # an orderly end of TLS would wait for the server's part of it
    while await watched():  # the transport does not tell that a client over HTTP/1.1 went
        await running.server.app.let_go(int(client.url.rpartition(":")[2]))
    text = (await client.ask("GET", "/metrics")).body.decode()
    assert 'apiserver_current_inflight_requests{request_kind="readOnly"} 0' in text


async def test_metrics_count_who_asks_without_naming_them(start: Start) -> None:
    running = await start("--controllers=none", "--anonymous-auth=false")
    for token in ("alice-token", "bob-token", "wrong", ""):
        await running.client.ask("GET", "/version", token=token)
    for _ in range(2):
        await running.client.ask("GET", "/version", Impersonate_User="bob@example.com")
    text = (await running.client.ask("GET", "/metrics")).body.decode()
    found = {x for x in text.splitlines() if x.startswith(("authenticated_user_requests", "authentication_attempts"))}
    assert found == {
        'authenticated_user_requests{username="admin"} 3',
        'authenticated_user_requests{username="other"} 2',
        'authentication_attempts{result="error"} 1',
        'authentication_attempts{result="failure"} 1',
        'authentication_attempts{result="success"} 5',
    }


async def test_health_checks_are_counted_by_result(start: Start) -> None:
    running = await start("--controllers=none")
    for _ in range(2):
        await running.client.ask("GET", "/livez?exclude=etcd")
    text = (await running.client.ask("GET", "/metrics/slis")).body.decode()
    assert 'kubernetes_healthcheck{name="ping",type="livez"} 1' in text
    assert 'kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 2' in text
    assert 'name="etcd",status="success",type="livez"' not in text


async def test_a_refusal_tells_nothing_of_what_it_guards(start: Start) -> None:
    running = await start("--controllers=none")
    there = await running.client.ask("GET", "/api/v1/namespaces/default/services/kubernetes", token="alice-token")
    missing = await running.client.ask("GET", "/api/v1/namespaces/default/services/none", token="alice-token")
    assert there.status == missing.status == 403
    assert there.json["message"] == missing.json["message"].replace('"none"', '"kubernetes"')
