"""Who follows a resource: what they are told, and that none of them can spoil it for the others."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from rbac_world import ADMIN, World, context, world

from kubegate.api import Object
from kubegate.storage import ObjectEvent

Told = list[tuple[ObjectEvent, str, bool]]


def listener(told: Told) -> Any:
    def on_event(event: ObjectEvent, obj: Any, previous: Any) -> None:
        told.append((event, obj["data"]["n"] if "data" in obj else "", previous is not None))

    return on_event


def config_map(n: str) -> Object:
    return {"metadata": {"name": "a", "namespace": "default"}, "data": {"n": n}}


async def create(world: World, n: str) -> None:
    await world.registry.create(world.resource("configmaps"), "default", config_map(n), context(ADMIN))


async def update(world: World, n: str) -> None:
    await world.registry.update(world.resource("configmaps"), "default", "a", config_map(n), context(ADMIN))


async def test_each_is_told_what_is_there_and_then_each_change() -> None:
    async with world() as there:
        first: Told = []
        end_first = there.registry.reader.subscribe("configmaps", listener(first))
        await create(there, "1")
        second: Told = []
        end_second = there.registry.reader.subscribe("configmaps", listener(second))
        await update(there, "2")
        end_first()
        end_first()
        await there.registry.delete(there.resource("configmaps"), "default", "a", {}, context(ADMIN))
        end_second()
        await create(there, "3")
    assert first == [(ObjectEvent.ADDED, "1", False), (ObjectEvent.MODIFIED, "2", True)]
    assert second == [
        (ObjectEvent.ADDED, "1", False), (ObjectEvent.MODIFIED, "2", True), (ObjectEvent.DELETED, "2", True),
    ]  # fmt: skip


async def test_one_that_fails_does_not_keep_it_from_others(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as there:

        def fail(*_: object) -> None:
            raise RuntimeError("broken")

        told: Told = []
        there.registry.reader.subscribe("configmaps", fail)
        there.registry.reader.subscribe("configmaps", listener(told))
        with caplog.at_level(logging.ERROR):
            await create(there, "1")
    assert told == [(ObjectEvent.ADDED, "1", False)]
    assert "a subscriber of configmaps failed at /registry/configmaps/default/a" in caplog.text
