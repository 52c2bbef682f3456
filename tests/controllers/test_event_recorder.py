"""What is written of events that come again, that are alike, and that are too many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_world import NAMESPACE, ControllersWorld, controllers_world

from kubegate.controllers.events import Recorder

Object = dict[str, Any]


class Events:
    def __init__(self, world: ControllersWorld) -> None:
        self.world = world
        self.recorder = Recorder(world.client, "tester", world.clock)

    async def say(self, message: str, about: str = "a", reason: str = "Said") -> None:
        obj = {"metadata": {"name": about, "namespace": NAMESPACE, "uid": f"uid-{about}"}}
        await self.recorder.normal("v1", "ConfigMap", obj, reason, message)

    def found(self) -> list[tuple[str, int]]:
        events = sorted(self.world.registry.reader.list("events"), key=lambda one: str(one["metadata"]["name"]))
        return [(event["message"], event["count"]) for event in events]


@pytest.fixture
async def events() -> AsyncIterator[Events]:
    async with controllers_world() as world:
        yield Events(world)


async def test_an_event_that_comes_again_is_counted(events: Events) -> None:
    for _ in range(3):
        await events.say("hello")
        events.world.clock.time += 10
    assert events.found() == [("hello", 3)]
    (event,) = events.world.registry.reader.list("events")
    assert (event["firstTimestamp"], event["lastTimestamp"]) == ("2027-01-15T08:00:00Z", "2027-01-15T08:00:20Z")


async def test_an_event_that_was_deleted_is_made_anew_with_its_count(events: Events) -> None:
    await events.say("hello")
    (event,) = events.world.registry.reader.list("events")
    await events.world.client.delete("events", NAMESPACE, event["metadata"]["name"])
    await events.say("hello")
    assert events.found() == [("hello", 2)]


async def test_from_the_tenth_on_events_that_are_alike_are_combined(events: Events) -> None:
    for number in range(1, 13):
        await events.say(f"made {number}")
    await events.say("made otherwise", reason="Other")
    assert events.found() == [
        *((f"made {number}", 1) for number in range(1, 10)),
        ("(combined from similar events): made 12", 3),
        ("made otherwise", 1),
    ]


async def test_what_is_alike_ten_minutes_later_is_not_combined(events: Events) -> None:
    for number in range(9):
        await events.say(f"made {number}")
    events.world.clock.time += 601
    await events.say("made later")
    assert events.found()[-1] == ("made later", 1)


async def test_about_one_object_there_are_25_events_and_one_more_every_five_minutes(events: Events) -> None:
    for _ in range(30):
        await events.say("again")
    assert events.found() == [("again", 25)]
    await events.say("of another", about="b")
    events.world.clock.time += 300
    await events.say("again")
    assert events.found() == [("again", 31), ("of another", 1)]
