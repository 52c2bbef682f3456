from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from storage_clock import FakeClock

from kubegate.storage import Store
from kubegate.storage.memory import MemoryStore
from kubegate.storage.sqlite import SqliteStore


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash-rounds", type=int, default=5, help="how often the crash tests kill what they test")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "crash: kills processes at random moments (make test-crash runs it for long)")


@pytest.fixture
def crash_rounds(request: pytest.FixtureRequest) -> int:
    rounds: int = request.config.getoption("--crash-rounds", 5)
    return rounds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Store]:
    """A started, empty store, of each engine in turn."""
    made: Store
    match request.param:
        case "memory":
            made = MemoryStore(clock)
        case _:
            made = SqliteStore(tmp_path / "kubegate.db", clock)
    await made.start()
    yield made
    await made.close()
