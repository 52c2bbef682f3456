"""Each request that is audited is told of to its end, however it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from audit_log import events, logged
from server_client import Client, Running, Start

from kubegate.storage import OutcomeUnknown, StoreUnavailable

ALL_STAGES = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"
WITHOUT_STARTED = (
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\n"
    "rules: [{level: Metadata}]\n"
)
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


async def stages(running: Running, folder: Path) -> list[tuple[str, int | None]]:
    """Of all requests, once the server has ended: the stage, and the answer's code."""
    await running.server.stop()
    return [(event["stage"], event.get("responseStatus", {}).get("code")) for event in events(folder / "audit.log")]


async def test_a_request_is_told_of_when_it_comes_and_when_it_is_answered(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path, ALL_STAGES)
    await running.client.ask("GET", CONFIGMAPS)
    assert await stages(running, tmp_path) == [("RequestReceived", None), ("ResponseComplete", 200)]


async def test_who_is_not_known_is_told_of_once(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path, ALL_STAGES)
    await running.client.ask("GET", CONFIGMAPS, token="wrong")
    assert await stages(running, tmp_path) == [("ResponseStarted", 401)]


async def test_a_watch_is_told_of_when_it_begins_and_when_it_ends(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path, ALL_STAGES)
    await running.client.ask("GET", f"{CONFIGMAPS}?watch=1&timeoutSeconds=1")
    assert await stages(running, tmp_path) == [
        ("RequestReceived", None),
        ("ResponseStarted", 200),
        ("ResponseComplete", 200),
    ]


async def test_a_watch_is_told_of_by_a_policy_that_leaves_beginnings_out(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path, WITHOUT_STARTED)
    async with watching(running.client):
        pass
    assert await stages(running, tmp_path) == [("ResponseComplete", 200)]


async def test_a_watch_that_is_refused_has_begun_and_ended(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path, ALL_STAGES)
    await running.client.ask("GET", f"{CONFIGMAPS}?watch=1", token="alice-token")
    assert (await stages(running, tmp_path))[1:] == [("ResponseStarted", 403), ("ResponseComplete", 403)]


async def test_a_watch_over_a_websocket_is_told_of_alike(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path, ALL_STAGES)
    client = running.client
    url = f"{client.url}{CONFIGMAPS}?watch=1"
    async with client.session.ws_connect(url, ssl=client.context, headers={"Authorization": "Bearer admin-token"}):
        pass
    assert (await stages(running, tmp_path))[1:] == [("ResponseStarted", 101), ("ResponseComplete", 101)]


@pytest.mark.parametrize(
    ("error", "stage", "code"),
    [
        (StoreUnavailable("gone"), "ResponseComplete", 503),
        (OutcomeUnknown("late"), "ResponseComplete", 504),
        (ZeroDivisionError("hunter2"), "Panic", 500),
    ],
)
async def test_a_request_that_the_server_fails_is_told_of(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, stage: str, code: int
) -> None:
    running = await logged(start, tmp_path, ALL_STAGES)

    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(running.server.registry.cache, "put", fail)
    answer = await running.client.ask("POST", CONFIGMAPS, {"metadata": {"name": "a"}})
    monkeypatch.undo()
    assert answer.status == code
    assert (await stages(running, tmp_path))[1:] == [(stage, code)]
    assert "hunter2" not in (tmp_path / "audit.log").read_text()


async def test_a_watch_that_the_server_fails_is_cut_off_and_told_of(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = await logged(start, tmp_path, ALL_STAGES)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("hunter2")

    monkeypatch.setattr(running.server.registry.cache, "watch", fail)
    with pytest.raises(aiohttp.ClientError):
        await running.client.ask("GET", f"{CONFIGMAPS}?watch=1&resourceVersion=1")
    monkeypatch.undo()
    assert (await stages(running, tmp_path))[1:] == [("ResponseStarted", 200), ("Panic", 500)]
    assert "ZeroDivisionError" in caplog.text


async def test_a_request_that_is_broken_off_is_told_of(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await logged(start, tmp_path, ALL_STAGES)
    asked = asyncio.Event()

    async def wait(*_: object, **__: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(running.server.registry.cache, "put", wait)
    body = b'{"metadata":{"name":"a"}}'
    task = asyncio.create_task(running.server.app(scope("POST"), once({"type": "http.request", "body": body}), nowhere))
    await asked.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    monkeypatch.undo()
    assert task.cancelled()
    assert (await stages(running, tmp_path))[1:] == [("ResponseComplete", 200)]
    assert events(tmp_path / "audit.log")[-1]["responseStatus"]["message"] == "Connection closed early"


async def test_a_watch_whose_task_is_ended_ends_as_cancelled(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path, ALL_STAGES)
    begun = asyncio.Event()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            begun.set()

    task = asyncio.create_task(running.server.app(scope("GET", b"watch=1"), never, send))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert (await stages(running, tmp_path))[1:] == [("ResponseStarted", 200), ("ResponseComplete", 200)]


# ---------------------------------------------------------------------- asking
def watching(client: Client) -> Any:
    url = f"{client.url}{CONFIGMAPS}?watch=1"
    return client.session.get(url, ssl=client.context, headers={"Authorization": "Bearer admin-token"})


def scope(method: str, query: bytes = b"") -> dict[str, Any]:
    """An ASGI request by the administrator."""
    headers = [(b"authorization", b"Bearer admin-token"), (b"content-type", b"application/json")]
    path = {"path": CONFIGMAPS, "raw_path": CONFIGMAPS.encode(), "query_string": query}
    return {"type": "http", "method": method, **path, "headers": headers, "extensions": {}}


def once(message: dict[str, Any]) -> Any:
    async def receive() -> dict[str, Any]:
        return message

    return receive


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def nowhere(_: Any) -> None: ...
