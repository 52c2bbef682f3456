"""The SQLite engine: its file, and what happens when the disk does not do as it should."""
# ruff: noqa: ASYNC221, ASYNC240 (these tests prepare files; nothing else runs on their loop meanwhile)

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from storage_clock import FakeClock

from kubegate.storage import Compacted, RevisionConflict, StoreUnavailable
from kubegate.storage.logfile import checksum
from kubegate.storage.sqlite import SqliteStore

KEY = "/registry/pods/ns/a"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "kubegate.db"


@pytest.fixture
async def store(path: Path, clock: FakeClock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, clock)
    await store.start()
    yield store
    await store.close()


async def fill(path: Path, objects: int) -> int:
    """A closed store with objects in it; its revision."""
    store = SqliteStore(path)
    await store.start()
    await asyncio.gather(*(store.put(f"/registry/pods/ns/{n:04}", b"%d" % n * 300, 0) for n in range(objects)))
    revision = await store.revision()
    await store.close()
    return revision


async def until(clock: FakeClock, store: SqliteStore, healthy: bool) -> None:
    """Let time pass until the store is well, or is not."""
    for _ in range(1000):
        if (store.health() is None) == healthy:
            return
        clock.advance(1)
        await asyncio.sleep(0.002)
    raise AssertionError(store.health())


async def test_a_restart_finds_all_that_was_written_and_goes_on_with_the_next_revision(path: Path) -> None:
    revision = await fill(path, 50)
    store = SqliteStore(path)
    await store.start()
    assert await store.revision() == revision
    page = await store.range("/registry/")
    assert [item.key for item in page.items] == [f"/registry/pods/ns/{n:04}" for n in range(50)]
    assert await store.put(KEY, b"1", 0) == revision + 1
    await store.close()


async def test_revisions_do_not_go_back_when_the_last_of_them_is_compacted_away(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    await store.put(KEY, b"1", 0)
    last = await store.delete(KEY, None)
    await store.compact(last)
    await store.close()
    store = SqliteStore(path)
    await store.start()
    assert await store.revision() == last
    with pytest.raises(Compacted):
        await store.get(KEY, last - 1)
    await store.close()


async def test_times_to_live_outlast_a_restart(path: Path, clock: FakeClock) -> None:
    store = SqliteStore(path, clock)
    await store.start()
    await store.put(KEY, b"1", 0, ttl=10)
    await store.close()
    clock.advance(60)
    store = SqliteStore(path, clock)
    await store.start()
    watch = store.watch("/registry/", await store.revision())
    assert [event.key for event in await asyncio.wait_for(anext(watch), 10)] == [KEY]
    assert await store.get(KEY) is None
    await watch.aclose()
    await store.close()


async def test_compaction_gives_space_back(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    revision = 0
    for _ in range(20):
        revision = await store.put(KEY, os.urandom(100_000), None)
    await store.compact(revision)
    for _ in range(20):
        await store.put(KEY, os.urandom(100_000), None)
    await store.compact(await store.revision())
    await store.close()
    assert path.stat().st_size < 3_000_000


async def test_writes_that_wait_together_are_one_transaction(store: SqliteStore, path: Path) -> None:
    reader = sqlite3.connect(path)
    before = reader.execute("PRAGMA data_version").fetchone()
    await asyncio.gather(*(store.put(f"{KEY}{n}", b"1", 0) for n in range(100)))
    seen = {reader.execute("PRAGMA data_version").fetchone(), before}
    assert reader.execute("SELECT count(*) FROM log").fetchone() == (100,)
    assert len(seen) == 2
    reader.close()


async def test_a_key_that_cannot_be_does_not_spoil_the_writes_beside_it(store: SqliteStore) -> None:
    outcomes = await asyncio.gather(
        store.put(KEY, b"1", 0), store.put("/registry/\ud800", b"1", 0), store.put(f"{KEY}b", b"1", 0),
        return_exceptions=True,
    )  # fmt: skip
    assert [type(outcome) for outcome in outcomes] == [int, UnicodeEncodeError, int]
    assert store.health() is None


async def test_a_busy_loop_of_writers_does_not_stop_the_event_loop(store: SqliteStore) -> None:
    longest = 0.0
    loop = asyncio.get_running_loop()

    async def tick() -> None:
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0)
            longest = max(longest, loop.time() - before)

    ticking = asyncio.create_task(tick())
    value = b"x" * 100_000
    await asyncio.gather(*(store.put(f"{KEY}{n}", value, 0) for n in range(300)))
    ticking.cancel()
    assert longest < 0.5


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    asyncio.run(fill(path, 1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_file_belongs_to_one_process_at_a_time(store: SqliteStore, path: Path) -> None:
    second = SqliteStore(path)
    with pytest.raises(StoreUnavailable, match="in use by another process"):
        await second.start()
    await store.put(KEY, b"1", 0)
    await store.close()
    await second.start()
    assert await second.get(KEY) is not None
    await second.close()


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("apiVersion: v1\nkind: List\n" * 100)
    with pytest.raises(ValueError, match="not a kubegate store: it is not an SQLite database"):
        await SqliteStore(path).start()
    assert path.read_text().startswith("apiVersion")


async def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE kine (id INTEGER)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="belongs to another program"):
        await SqliteStore(path).start()
    assert path.read_bytes() == before


async def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    await fill(path, 1)
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    with pytest.raises(ValueError, match="another version of kubegate: its schema is 99"):
        await SqliteStore(path).start()


async def test_damaged_pages_are_found_at_start(path: Path) -> None:
    await fill(path, 400)
    size = path.stat().st_size
    with path.open("r+b") as file:
        for offset in range(4096 * 3, size, 4096 * 4):
            file.seek(offset)
            file.write(os.urandom(64))
    with pytest.raises(ValueError, match=r"corrupt: .*Restore a backup"):
        await SqliteStore(path).start()


async def test_a_damaged_value_is_not_served(path: Path) -> None:
    await fill(path, 3)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE log SET value = x'3132' WHERE key LIKE '%0001'")
    file.close()
    store = SqliteStore(path)
    await store.start()
    with pytest.raises(StoreUnavailable, match="checksum of /registry/pods/ns/0001"):
        await store.get("/registry/pods/ns/0001")
    assert await store.get("/registry/pods/ns/0002") is not None
    await store.close()


async def test_an_empty_file_left_by_a_crash_at_birth_is_a_new_store(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    store = SqliteStore(path)
    await store.start()
    await store.put(KEY, b"1", 0)
    await store.close()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_when_writing_fails_clients_are_told_reads_go_on_and_it_recovers(
    store: SqliteStore, path: Path, clock: FakeClock
) -> None:
    revision = await store.put(KEY, b"1", 0)
    with file_size_limit(path.with_name(path.name + "-wal").stat().st_size + 1000):
        outcomes = await asyncio.gather(
            *(store.put(f"{KEY}{n}", b"x" * 5000, 0) for n in range(3)), return_exceptions=True
        )
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        assert "kubegate.db" in str(outcomes[0])
        assert store.health() == str(outcomes[0])
        found = await store.get(KEY)
        assert found is not None
        assert [item.key for item in (await store.range("/registry/")).items] == [KEY]
        with pytest.raises(StoreUnavailable):
            await store.put(KEY, b"x" * 5000, revision)
    await until(clock, store, healthy=True)
    assert await store.put(KEY, b"2", revision) == revision + 1
    with pytest.raises(RevisionConflict):
        await store.put(KEY, b"3", revision)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_is_named_and_space_that_is_made_is_used(small_disk: Path, clock: FakeClock) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 500_000)
    store = SqliteStore(small_disk / "kubegate.db", clock)
    await store.start()
    written = 0
    with pytest.raises(StoreUnavailable, match=r"the disk that holds .* is full"):
        for written in range(1000):
            await store.put(f"{KEY}{written:04}", b"x" * 2000, 0)
    assert "is full" in (store.health() or "")
    ballast.unlink()
    await until(clock, store, healthy=True)
    await store.put(f"{KEY}{written:04}", b"y", 0)
    assert len((await store.range("/registry/")).items) == written + 1
    await store.close()


async def test_a_file_system_that_is_read_only_is_named(small_disk: Path) -> None:
    await fill(small_disk / "kubegate.db", 1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store = SqliteStore(small_disk / "kubegate.db")
    with pytest.raises(StoreUnavailable, match="Read-only file system"):
        await store.start()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    await store.start()
    await store.put(KEY, b"1", 0)
    await store.close()


async def test_a_write_that_reached_the_disk_although_it_failed_becomes_known(path: Path, clock: FakeClock) -> None:
    """As after an fsync that fails once the log is written: the file has what nobody was told of."""
    store = SqliteStore(path, clock)
    await store.start()
    first = await store.put(KEY, b"1", 0)
    with sqlite3.connect(path) as file:
        file.execute(
            "INSERT INTO log SELECT revision + 1, key, revision, created, NULL, ?, x'32' FROM log",
            (checksum(first + 1, KEY.encode(), b"2"),),
        )
    file.close()
    heard: list[int] = []
    store.listen(lambda events: heard.extend(event.revision for event in events))
    with pytest.raises(RevisionConflict):
        await store.put(KEY, b"3", first)
    with pytest.raises(StoreUnavailable):
        await store.put(f"{KEY}b", b"1", 0)
    third = await store.put(f"{KEY}b", b"1", 0)
    assert third == first + 2
    assert heard == [first + 1, first + 2]
    found = await store.get(KEY)
    assert found is not None
    assert found.value == b"2"
    await store.close()
