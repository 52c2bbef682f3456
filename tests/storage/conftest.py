from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from storage_clock import FakeClock
from storage_etcd import Cluster, program
from storage_keeper import keeping

from kubegate.storage import Store
from kubegate.storage.etcd import EtcdStore
from kubegate.storage.etcd_client import Endpoints
from kubegate.storage.kept import KeptStore
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


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One member, for all tests that leave it as they found it."""
    if program() is None:
        pytest.skip("no etcd here: `python scripts/tools.py etcd` brings it")
    cluster = Cluster(tmp_path_factory.mktemp("etcd"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(params=["memory", "sqlite", "etcd", "kept"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Store]:
    """A started, empty store, of each engine in turn, and of one that is reached through its keeper."""
    made: Store
    if request.param == "kept":
        async with keeping(tmp_path / "keeper", SqliteStore(tmp_path / "kubegate.db", clock), clock) as place:
            made = KeptStore(place, clock)
            await made.start()
            yield made
            await made.close()
        return
    match request.param:
        case "memory":
            made = MemoryStore(clock)
        case "sqlite":
            made = SqliteStore(tmp_path / "kubegate.db", clock)
        case _:
            urls = request.getfixturevalue("etcd").urls
            made = EtcdStore(Endpoints(urls), clock, prefix=f"/{uuid4().hex}")
    await made.start()
    yield made
    await made.close()
