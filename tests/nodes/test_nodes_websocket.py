"""The websocket of exec, spoken by hand: what ends a command, and what is made of odd messages."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from kubegate.server.options import UsageError, parse
from kubegate.server.process import Server

PODS = "/api/v1/namespaces/default/pods"
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"


class World:
    def __init__(self, server: Server, session: aiohttp.ClientSession, context: ssl.SSLContext) -> None:
        self.server, self.session, self.context = server, session, context
        self.headers = {"Authorization": "Bearer admin-token"}

    async def running(self, name: str) -> None:
        pod = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        url = self.server.url + PODS
        async with self.session.post(url, json=pod, headers=self.headers, ssl=self.context) as answer:
            assert answer.status == 201, await answer.text()
        query = {"watch": "1", "fieldSelector": f"metadata.name={name}"}
        async with self.session.get(url, params=query, headers=self.headers, ssl=self.context) as answer:
            async for line in answer.content:
                if json.loads(line)["object"].get("status", {}).get("phase") == "Running":
                    return
        raise AssertionError("the watch ended")

    def exec(
        self, name: str, *command: str, protocols: tuple[str, ...] = (V5,), **options: str
    ) -> aiohttp.client._WSRequestContextManager:
        query = [*options.items(), *(("command", word) for word in command)]
        url = f"{self.server.url}{PODS}/{name}/exec"
        return self.session.ws_connect(url, params=query, protocols=protocols, headers=self.headers, ssl=self.context)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with started(tmp_path, "--simulate-nodes=1", "--simulate-nodes-exec") as found:
        yield found


@asynccontextmanager
async def started(folder: Path, *flags: str) -> AsyncIterator[World]:
    (folder / "tokens.csv").write_text('admin-token,admin,u-admin,"system:masters"\n')
    common = ("--secure-port=0", "--storage=memory", f"--data-dir={folder}", f"--token-auth-file={folder}/tokens.csv")
    server = Server(parse([*common, *flags]).options)
    await server.start()
    try:
        assert server.pki is not None
        async with aiohttp.ClientSession() as session:
            yield World(server, session, ssl.create_default_context(cafile=str(server.pki.ca_certificate)))
    finally:
        await server.stop()


async def channels(socket: aiohttp.ClientWebSocketResponse) -> dict[int, bytes]:
    """All that came on each channel until the end."""
    found: dict[int, bytes] = {}
    async for message in socket:
        assert message.type is aiohttp.WSMsgType.BINARY
        found[message.data[0]] = found.get(message.data[0], b"") + message.data[1:]
    return found


async def test_what_a_command_writes_and_how_it_ends(world: World) -> None:
    await world.running("a")
    async with world.exec("a", "sh", "-c", "echo out; echo err >&2; exit 3", protocols=(V4, V5)) as socket:
        assert socket.protocol == V5
        found = await channels(socket)
    assert (found[1], found[2]) == (b"out\n", b"err\n")
    status = json.loads(found[3])
    assert (status["reason"], status["details"]["causes"][0]["message"]) == ("NonZeroExitCode", "3")


async def test_input_ends_where_the_client_closes_its_channel(world: World) -> None:
    await world.running("a")
    async with world.exec("a", "cat", stdin="true", stderr="false") as socket:
        await socket.send_bytes(b"\x00some ")
        await socket.send_bytes(b"\x00text")
        await socket.send_bytes(b"\xff\x00")
        found = await channels(socket)
    assert (found[1], json.loads(found[3])["status"]) == (b"some text", "Success")


async def test_a_terminal_has_the_clients_size(world: World) -> None:
    await world.running("a")
    script = "read word; stty size; test -t 1 && echo $word"
    async with world.exec("a", "sh", "-c", script, stdin="true", tty="true", stderr="false") as socket:
        await socket.send_bytes(b'\x04{"Width": 81, "Height": 25}')
        await socket.send_bytes(b"\x00hello\n")
        found = await channels(socket)
    assert found[1].splitlines() == [b"hello", b"25 81", b"hello"]  # the first is the echo
    assert json.loads(found[3])["status"] == "Success"


async def test_a_log_is_attached_to(world: World) -> None:
    await world.running("a")
    url = f"{world.server.url}{PODS}/a/attach"
    attached = world.session.ws_connect(url, protocols=(V5,), headers=world.headers, ssl=world.context)
    async with attached as socket:
        assert await socket.receive_bytes() == b"\x01"
        async with world.exec("a", "echo", "hello") as other:
            await channels(other)
        assert await socket.receive_bytes() == b"\x01hello\n"
        async with world.session.delete(f"{world.server.url}{PODS}/a", headers=world.headers, ssl=world.context):
            pass
        assert json.loads((await channels(socket))[3])["status"] == "Success"


async def test_a_page_of_another_place_opens_no_websocket(world: World) -> None:
    await world.running("a")
    world.headers["Origin"] = world.server.url
    async with world.exec("a", "echo", "x") as socket:
        assert (await channels(socket))[1] == b"x\n"
    for origin in ("https://elsewhere.example", "null", "http://["):
        world.headers["Origin"] = origin
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await world.exec("a", "id")
        assert refused.value.status == 403


@pytest.mark.parametrize("tty", ["false", "true"])
async def test_words_that_cannot_be_are_told(world: World, tty: str) -> None:
    await world.running("a")
    async with world.exec("a", "echo", "a\0b", tty=tty) as socket:
        assert "null byte" in json.loads((await channels(socket))[3])["message"]
    async with world.exec("a", "--help", tty=tty) as socket:
        assert json.loads((await channels(socket))[3])["reason"] == "NonZeroExitCode"


async def test_odd_messages_harm_nobody(world: World) -> None:
    """CVE-2020-27813 and its kind."""
    await world.running("a")
    async with world.exec("a", "cat", stdin="true") as socket:
        for odd in (b"", b"\x09x", b"\x04{", b'\x04{"Width": -1, "Height": "x"}', b"\xff\x07", b"\xff", b"\x01x"):
            await socket.send_bytes(odd)
        await socket.send_str("\x00text")
        await socket.send_bytes(b"\xff\x00")
        assert (await channels(socket))[1] == b"text"


async def test_a_command_ends_when_its_client_goes(world: World, tmp_path: Path) -> None:
    await world.running("a")
    os.mkfifo(tmp_path / "alive")
    script = f"exec 3>{tmp_path}/alive; echo ready; sleep 1000 & wait"
    reading = asyncio.create_task(asyncio.to_thread((tmp_path / "alive").read_bytes))
    async with world.exec("a", "sh", "-c", script) as socket:
        while (await socket.receive_bytes())[1:] != b"ready\n":
            pass
    # the pipe's other end is closed when neither the shell nor its child is left
    assert await asyncio.wait_for(reading, 20) == b""


async def test_commands_end_with_the_server(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "alive")
    async with started(tmp_path, "--simulate-nodes=1", "--simulate-nodes-exec") as world:
        await world.running("a")
        reading = asyncio.create_task(asyncio.to_thread((tmp_path / "alive").read_bytes))
        socket = await world.exec("a", "sh", "-c", f"exec 3>{tmp_path}/alive; echo ready; sleep 1000 & wait")
        while (await socket.receive_bytes())[1:] != b"ready\n":
            pass
    assert await asyncio.wait_for(reading, 20) == b""


@pytest.mark.parametrize(
    ("pod", "protocols", "code"),
    [("a", ("channel.k8s.io",), 400), ("a", (), 400), ("none", (V5,), 404), ("a?container=x", (V5,), 400)],
)
async def test_what_cannot_be_is_refused_before_the_websocket(
    world: World, pod: str, protocols: tuple[str, ...], code: int
) -> None:
    await world.running("a")
    name, _, query = pod.partition("?")
    options = dict([query.split("=")]) if query else {}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await world.exec(name, "id", protocols=protocols, **options)
    assert refused.value.status == code


async def test_as_many_commands_as_there_may_be(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubegate.server.simulated._MOST_SESSIONS", 1)
    await world.running("a")
    async with world.exec("a", "cat", stdin="true") as socket:
        await socket.receive_bytes()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await world.exec("a", "id")
        assert refused.value.status == 429
        await socket.send_bytes(b"\xff\x00")
        await channels(socket)
    async with world.exec("a", "echo", "again") as socket:
        assert (await channels(socket))[1] == b"again\n"


async def test_commands_are_audited(tmp_path: Path) -> None:
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    flags = (f"--audit-policy-file={tmp_path}/policy.json", f"--audit-log-path={tmp_path}/audit.log")
    async with started(tmp_path, "--simulate-nodes=1", "--simulate-nodes-exec", *flags) as world:
        await world.running("a")
        async with world.exec("a", "echo", "x") as socket:
            await channels(socket)
    events = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    found = [one for one in events if one["objectRef"].get("subresource") == "exec" and "responseStatus" in one]
    stages = [(one["stage"], one["user"]["username"], one["responseStatus"]["code"]) for one in found]
    assert stages == [("ResponseStarted", "admin", 101), ("ResponseComplete", "admin", 101)]
    assert "command=echo&command=x" in found[0]["requestURI"]


@pytest.mark.parametrize("flags", [("--simulate-nodes-exec",), ("--simulate-nodes=-1",), ("--simulate-nodes=1001",)])
async def test_flags_that_make_no_sense_are_refused(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--simulate-nodes"):
        async with started(tmp_path, *flags):
            pass


async def test_controllers_run_where_nodes_cannot_be_simulated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pods").write_text("no folder")
    async with started(tmp_path, "--simulate-nodes=1") as world:
        url = f"{world.server.url}/api/v1/namespaces/default/serviceaccounts"
        query = {"watch": "1", "resourceVersion": "0"}
        async with world.session.get(url, params=query, headers=world.headers, ssl=world.context) as answer:
            assert json.loads(await answer.content.readline())["object"]["metadata"]["name"] == "default"
    assert "no node is simulated" in caplog.text
