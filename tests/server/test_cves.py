"""What was published of kube-apiserver and those beside it, tried on a whole server. docs/security.md has the list.

Here are those that no test of a single part covers; each test names its CVE.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from server_client import Client, Start

ANY_NAMESPACE = "/api/v1/namespaces/default"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
JSON, MERGE, STRATEGIC = (f"application/{kind}+json" for kind in ("json-patch", "merge-patch", "strategic-merge-patch"))
APPLY = "application/apply-patch+yaml"


@pytest.fixture
async def client(start: Start) -> Client:
    return (await start("--controllers=none", "--enable-admission-plugins=DenyServiceExternalIPs")).client


def pod(name: str, **spec: Any) -> dict[str, Any]:
    found = {"containers": [{"name": "c", "image": "x"}], "automountServiceAccountToken": False, **spec}
    return {"metadata": {"name": name}, "spec": found}


async def make(client: Client, path: str, body: Any) -> None:
    answer = await client.ask("POST", path, body)
    assert answer.status == 201, answer.body


@pytest.fixture
async def account(client: Client) -> Client:
    """With the service account that pods want."""
    await make(client, f"{ANY_NAMESPACE}/serviceaccounts", {"metadata": {"name": "default"}})
    return client


# ------------------------------------------------------------------ names and paths
@pytest.mark.parametrize("name", ["..", ".", "../secrets/x", "a/b", "..%2fsecrets%2fx", "a\0b", "a%00", "a\nb"])
async def test_no_name_leads_elsewhere_in_the_store(client: Client, name: str) -> None:
    """CVE-2015-5305: kinds and names were put into etcd's paths as they came."""
    for path, body in (
        (f"{ANY_NAMESPACE}/configmaps", {"metadata": {"name": name}}),
        (f"{RBAC}/clusterroles", {"metadata": {"name": name}}),  # these may have almost any name
        ("/api/v1/namespaces", {"metadata": {"name": name}}),
    ):
        answer = await client.ask("POST", path, body)
        if answer.status == 201 and path.endswith("roles"):  # one with a line break is a name, and its own alone
            assert "/" not in name and name not in (".", "..") and "%" not in name
        else:
            assert answer.status in (400, 422), answer.body
    names = {"plural": name, "kind": "Thing"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    for group, plural in (("example.org", name), (name, "things")):
        spec = {"group": group, "scope": "Cluster", "names": {**names, "plural": plural}, "versions": [version]}
        answer = await client.ask("POST", CRDS, {"metadata": {"name": f"{plural}.{group}"}, "spec": spec})
        assert answer.status in (400, 422), answer.body


async def test_a_namespace_is_not_the_beginning_of_another(client: Client) -> None:
    """CVE-2016-5392: the watch cache gave out what was in other projects."""
    for namespace in ("team", "team-b", "teams"):
        await make(client, "/api/v1/namespaces", {"metadata": {"name": namespace}})
        await make(client, f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": f"of-{namespace}"}})
    path = "/api/v1/namespaces/team/secrets"
    for query in ("", "?resourceVersion=0", "?limit=1", "?watch=1&timeoutSeconds=1&resourceVersion=0"):
        answer = await client.ask("GET", path + query)
        assert answer.status == 200
        assert b"of-team" in answer.body and b"of-team-b" not in answer.body and b"of-teams" not in answer.body


@pytest.mark.parametrize("container", ["../../../../etc/passwd", "..", "c/../../x", "c%00", "/etc/passwd"])
async def test_a_container_s_name_is_no_path(account: Client, container: str) -> None:
    """CVE-2015-7528: logs of other pods could be read by the name of a container."""
    await make(account, f"{ANY_NAMESPACE}/pods", pod("p", nodeName="n"))
    answer = await account.ask("GET", f"{ANY_NAMESPACE}/pods/p/log?container={container}")
    assert answer.status == 400
    assert "is not valid for pod p" in answer.json["message"]


# ------------------------------------------------------------------ admission
async def test_a_patch_is_admitted_as_an_update_is(client: Client) -> None:
    """CVE-2016-1905: admission saw the object before the patch. DenyServiceExternalIPs stands for all plugins."""
    path = f"{ANY_NAMESPACE}/services"
    await make(client, path, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    spec = {"externalIPs": ["192.0.2.7"]}
    applied = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}
    for kind, body in (
        (MERGE, {"spec": spec}),
        (STRATEGIC, {"spec": spec}),
        (JSON, [{"op": "add", "path": "/spec/externalIPs", "value": spec["externalIPs"]}]),
        (APPLY, applied),
    ):
        answer = await client.ask("PATCH", f"{path}/s?fieldManager=m", body, Content_Type=kind)
        assert answer.status == 403, answer.body
        assert "Use of external IPs is denied by admission control" in answer.json["message"]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "169.254.169.254", "::1", "fe80::1", "224.0.0.1"])
async def test_endpoints_are_not_on_the_node_itself(client: Client, address: str) -> None:
    """CVE-2021-25737: through an EndpointSlice traffic could be sent to what only a node reaches."""
    family = "IPv6" if ":" in address else "IPv4"
    sliced = {"metadata": {"name": "s"}, "addressType": family, "endpoints": [{"addresses": [address]}]}
    answer = await client.ask("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", sliced)
    assert answer.status == 422
    subsets = [{"addresses": [{"ip": address}], "ports": [{"port": 80}]}]
    answer = await client.ask("POST", f"{ANY_NAMESPACE}/endpoints", {"metadata": {"name": "s"}, "subsets": subsets})
    assert answer.status == 422


# ------------------------------------------------------------------ rights
async def test_an_editor_of_a_namespace_sends_no_traffic_into_another(client: Client) -> None:
    """CVE-2021-25740: Endpoints may name addresses of other namespaces' pods."""
    for role in ("edit", "admin"):
        rules = (await client.ask("GET", f"{RBAC}/clusterroles/{role}")).json.get("rules") or []
        for rule in rules:
            if {"endpoints", "endpointslices", "*"} & set(rule.get("resources") or ()):
                assert set(rule["verbs"]) <= {"get", "list", "watch"}, rule


@pytest.mark.parametrize("path", ["/debug/pprof/", "/debug/pprof/heap", "/debug/flags/v", "/metrics", "/configz"])
async def test_what_is_for_operators_is_not_for_everybody(client: Client, path: str) -> None:
    """CVE-2019-11248: a health port gave out profiles of the process."""
    assert (await client.ask("GET", path, token="")).status == 403
    assert (await client.ask("GET", path, token="bob-token")).status == 403


# ------------------------------------------------------------------ calls that others make the server do
@pytest.fixture
async def inside() -> AsyncIterator[tuple[int, list[str]]]:
    """A service that only this machine reaches: its port, and who called."""
    calls: list[str] = []

    def called(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(called, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], calls
    server.close()
    await server.wait_closed()


async def test_objects_with_addresses_make_the_server_call_nobody(
    account: Client, inside: tuple[int, list[str]]
) -> None:
    """CVE-2018-1002102, 2020-8555, 2020-8559, 2020-8562, 2022-3172, 2022-3294 and 2025-13281.

    Nodes, pods, services, APIServices and volumes that name an address of the server's own network, and proxies to it.
    """
    port, calls = inside
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    kubelet = {"kubeletEndpoint": {"Port": port}}
    await make(account, "/api/v1/nodes", {"metadata": {"name": "n"}})
    status = {"status": {"addresses": addresses, "daemonEndpoints": kubelet}}
    answer = await account.ask("PATCH", "/api/v1/nodes/n/status", status, Content_Type=MERGE)
    assert answer.status == 200
    volume = {"name": "v", "portworxVolume": {"volumeID": f"127.0.0.1:{port}"}}
    await make(account, f"{ANY_NAMESPACE}/pods", pod("p", nodeName="n", volumes=[volume]))
    status = {"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "phase": "Running"}}
    assert (await account.ask("PATCH", f"{ANY_NAMESPACE}/pods/p/status", status, Content_Type=MERGE)).status == 200
    external = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    await make(account, f"{ANY_NAMESPACE}/services", {"metadata": {"name": "s"}, "spec": external})
    service = {"name": "s", "namespace": "default", "port": port}
    api = {"group": "g.example.org", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
    body = {
        "metadata": {"name": "v1.g.example.org"},
        "spec": {**api, "service": service, "insecureSkipTLSVerify": True},
    }
    await make(account, "/apis/apiregistration.k8s.io/v1/apiservices", body)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    upgrade["Sec_WebSocket_Key"] = base64.b64encode(b"0" * 16).decode()
    for path in (
        f"/api/v1/nodes/n:{port}/proxy/",
        "/api/v1/nodes/n/proxy/",
        f"/api/v1/nodes/https:127.0.0.1:{port}/proxy/",
        f"{ANY_NAMESPACE}/pods/p:{port}/proxy/",
        f"{ANY_NAMESPACE}/pods/http:127.0.0.1:{port}/proxy/",
        f"{ANY_NAMESPACE}/services/s:{port}/proxy/",
        f"{ANY_NAMESPACE}/pods/p/exec?command=id&stdout=1",
        f"{ANY_NAMESPACE}/pods/p/portforward?ports={port}",
        f"{ANY_NAMESPACE}/pods/p/log",
        "/apis/g.example.org/v1/things",
    ):
        for headers in ({}, upgrade):
            answer = await account.ask("GET", path, **headers)
            assert answer.status >= 400 or answer.body == b"", (path, answer.body)
            assert not 300 <= answer.status < 400
    assert calls == []


# ------------------------------------------------------------------ tokens
def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


HEADER = {"alg": "dir", "enc": "A256GCM", "zip": "DEF"}
TOKENS = {
    "dots alone": "." * 60_000,
    "parts without end": "a." * 30_000,
    "a token with a tail of dots": f"{_part({'alg': 'RS256'})}.{_part({'iss': 'x'})}." + "." * 60_000,
    "an encrypted one that is packed": f"{_part(HEADER)}..{_part(0)}.{'A' * 50_000}.{_part(0)}",
    "one encrypted by a password": f"{_part({'alg': 'PBES2-HS256+A128KW', 'p2c': 10**9, 'p2s': 'eA'})}.a.a.a.a",
    "JSON that nests": f"{base64.urlsafe_b64encode(b'[' * 40_000).decode()}.a.a",
}


@pytest.mark.parametrize("name", TOKENS)
async def test_a_token_costs_no_more_than_its_length(client: Client, name: str) -> None:
    """CVE-2025-30204, 2025-22868, 2025-27144: split at each dot. CVE-2024-28180, 2024-28176: unpacked to gigabytes."""
    before = time.process_time()
    answer = await client.ask("GET", "/api", token=TOKENS[name])
    assert answer.status == 401
    review = {"spec": {"token": TOKENS[name]}}
    answer = await client.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert answer.status == 201 and not answer.json["status"].get("authenticated")
    assert time.process_time() - before < 2


# ------------------------------------------------------------------ requests
async def test_languages_and_origins_of_a_client_are_not_looked_at(client: Client) -> None:
    """CVE-2022-32149: a list of languages that took minutes to read. CVE-2022-1996: origins that were half compared."""
    before = time.process_time()
    languages = "-".join(["a"] * 30_000)
    answer = await client.ask("GET", "/api", Accept_Language=languages, Origin="https://localhost.evil.example")
    assert answer.status == 200
    assert not any(name.startswith("access-control-") for name in answer.headers)
    assert time.process_time() - before < 2


SMUGGLED = {
    "a line of a chunk's size ends in LF alone": b"2\n{}\n0\n\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "an extension with LF": b"2;\n\r\n{}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "a size with 0x": b"0x2\r\n{}\r\n0\r\n\r\n",
    "a size with a sign": b"+2\r\n{}\r\n0\r\n\r\n",
    "a size with an underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
    "who it is comes after the body": b"2\r\n{}\r\n0\r\nAuthorization: Bearer admin-token\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_chunks_that_two_readers_would_read_otherwise_are_refused(start: Start, name: str) -> None:
    """CVE-2025-22871: a lone LF after a chunk's size hid a request from a proxy."""
    running = await start("--controllers=none")
    assert running.server.pki is not None
    context = ssl.create_default_context(cafile=str(running.server.pki.ca_certificate))
    port = int(running.server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    head = f"POST {ANY_NAMESPACE}/configmaps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode() + SMUGGLED[name])
    try:
        received = await asyncio.wait_for(reader.read(), 20)
    except (ConnectionError, ssl.SSLError):
        received = b""
    finally:
        writer.close()
    assert b"smuggled" not in received and received.count(b"HTTP/1.1") <= 1
    assert not received or received.split()[1] in (b"400", b"403", b"408", b"415"), received[:200]
