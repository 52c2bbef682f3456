"""--request-timeout: a write that takes too long is ended, and nothing else is."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest
from server_client import Running, Start

from kubegate.server.call import Call
from kubegate.server.deadlines import Deadlines
from kubegate.server.responses import Response

PATH = "/api/v1/namespaces/default/configmaps"


class Waiting:
    """Handles requests by waiting for ever."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def handle(self, call: Call) -> Response:
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
async def running(start: Start) -> Running:
    return await start("--controllers=none", "--request-timeout=30s")


async def test_a_write_that_takes_too_long_is_ended(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    app, waiting = running.server.app, Waiting()
    with monkeypatch.context() as patched:
        patched.setattr(app, "_resources", waiting)
        asking = asyncio.ensure_future(running.client.ask("POST", PATH, {"metadata": {"name": "a"}}))
        await waiting.begun.wait()
        app.deadlines.look(perf_counter() + 29)
        app.deadlines.look(perf_counter() + 31)
        answer = await asking
    assert (answer.status, answer.json["reason"], answer.json["code"]) == (504, "Timeout", 504)
    assert "allotted timeout" in answer.json["message"]
    text = (await running.client.ask("GET", "/metrics")).body.decode()
    assert 'apiserver_current_inflight_requests{request_kind="mutating"} 0' in text
    assert (await running.client.ask("POST", PATH, {"metadata": {"name": "a"}})).status == 201


async def test_who_reads_is_not_looked_at(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    app, waiting = running.server.app, Waiting()
    monkeypatch.setattr(app, "_resources", waiting)
    asking = asyncio.ensure_future(running.client.ask("GET", PATH))
    await waiting.begun.wait()
    app.deadlines.look(perf_counter() + 1000)
    await asyncio.sleep(0)
    assert not asking.done()
    asking.cancel()


async def test_a_client_has_no_more_time_than_others(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.server.app.deadlines, "seconds", 0.01)
    monkeypatch.setattr(running.server.app, "_resources", Waiting())
    assert (await running.client.ask("GET", f"{PATH}?timeout=10m")).status == 504


async def test_what_is_cancelled_by_others_is_not_answered() -> None:
    deadlines, waiting = Deadlines(1.0), Waiting()
    work = asyncio.ensure_future(deadlines.within(perf_counter(), waiting.handle(None)))  # type: ignore[arg-type]
    await waiting.begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_it_must_be_some_time(start: Start) -> None:
    with pytest.raises(Exception, match="--request-timeout"):
        await start("--request-timeout=0s")
