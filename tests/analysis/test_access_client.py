"""Reading a running API server through a kubeconfig."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from access_manifests import bound, rule

from kubegate.analysis.client import connect
from kubegate.analysis.questions import question, user_of
from kubegate.analysis.sources import SourceError

RBAC = "/apis/rbac.authorization.k8s.io/v1"


class ApiServer:
    """Answers lists in pages of one, and reviews; without TLS, on a free port."""

    def __init__(self) -> None:
        self.port = 0
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[tuple[str, str, str]] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split("\r\n")[0].split(" ")
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path, _, query = target.partition("?")
        self.requests.append((method, path, headers.get("authorization", "")))
        code, answer = self.answer(method, path, query, orjson.loads(body or b"null"))
        data = orjson.dumps(answer)
        told = ("Content-Type: application/json", f"Content-Length: {len(data)}", "Connection: close", "", "")
        writer.write("\r\n".join((f"HTTP/1.1 {code} X", *told)).encode() + data)
        await writer.drain()
        writer.close()

    def answer(self, method: str, path: str, query: str, body: Any) -> tuple[int, Any]:
        if path.endswith("selfsubjectreviews"):
            return 201, {**body, "status": {"userInfo": {"username": "me"}}}
        if method == "POST":
            return 201, {**body, "status": {"allowed": True, "reason": "because"}}
        if path not in self.lists:
            message = f"User cannot list {path}"
            return 403, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}
        items, start = self.lists[path], int(query.rpartition("continue=")[2] or 0)
        more = {"continue": str(start + 1)} if start + 1 < len(items) else {}
        return 200, {"kind": "List", "apiVersion": "v1", "metadata": more, "items": items[start : start + 1]}


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    api = ApiServer()
    listener = await asyncio.start_server(api.handle, "127.0.0.1", 0)
    api.port = listener.sockets[0].getsockname()[1]
    yield api
    listener.close()


def kubeconfig(folder: Path, port: int, user: str) -> Path:
    file = folder / "kubeconfig"
    file.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], "
        f'clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}], users: [{{name: u, user: {user}}}]}}'
    )
    return file


async def test_lists_are_read_page_by_page(server: ApiServer, tmp_path: Path) -> None:
    server.lists = {
        f"{RBAC}/clusterroles": [{"metadata": {"name": n}, "rules": [rule("get", "pods")]} for n in "abc"],
        f"{RBAC}/roles": [],
        f"{RBAC}/clusterrolebindings": [bound("b", "ClusterRole", "c", "User ann")],
        f"{RBAC}/rolebindings": [],
    }  # fmt: skip
    async with connect(kubeconfig(tmp_path, server.port, "{token: abc}")) as reader:
        cluster = await reader.cluster()
        assert len(list(cluster.index.roles())) == 3
        assert cluster.index.decide(question(user_of("ann"), "get", "pods")).allowed
        # what may not be read is not known, and no reason to give up
        assert cluster.service_accounts is None
        assert (await reader.whoami()) == {"username": "me"}
        assert (await reader.review(question(user_of("ann"), "get", "pods")))["reason"] == "because"
    assert {authorization for _, _, authorization in server.requests} == {"bearer abc"}


async def test_a_refusal_is_told_with_the_address(server: ApiServer, tmp_path: Path) -> None:
    async with connect(kubeconfig(tmp_path, server.port, "{}")) as reader:
        with pytest.raises(SourceError, match=f"http://127.0.0.1:{server.port}{RBAC}/clusterroles.*: User cannot list"):
            await reader.cluster()


async def test_a_credential_plugin_is_asked_for_a_token(server: ApiServer, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    credential = '{"kind": "ExecCredential", "status": {"token": "\'$NAME\'"}}'
    write_program(plugin, f"#!/bin/sh\ntest -n \"$KUBERNETES_EXEC_INFO\" && echo '{credential}'\n")
    user = f"{{exec: {{command: {plugin}, env: [{{name: NAME, value: fresh}}]}}}}"
    async with connect(kubeconfig(tmp_path, server.port, user)) as reader:
        await reader.whoami()
    assert server.requests[-1][2] == "bearer fresh"
    write_program(plugin, "#!/bin/sh\nexit 3\n")
    with pytest.raises(SourceError, match=r"gave no ExecCredential \(exit code 3\)"):
        async with connect(kubeconfig(tmp_path, server.port, user)):
            pass


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    os.chmod(path, stat.S_IRWXU)


async def test_without_a_kubeconfig_one_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(SourceError, match="name one with --kubeconfig, or a folder of manifests with --from"):
        async with connect():
            pass
