"""What one does with a store as a whole: check, compact, back up, restore, migrate, encrypt again.

A store is named `sqlite:PATH` (or a PATH, or a data directory) or `etcd:URL,URL`. `progress` is called with what is
done and what there is in all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from kubegate.storage import KeyValue, Store
from kubegate.storage.build import FILE, StorageOptions, open_store
from kubegate.storage.logfile import LogFile, sync

Progress = Callable[[int, int], None]

PREFIX = "/registry/"
EVENTS = "/registry/events/"

PAGE = 500
AT_ONCE = 64
"""Keys read at once, and writes that wait together."""

BUMP = 1_000_000
"""How far revisions jump where a backup takes the place of a store: beyond all that clients have seen of that."""


class Damaged(Exception):
    """A store is not whole. `faults` are sentences."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults[:3]))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found: keys that exist, changes in the log (etcd does not tell: 0), bytes, the revision."""

    keys: int
    changes: int
    size: int
    revision: int


def parse(name: str, options: StorageOptions | None = None) -> StorageOptions:
    """The options for the store called `name`; TLS files, prefix and encryption are those of `options`.

    Raises ValueError for a name that is none.
    """
    options = replace(options or StorageOptions(), storage="", etcd_servers=(), compaction_interval=0)
    kind, colon, rest = name.partition(":")
    if kind == "etcd" and colon:
        if not rest:
            raise ValueError("etcd:URL needs the URL of a member, as in etcd:http://127.0.0.1:2379")
        return replace(options, etcd_servers=tuple(rest.split(",")))
    path = Path(rest if kind == "sqlite" and colon else name)
    if path.is_dir():
        path /= FILE
    return replace(options, storage=f"sqlite:{path}")


def file_of(options: StorageOptions) -> Path | None:
    """The SQLite file of a store; None for etcd."""
    return None if options.etcd_servers else Path(options.storage.partition(":")[2])


async def check(options: StorageOptions, progress: Progress | None = None) -> Checked:
    """Look at everything in the store, running or not. Raises Damaged, ValueError, StoreUnavailable."""
    path = file_of(options)
    if path is not None and not options.encryption_provider_config:
        return await asyncio.to_thread(_check_file, path, progress)
    async with _reading(options) as store:
        revision = await store.revision()
        count = size = 0
        async for item, total in _all(store, revision):
            count += 1
            size += len(item.value)
            if progress:
                progress(count, total)
    return Checked(count, 0, size, revision)


async def compact(options: StorageOptions, progress: Progress | None = None) -> tuple[int, int]:
    """Forget all history and give its space back, also beside the process that uses the store.

    Returns the size in bytes before and after (etcd, whose members are defragmented one by one, tells none: 0).
    """
    path = file_of(options)
    if path is not None:
        return await asyncio.to_thread(_compact_file, path, progress)
    async with _opened(options) as store:
        await store.compact(await store.revision())
    return 0, 0


async def backup(options: StorageOptions, target: Path, progress: Progress | None = None) -> int:
    """Write the store as it is now to a new file; returns the number of keys. The store may be in use.

    Values are copied as they are stored: what is encrypted stays so. Raises FileExistsError.
    """
    path = file_of(options)
    if path is not None:
        return await asyncio.to_thread(_backup_file, path, target, progress)
    if await asyncio.to_thread(target.exists):
        raise FileExistsError(str(target))
    return await migrate(replace(options, encryption_provider_config=""), parse(f"sqlite:{target}"), progress=progress)


async def restore(
    source: Path, options: StorageOptions, *, force: bool = False, bump: int = BUMP, progress: Progress | None = None
) -> int:
    """Put a backup in the place of a store; returns the number of keys.

    The backup is checked first. A file that is there is replaced only by `force` and while nobody uses it; into etcd
    goes only what finds the prefix empty. Revisions go on `bump` after the backup's, so that whoever knows newer ones
    of the lost store lists again. Raises Damaged, FileExistsError, ValueError, StoreUnavailable.
    """
    await asyncio.to_thread(_check_file, source, None)
    path = file_of(options)
    if path is not None:
        return await asyncio.to_thread(_restore_file, source, path, force, bump, progress)
    plain = replace(options, encryption_provider_config="")
    return await migrate(parse(f"sqlite:{source}"), plain, progress=progress)


async def migrate(
    source: StorageOptions, target: StorageOptions, *, event_ttl: int = 3600, progress: Progress | None = None
) -> int:
    """Copy all keys, as they are at one moment, into an empty store, and compare; returns their number.

    The source may be in use, but what is written to it afterwards is not copied. In a file revisions go on from the
    source's; etcd counts for itself, so that clients must list again. Events live for `event_ttl` seconds from now.
    Raises ValueError where the target is not empty.
    """
    async with _reading(source) as store:
        revision = await store.revision()
        path = file_of(target)
        if path is not None:
            await asyncio.to_thread(_begin_file, path, revision)
        async with _opened(target) as copy:
            if (await copy.range(PREFIX, limit=1)).items:
                raise ValueError("the target is not empty")
            count = await _copy(store, copy, revision, event_ttl, progress)
            await _compare(store, revision, copy)
    return count


async def encrypt(options: StorageOptions, progress: Progress | None = None) -> tuple[int, int]:
    """Write again what is not sealed with the first provider for it; returns how many were, and the keys in all."""
    if not options.encryption_provider_config:
        raise ValueError("--encryption-provider-config is needed: it says with what to encrypt")
    from kubegate.storage.encryption import EncryptedStore

    async with _opened(options) as store:
        assert isinstance(store, EncryptedStore)
        count = written = 0
        total = len((await store.range(PREFIX, limit=1)).items) + (await store.range(PREFIX, limit=1)).remaining
        async for _, changed in store.reseal(PREFIX):
            count += 1
            written += changed
            if progress:
                progress(count, total)
    return written, count


@asynccontextmanager
async def _opened(options: StorageOptions) -> AsyncIterator[Store]:
    store = open_store(options)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _reading(options: StorageOptions) -> AsyncIterator[Store]:
    """The store to read from, also while another process has its file: then a copy of the file of this moment."""
    path = file_of(options)
    if path is None:
        async with _opened(options) as store:
            yield store
        return
    import tempfile

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".reading-") as folder:
        copy = Path(folder) / FILE
        await asyncio.to_thread(_backup_file, path, copy, None)
        async with _opened(replace(options, storage=f"sqlite:{copy}")) as store:
            yield store


async def _all(store: Store, revision: int) -> AsyncIterator[tuple[KeyValue, int]]:
    """Every key at a revision, in order, with the number of all."""
    after, done = "", 0
    while True:
        page = await store.range(PREFIX, after=after, limit=PAGE, revision=revision)
        total = done + len(page.items) + page.remaining
        for item in page.items:
            yield item, total
        done += len(page.items)
        if not page.remaining:
            return
        after = page.items[-1].key


async def _copy(source: Store, target: Store, revision: int, event_ttl: int, progress: Progress | None) -> int:
    waiting: list[KeyValue] = []
    done = 0

    async def write() -> None:
        async with asyncio.TaskGroup() as group:
            for item in waiting:
                ttl = event_ttl if item.key.startswith(EVENTS) else 0
                group.create_task(target.put(item.key, item.value, 0, ttl=ttl))
        waiting.clear()

    async for item, total in _all(source, revision):
        waiting.append(item)
        done += 1
        if len(waiting) == AT_ONCE:
            await write()
        if progress:
            progress(done, total)
    await write()
    return done


async def _compare(source: Store, revision: int, target: Store) -> None:
    """Raises Damaged where the copy is not the same."""
    copies = _all(target, await target.revision())
    async for item, _ in _all(source, revision):
        copy = await anext(copies, None)
        if copy is None or (copy[0].key, copy[0].value) != (item.key, item.value):
            raise Damaged([f"the copy differs at {item.key}"])
    if await anext(copies, None) is not None:
        raise Damaged(["the copy has keys that the source has not: somebody else writes to it"])


def _check_file(path: Path, progress: Progress | None) -> Checked:
    file = LogFile(path)
    file.open()
    try:
        faults = list(file.check(progress))
        if faults:
            raise Damaged(faults)
        keys, changes, size = file.counts()
        return Checked(keys, changes, size, file.state()[0])
    finally:
        file.close()


def _compact_file(path: Path, progress: Progress | None) -> tuple[int, int]:
    file = LogFile(path)
    file.open(write=True, alone=False)
    try:
        _, _, before = file.counts()
        revision, _ = file.state()
        file.compact(revision)
        while file.sweep():
            if progress:
                progress(*file.swept())
        file.vacuum()
        return before, file.counts()[2]
    finally:
        file.close()


def _backup_file(path: Path, target: Path, progress: Progress | None) -> int:
    file = LogFile(path)
    file.open()
    try:
        file.backup(target, progress)
    except BaseException as error:
        if not isinstance(error, FileExistsError):
            target.unlink(missing_ok=True)
        raise
    finally:
        file.close()
    copy = LogFile(target)
    copy.open()
    try:
        return copy.counts()[0]
    finally:
        copy.close()


def _restore_file(source: Path, path: Path, force: bool, bump: int, progress: Progress | None) -> int:
    if path.exists() and not force:
        raise FileExistsError(str(path))
    held = LogFile(path)
    held.lock()
    try:
        made = path.with_name(path.name + ".restoring")
        made.unlink(missing_ok=True)
        keys = _backup_file(source, made, progress)
        file = LogFile(made)
        file.open(write=True)
        try:
            file.begin_at(file.state()[0] + bump)
        finally:
            file.close()
        for side in ("-wal", "-shm"):
            path.with_name(path.name + side).unlink(missing_ok=True)
        made.rename(path)
        made.with_name(made.name + ".lock").unlink(missing_ok=True)
        sync(path.parent)
        return keys
    finally:
        held.close()


def _begin_file(path: Path, revision: int) -> None:
    file = LogFile(path)
    file.open(write=True)
    try:
        if file.counts()[0]:
            raise ValueError("the target is not empty")
        file.begin_at(max(revision, file.state()[0]))
    finally:
        file.close()
