"""The SQLite file of a store: an append-only log of revisions. Synchronous; `sqlite` drives it from threads.

A row of `log` is one write. The latest row of a key is its state, a row with `created` 0 a deletion; older rows are
history until compaction. Nothing else in the file is needed to know what is stored.

Every read comes back as one row of concatenated columns, and every batch of writes is one INSERT, because Python's
sqlite3 lets go of the interpreter lock for each row that it steps: a reader of 500 rows beside a busy event loop
waited 500 times for the lock, 545 ms against 14 ms for the one row.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from kubegate.storage import Compacted, EventType, KeyValue, RevisionConflict, StoreEvent, StoreUnavailable

log = logging.getLogger(__name__)

APPLICATION = 0x6B676174
"""SQLite's application_id of a kubegate store: "kgat"."""

SCHEMA = 1
"""user_version: raised with every change of the tables that older versions cannot read."""

FIRST_REVISION = 1
"""An empty store's revision, as etcd has it: the first write makes revision 2."""

CHUNK = 500
"""Rows read at once. A value has at most 1.5 MB and SQLite's longest text 1 GB, so that one row can hold them."""

TABLES = """
CREATE TABLE log (
    revision INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    previous INTEGER NOT NULL,  -- the revision that this one replaces; 0: none
    created INTEGER NOT NULL,   -- create_revision; 0: this is a deletion
    expires REAL,               -- seconds since 1970; NULL: never
    crc INTEGER NOT NULL,       -- crc32 over revision, key and value
    value BLOB NOT NULL
);
CREATE INDEX log_key ON log (key, revision, created);
CREATE INDEX log_expires ON log (expires) WHERE expires IS NOT NULL;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('compacted', 0), ('swept', 0);
"""

_COMPACTED = "(SELECT value FROM meta WHERE name = 'compacted')"

_ROWS = f"""
SELECT {_COMPACTED}, count(*), group_concat(revision), group_concat(previous), group_concat(created), group_concat(crc),
    group_concat(length(CAST(key AS BLOB))), group_concat(key, ''), group_concat(length(value)), group_concat(value, '')
FROM (%s)
"""
"""Rows of `log` as one row; before it, what was compacted up to."""

_LATEST = """
    SELECT key, max(revision) AS revision, created FROM log
    WHERE key %s ? AND key < ? AND revision <= ? GROUP BY key HAVING created > 0
"""
"""The last revision of each key that exists at a revision (`created` is that of the row with the maximum)."""


class Write(Struct, frozen=True):
    """A put, or with `value` None a deletion, under the condition that the key is at `expected` (None: anywhere)."""

    key: str
    value: bytes | None
    expected: int | None
    expires: float | None = None


Outcome = StoreEvent | RevisionConflict


class _Row(NamedTuple):
    """A row of `log` in part; a tuple, because 100,000 are made at a restart."""

    revision: int
    previous: int
    created: int
    key: str
    value: bytes

    def item(self) -> KeyValue:
        return KeyValue(self.key, self.value, self.revision, self.created)


class LogFile:
    """One connection to the file at `path`. For one thread at a time; open one for each thread."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._suspect = False

    def open(self, *, write: bool = False, alone: bool = True, check: bool = False) -> None:
        """Connect. `write`: create the file where it is missing, and keep other writers out of it.

        Not `alone`: change an existing file beside the process that has it (`compact`, `sweep` and `vacuum` may).
        `check` looks through all pages (about 0.1 s for 100,000 objects). Raises ValueError for a file that is corrupt,
        of another program or of a newer kubegate, StoreUnavailable where the file cannot be opened now.
        """
        try:
            if write and alone:
                self.lock()
                _create_private(self.path)
            self._connect(write)
            if check:
                self._check_pages()
        except sqlite3.Error as error:
            self.close()
            raise self._explain(error) from error
        except OSError as error:
            self.close()
            raise StoreUnavailable(f"cannot open {self.path}: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def lock(self) -> None:
        """Keep other writers out for as long as this process lives, or until `close`. Raises StoreUnavailable.

        It is a lock of the kernel on a file beside ours: it is gone after a crash. A lock on ours itself would be
        lost with the first close of another descriptor of it.
        """
        if self._lock is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"cannot open {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise StoreUnavailable(f"{self.path} is in use by another process") from error
        self._lock = lock

    def state(self) -> tuple[int, int]:
        """The latest revision, and what was compacted up to."""
        with self._errors():
            revision, compacted = self._one(f"SELECT max(revision), {_COMPACTED} FROM log")
        return max(revision or 0, compacted, FIRST_REVISION), compacted

    def get(self, key: str, revision: int) -> KeyValue | None:
        """The key as it was at `revision`. Raises Compacted."""
        query = "SELECT * FROM log WHERE key = ? AND revision <= ? ORDER BY revision DESC LIMIT 1"
        found = self._rows(query, (key, revision), revision)
        return found[0].item() if found and found[0].created else None

    def range(
        self, prefix: str, after: str, limit: int, revision: int, following: int | None = None
    ) -> tuple[list[KeyValue], int]:
        """Keys under `prefix` after `after` at `revision`, `limit` at most (0: all); and how many follow them.

        `following` is how many keys there are after `after`, where the caller knows: counting them costs more than
        reading a page.
        """
        end = past(prefix)
        start, comparison = (after, ">") if after >= prefix else (prefix, ">=")
        items: list[KeyValue] = []
        while True:
            wanted = min(limit - len(items), CHUNK) if limit else CHUNK
            heads = f"{_LATEST % comparison} ORDER BY key LIMIT ?"
            rows = self._rows(
                f"SELECT l.* FROM ({heads}) AS h JOIN log AS l ON l.revision = h.revision",
                (start, end, revision, wanted),
                revision,
            )
            rows.sort(key=lambda row: row.key)
            items += [row.item() for row in rows]
            if len(rows) < wanted:
                return items, 0
            start, comparison = rows[-1].key, ">"
            if limit and len(items) >= limit:
                break
        if following is not None:
            return items, following - len(items)
        with self._errors():
            query = f"SELECT count(*), {_COMPACTED} FROM ({_LATEST % comparison})"
            remaining, compacted = self._one(query, (start, end, revision))
        if revision < compacted:
            raise Compacted(compacted)
        return items, remaining

    def events(self, after: int, upto: int, limit: int = CHUNK) -> list[StoreEvent]:
        """The writes with a revision greater than `after`, up to `upto`, in order. Raises Compacted."""
        query = "SELECT * FROM log WHERE revision > ? AND revision <= ? ORDER BY revision LIMIT ?"
        rows = self._rows(query, (after, upto, limit), after)
        if not rows:
            return []
        rows.sort(key=lambda row: row.revision)
        replaced = self._rows(
            "SELECT p.* FROM log AS l JOIN log AS p ON p.revision = l.previous"
            " WHERE l.revision > ? AND l.revision <= ?",
            (after, rows[-1].revision),
            after,
        )
        before = {row.revision: row.item() for row in replaced}
        return [
            StoreEvent(
                EventType.PUT if row.created else EventType.DELETE,
                row.key,
                row.revision,
                row.value,
                before.get(row.previous),
            )
            for row in rows
        ]

    def append(self, after: int, writes: Sequence[Write]) -> tuple[list[StoreEvent], list[Outcome]]:
        """Decide `writes` in order, write those whose condition holds, and return when they are durable.

        `after` is the revision that the caller knows of. Returns writes that it does not know of (an earlier append
        failed after it had reached the disk), and the outcome of each of `writes`; the events in both are in order.
        Raises StoreUnavailable; then what became of `writes` is unknown until a later append tells.
        """
        missed: list[StoreEvent] = []
        with self._errors(suspect=True):
            if self._suspect:
                missed = self._recover(after)
            revision = missed[-1].revision if missed else after
            outcomes, rows = self._decide(revision, writes)
            if rows:
                places = ",".join(["(?,?,?,?,?,?,?)"] * len(rows))
                self._execute(f"INSERT INTO log VALUES {places}", [column for row in rows for column in row])
        return missed, outcomes

    def probe(self) -> None:
        """Write a page that changes nothing. Raises StoreUnavailable while writing fails."""
        with self._errors(suspect=True):
            if self._suspect:
                self._reconnect()
                self._suspect = True  # until an append has looked for writes that it missed
            self._execute("UPDATE meta SET value = value WHERE name = 'swept'")

    def compact(self, revision: int) -> None:
        """Let reads before `revision` fail from now on. The space comes back with `sweep`."""
        with self._errors():
            self._execute("UPDATE meta SET value = ? WHERE name = 'compacted' AND value < ?", (revision, revision))

    def sweep(self, rows: int = 2000) -> bool:
        """Drop history before the compacted revision, for up to `rows` revisions; False when nothing is left to do.

        Each write names the one that it replaces, so the work is that of what changed, not of all that is there.
        """
        with self._errors(), self._transaction():
            swept, compacted = self.swept()
            upto = min(compacted, swept + rows)
            if upto > swept:
                self._execute(
                    "DELETE FROM log WHERE revision IN"
                    " (SELECT previous FROM log WHERE revision > ? AND revision <= ? AND previous > 0)",
                    (swept, upto),
                )
                self._execute("DELETE FROM log WHERE revision > ? AND revision <= ? AND created = 0", (swept, upto))
                self._execute("UPDATE meta SET value = ? WHERE name = 'swept'", (upto,))
        return bool(upto < compacted)

    def swept(self) -> tuple[int, int]:
        """How far `sweep` has come, and how far it has to go."""
        with self._errors():
            swept, compacted = self._one(f"SELECT value, {_COMPACTED} FROM meta WHERE name = 'swept'")
        return swept, compacted

    def begin_at(self, revision: int) -> None:
        """Let the revision go on from `revision`, with no history before it. Raises ValueError where it is later.

        For a file that takes the place of another store: what clients knew of that one is older than all in this.
        """
        latest, _ = self.state()
        if revision < latest:
            raise ValueError(f"{self.path} is at revision {latest} already")
        self.compact(latest)
        while self.sweep():
            pass
        with self._errors():
            self._execute("UPDATE meta SET value = ?", (revision,))

    def expired(self, after: float, upto: float) -> list[tuple[str, int]]:
        """Keys whose time came after `after` and until `upto`, with the revision that it belonged to."""
        with self._errors():
            found = self._one(
                "SELECT group_concat(revision), group_concat(length(CAST(key AS BLOB))), group_concat(key, '')"
                " FROM log WHERE expires > ? AND expires <= ?",
                (after, upto),
            )
        if found[0] is None:
            return []
        keys = (key.decode() for key in _cut(found[2], _integers(found[1])))
        return list(zip(keys, _integers(found[0]), strict=True))

    def next_expiry(self, after: float) -> float | None:
        """When the next key after `after` expires, in seconds since 1970."""
        with self._errors():
            (found,) = self._one("SELECT min(expires) FROM log WHERE expires > ?", (after,))
        return None if found is None else float(found)

    def check(self, progress: Callable[[int, int], None] | None = None) -> Iterator[str]:
        """All that is wrong with the file, in sentences: pages, checksums, the chain of revisions.

        `progress` is called with rows done and rows in all.
        """
        with self._errors():
            for (line,) in self._execute("PRAGMA integrity_check").fetchall():
                if _text(line) != "ok":
                    yield f"pages: {_text(line)}"
            total, last = self._one("SELECT count(*), max(revision) FROM log")
            done, position = 0, 0
            while position < (last or 0):
                rows = self._execute(
                    "SELECT l.revision, l.created, l.crc, l.key, l.value, l.previous, p.key, p.revision FROM log AS l"
                    " LEFT JOIN log AS p ON p.revision = l.previous WHERE l.revision > ? ORDER BY l.revision LIMIT ?",
                    (position, CHUNK),
                ).fetchall()
                if not rows:
                    break
                compacted = self._one(f"SELECT {_COMPACTED}")[0]
                for revision, created, crc, key, value, previous, before, there in rows:
                    name = _text(key)
                    if checksum(revision, key, value) != crc:
                        yield f"revision {revision} of {name}: the checksum is wrong"
                    if there is not None and before != key:
                        yield f"revision {revision} of {name}: it follows revision {previous}, which is of another key"
                    if there is None and previous > compacted:
                        yield f"revision {revision} of {name}: revision {previous}, which it follows, is missing"
                    if not created and not previous:
                        yield f"revision {revision} of {name}: a deletion of nothing"
                position = rows[-1][0]
                done += len(rows)
                if progress:
                    progress(done, total)

    def backup(self, target: Path, progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the file as it is now, beside writers, to `target`, which must not exist; durable on return.

        `progress` is called with pages done and pages in all. Raises FileExistsError, StoreUnavailable.
        """
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with self._errors():
            copy = sqlite3.connect(target, isolation_level=None)
            try:

                def copied(status: int, remaining: int, total: int) -> None:
                    if progress:
                        progress(total - remaining, total)

                self._connected().backup(copy, pages=1000, progress=copied)
                copy.execute("PRAGMA journal_mode = DELETE")
            finally:
                copy.close()
        sync(target)
        sync(target.parent)

    def vacuum(self) -> None:
        """Give back the space of what was compacted: the whole file is written again."""
        with self._errors():
            self._execute("VACUUM")
            self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def counts(self) -> tuple[int, int, int]:
        """Keys that exist, rows in the log, bytes of the file."""
        with self._errors():
            (keys,) = self._one(f"SELECT count(*) FROM ({_LATEST % '>='})", ("", past(""), 1 << 62))
            (rows,) = self._one("SELECT count(*) FROM log")
            (size,) = self._one("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return keys, rows, size

    def _connect(self, write: bool) -> None:
        if not self.path.exists():
            raise StoreUnavailable(f"there is no file {self.path}")
        self._connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={'rw' if write else 'ro'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=10.0,
        )
        self._connection.text_factory = bytes
        self._execute("PRAGMA cache_size = -4096")  # KiB; the kernel caches the file as well
        (application,) = self._one("PRAGMA application_id")
        (schema,) = self._one("PRAGMA user_version")
        if write and not application and not self._one("SELECT count(*) FROM sqlite_master")[0]:
            self._execute("PRAGMA journal_mode = WAL")
            self._connection.executescript(
                f"BEGIN EXCLUSIVE; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA};"
                f"{TABLES} COMMIT;"
            )
        elif application != APPLICATION:
            raise ValueError(f"{self.path} is not a kubegate store: it belongs to another program")
        elif schema != SCHEMA:
            raise ValueError(
                f"{self.path} was written by another version of kubegate: its schema is {schema}, "
                f"this version reads {SCHEMA}"
            )
        if write:
            self._execute("PRAGMA journal_mode = WAL")
            self._execute("PRAGMA synchronous = FULL")
            self._execute("PRAGMA wal_autocheckpoint = 4000")
            self._execute("PRAGMA journal_size_limit = 67108864")

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _reconnect(self) -> None:
        self._disconnect()
        self._connect(write=True)
        self._suspect = False

    def _recover(self, after: int) -> list[StoreEvent]:
        """Start over after an error, and find the writes that were made but never reported."""
        self._reconnect()
        missed: list[StoreEvent] = []
        while found := self.events(missed[-1].revision if missed else after, 1 << 62):
            missed += found
        return missed

    def _check_pages(self) -> None:
        lines = [_text(line) for (line,) in self._execute("PRAGMA quick_check(3)").fetchall()]
        found = [part for line in lines for part in line.splitlines() if not part.startswith("***")]
        if found != ["ok"]:
            raise ValueError(f"{self.path} is corrupt: {'; '.join(found)}. Restore a backup")
        (tables,) = self._one(
            "SELECT count(*) FROM sqlite_master WHERE name IN ('log', 'log_key', 'log_expires', 'meta')"
        )
        if tables != 4:
            raise ValueError(f"{self.path} is corrupt: tables are missing. Restore a backup")

    def _decide(self, revision: int, writes: Sequence[Write]) -> tuple[list[Outcome], list[tuple[object, ...]]]:
        """What becomes of each write, and the rows to insert; later writes see what earlier ones did."""
        full: dict[str, bool] = {}
        for write in writes:
            full[write.key] = full.get(write.key, False) or write.value is None
        heads = self._heads(full)
        outcomes: list[Outcome] = []
        rows: list[tuple[object, ...]] = []
        refused: dict[int, str] = {}
        first = revision + 1
        for write in writes:
            key = write.key
            head = heads.get(key)
            at = head.revision if head is not None else 0
            if (write.expected is not None and write.expected != at) or (write.value is None and head is None):
                if head is not None and at < first and not full[key]:
                    refused[len(outcomes)] = key
                outcomes.append(RevisionConflict(key, head.item() if head is not None else None))
                continue
            revision += 1
            if write.value is None:
                created, value, kind = 0, b"", EventType.DELETE
                heads.pop(key)
            else:
                created, value, kind = head.created if head is not None else revision, write.value, EventType.PUT
                heads[key] = _Row(revision, at, created, key, value)
            rows.append((revision, key, at, created, write.expires, checksum(revision, key.encode(), value), value))
            previous = head.item() if write.value is None and head is not None else None
            outcomes.append(StoreEvent(kind, key, revision, value, previous))
        if refused:
            there = self._heads(dict.fromkeys(refused.values(), True))
            for index, key in refused.items():
                outcomes[index] = RevisionConflict(key, there[key].item())
        return outcomes, rows

    def _heads(self, keys: dict[str, bool]) -> dict[str, _Row]:
        """The keys that exist; with the value where a key maps to True, without it otherwise."""
        places = ",".join(["(?,?,?)"] * len(keys))
        found = self._one(
            f"""SELECT count(*), group_concat(number), group_concat(revision), group_concat(created),
                group_concat(length(value)), group_concat(value, '')
            FROM (SELECT k.column1 AS number, l.revision, l.created, iif(k.column3, l.value, x'') AS value
                FROM (VALUES {places}) AS k
                JOIN log AS l ON l.revision = (SELECT max(revision) FROM log WHERE key = k.column2)
                WHERE l.created > 0)""",
            [column for number, (key, full) in enumerate(keys.items()) for column in (number, key, full)],
        )
        if not found[0]:
            return {}
        names = list(keys)
        numbers, revisions, createds, lengths = (_integers(column) for column in found[1:5])
        values = _cut(found[5], lengths)
        return {
            names[number]: _Row(revision, 0, created, names[number], value)
            for number, revision, created, value in zip(numbers, revisions, createds, values, strict=True)
        }

    def _rows(self, query: str, values: Sequence[object], revision: int) -> list[_Row]:
        """The rows of the log that `query` selects, checked. Raises Compacted where `revision` was compacted."""
        with self._errors():
            found = self._one(_ROWS % query, values)
        if revision < found[0]:
            raise Compacted(found[0])
        if not found[1]:
            return []
        columns = [_integers(column) for column in (*found[2:6], found[6], found[8])]
        keys = _cut(found[7], columns[4])
        contents = _cut(found[9], columns[5])
        rows: list[_Row] = []
        for at, previous, created, crc, key, value in zip(*columns[:4], keys, contents, strict=True):
            if checksum(at, key, value) != crc:
                raise StoreUnavailable(
                    f"{self.path} is damaged: the checksum of {key.decode()} at revision {at} is wrong; "
                    "run `kubegate storage check` and restore a backup"
                )
            rows.append(_Row(at, previous, created, key.decode(), value))
        return rows

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreUnavailable(f"{self.path} is closed")
        return self._connection

    def _execute(self, query: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._connected().execute(query, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._execute("ROLLBACK")
            raise

    def _one(self, query: str, values: Sequence[object] = ()) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self._execute(query, values).fetchone()
        return found

    @contextmanager
    def _errors(self, *, suspect: bool = False) -> Iterator[None]:
        """Turn SQLite's errors into ours; with `suspect` the connection is not trusted after one."""
        try:
            yield
        except sqlite3.Error as error:
            self._suspect = self._suspect or suspect
            explained = self._explain(error)
            raise StoreUnavailable(str(explained)) from error
        except StoreUnavailable:
            self._suspect = self._suspect or suspect
            raise

    def _explain(self, error: sqlite3.Error) -> Exception:
        """The error for people: ValueError where the file will not get better by waiting."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        match code:
            case sqlite3.SQLITE_FULL:
                return StoreUnavailable(f"the disk that holds {self.path} is full")
            case sqlite3.SQLITE_READONLY:
                return StoreUnavailable(f"{self.path} is read-only")
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return StoreUnavailable(f"{self.path} is locked by another process")
            case sqlite3.SQLITE_CONSTRAINT:
                return StoreUnavailable(f"another process writes to {self.path}")
            case sqlite3.SQLITE_CANTOPEN:
                return StoreUnavailable(f"cannot open {self.path}")
            case sqlite3.SQLITE_NOTADB:
                return ValueError(f"{self.path} is not a kubegate store: it is not an SQLite database")
            case sqlite3.SQLITE_CORRUPT:
                return ValueError(f"{self.path} is corrupt: {error}. Restore a backup")
            case _:
                return StoreUnavailable(f"cannot read or write {self.path}: {error}")


def past(prefix: str) -> str:
    """The first text after all that begin with `prefix`."""
    return prefix + "\U0010ffff"


def checksum(revision: int, key: bytes, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key, revision & 0xFFFFFFFF))


def sync(path: Path) -> None:
    """Make a file, or what a folder lists, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create_private(path: Path) -> None:
    """Make the file where it is missing, for its owner alone: tokens live in it. SQLite's side files follow it."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        sync(path.parent)


def _integers(column: bytes) -> list[int]:
    return [int(number) for number in column.split(b",")]


def _cut(joined: bytes, lengths: Sequence[int]) -> list[bytes]:
    pieces: list[bytes] = []
    start = 0
    for length in lengths:
        pieces.append(joined[start : start + length])
        start += length
    return pieces


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
