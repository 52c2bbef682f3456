"""Turns: a flood waits behind itself, who is alone never waits, and nobody is forgotten."""

from __future__ import annotations

import asyncio

from kubegate.server.fairness import SHARE, Turns


async def answered(turns: Turns, user: str, order: list[str], now: float = 0.0) -> None:
    turn = turns.take(user, now)
    if turn is not None:
        await turn
    order.append(user)


async def test_a_flood_waits_for_others_and_they_do_not_wait_for_it() -> None:
    turns, order = Turns(), list[str]()
    await answered(turns, "other", order)
    flood = [asyncio.create_task(answered(turns, "flood", order)) for _ in range(5 * SHARE)]
    later = asyncio.create_task(answered(turns, "other", order))
    await asyncio.gather(*flood, later)
    assert order.index("other", 1) == SHARE + 1
    assert order.count("flood") == 5 * SHARE


async def test_what_comes_while_a_flood_waits_is_answered_in_the_next_turn() -> None:
    turns, order = Turns(), list[str]()
    await answered(turns, "other", order)
    flood = [asyncio.create_task(answered(turns, "flood", order)) for _ in range(20 * SHARE)]
    for _ in range(4):
        await asyncio.sleep(0)
    before = len(order)
    assert SHARE < before < 20 * SHARE
    await answered(turns, "other", order)
    assert order[before:] == ["other"]
    await asyncio.gather(*flood)
    assert order.count("flood") == 20 * SHARE


async def test_who_is_alone_never_waits() -> None:
    turns = Turns()
    assert all(turns.take("alone", 0.0) is None for _ in range(100 * SHARE))
    turns.take("other", 1.0)
    turns.take("alone", 2.0)
    assert all(turns.take("alone", 5.0) is None for _ in range(100 * SHARE))


async def test_a_client_that_goes_gives_its_turn_to_the_next() -> None:
    turns, order = Turns(), list[str]()
    await answered(turns, "other", order)
    tasks = [asyncio.create_task(answered(turns, "flood", order)) for _ in range(3 * SHARE)]
    await asyncio.sleep(0)
    for task in tasks[SHARE : 2 * SHARE]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in done].count(True) == SHARE
    assert order.count("flood") == 2 * SHARE
    assert turns.take("alone", 100.0) is None
