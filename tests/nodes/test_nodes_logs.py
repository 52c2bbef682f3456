"""Logs of containers: files that several processes write and read, of which the latest part is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubegate.nodes.folders import UnsafePath
from kubegate.nodes.logs import Line, Logs


class SteppingClock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        self.time += 1
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    found = Logs(tmp_path, SteppingClock())
    found.begin("u", "c", "begun")
    return found


def texts(logs: Logs) -> list[bytes]:
    return [line.text for line in logs.read("u", "c")[0]]


def test_lines_are_put_together(logs: Logs) -> None:
    logs.append("u", "c", "stdout", b"one\ntw")
    logs.append("u", "c", "stdout", b"o\r\n")
    logs.append("u", "c", "stderr", b"wrong\n")
    logs.append("u", "c", "stdout", b"no end")
    found, _ = logs.read("u", "c")
    assert [(line.stream, line.text) for line in found] == [
        ("stdout", b"begun\n"),
        ("stdout", b"one\n"),
        ("stdout", b"two\n"),
        ("stderr", b"wrong\n"),
        ("stdout", b"no end"),
    ]
    assert found[0].at < found[1].at


def test_a_long_line_stays_whole_and_a_log_begins_once(logs: Logs) -> None:
    logs.begin("u", "c", "again")
    logs.append("u", "c", "stdout", b"x" * 100_000 + b"\n")
    assert texts(logs) == [b"begun\n", b"x" * 100_000 + b"\n"]


def test_the_latest_part_is_kept(logs: Logs, tmp_path: Path) -> None:
    for number in range(3000):
        logs.append("u", "c", "stdout", f"{number} {'x' * 500}\n".encode())
    found = texts(logs)
    assert found[-1].startswith(b"2999 ")
    assert len(found) < 3000
    assert (tmp_path / "u/logs/c").stat().st_size <= 512 * 1024
    assert (tmp_path / "u/logs/c").stat().st_mode & 0o777 == 0o600


def test_a_log_that_is_not_there_takes_nothing(logs: Logs) -> None:
    logs.append("u", "other", "stdout", b"text")
    assert logs.read("u", "other") == ([], 0)
    with pytest.raises(UnsafePath):
        logs.append("u", "../../x", "stdout", b"text")


async def test_who_follows_hears_of_what_another_process_writes(logs: Logs, tmp_path: Path) -> None:
    other, runs = Logs(tmp_path, SteppingClock()), True
    _, position = logs.read("u", "c")
    found: list[Line] = []

    async def follow() -> None:
        async for line in logs.follow("u", "c", position, lambda: runs):
            found.append(line)

    following = asyncio.create_task(follow())
    for number in range(5):
        other.append("u", "c", "stdout", f"{number}\n".encode())
        await asyncio.sleep(0)
    other.append("u", "c", "stdout", b"last\n")
    runs = False
    await following
    assert [line.text for line in found] == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n", b"last\n"]
