"""Any sequence of operations leaves an engine where it leaves a plain model: a list of what was written."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from storage_etcd import Cluster

from kubegate.storage import Compacted, EventType, RevisionConflict, Store, StoreEvent
from kubegate.storage.etcd import EtcdStore
from kubegate.storage.etcd_client import Endpoints
from kubegate.storage.keeper import Keeper
from kubegate.storage.keeper_wire import Place
from kubegate.storage.kept import KeptStore
from kubegate.storage.memory import MemoryStore
from kubegate.storage.sqlite import SqliteStore

T = TypeVar("T")

KEYS = st.sampled_from(
    [
        "/registry/a/x",
        "/registry/a/x1",
        "/registry/a/y/z",
        "/registry/b/x",
        "/registry/b",
        "/registry/a/é",
        "/registry/\U0001f600",
    ]
)
PREFIXES = st.sampled_from(["/registry/", "", "/registry/a/", "/registry/a/x", "/registry/b", "/none/"])
VALUES = st.binary(max_size=12)


class Model(RuleBasedStateMachine):
    """`written` is the whole truth: (revision, key, value or None for a deletion)."""

    runner: asyncio.Runner
    ordered = True  # writes made in one turn of the loop are decided in their order

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[int, str, bytes | None]] = []
        self.compacted = 0
        self.first = 0
        self.store: Store

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(coroutine, 20))

    def make(self) -> Store:
        return MemoryStore()

    @initialize(seed=st.lists(st.tuples(KEYS, VALUES), min_size=3, max_size=12))
    def open(self, seed: list[tuple[str, bytes]]) -> None:
        self.store = self.make()
        self.run(self.store.start())
        self.first = self.run(self.store.revision())
        for key, value in seed:
            self.put(key, value, "any")

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close())

    @property
    def revision(self) -> int:
        return self.written[-1][0] if self.written else self.first

    def at(self, revision: int) -> dict[str, tuple[bytes, int, int]]:
        """What exists at a revision: key -> value, mod_revision, create_revision."""
        state: dict[str, tuple[bytes, int, int]] = {}
        for at, key, value in self.written:
            if at > revision:
                break
            if value is None:
                del state[key]
            else:
                state[key] = (value, at, state[key][2] if key in state else at)
        return state

    def expectation(self, key: str, choice: str) -> tuple[int | None, bool]:
        """An expected revision of the kind `choice`, and whether it holds."""
        actual = self.at(self.revision).get(key, (b"", 0, 0))[1]
        expected = {"any": None, "new": 0, "right": actual, "old": max(actual - 1, 1)}[choice]
        return expected, expected is None or expected == actual

    @rule(key=KEYS, value=VALUES, choice=st.sampled_from(["any", "new", "right", "right", "old"]))
    def put(self, key: str, value: bytes, choice: str) -> None:
        expected, holds = self.expectation(key, choice)
        try:
            revision = self.run(self.store.put(key, value, expected))
        except RevisionConflict as conflict:
            assert not holds
            self.check_actual(key, conflict)
        else:
            assert holds
            assert revision == self.revision + 1
            self.written.append((revision, key, value))

    @rule(key=KEYS, choice=st.sampled_from(["any", "right", "old"]))
    def delete(self, key: str, choice: str) -> None:
        expected, holds = self.expectation(key, choice)
        exists = key in self.at(self.revision)
        try:
            revision = self.run(self.store.delete(key, expected))
        except RevisionConflict as conflict:
            assert not (holds and exists)
            self.check_actual(key, conflict)
        else:
            assert holds
            assert exists
            assert revision == self.revision + 1
            self.written.append((revision, key, None))

    @precondition(lambda self: self.ordered)
    @rule(writes=st.lists(st.tuples(KEYS, VALUES | st.none(), st.booleans()), min_size=2, max_size=8))
    def write_together(self, writes: list[tuple[str, bytes | None, bool]]) -> None:
        """Writes that wait for the same fsync are decided in their order, each in sight of those before it."""

        async def together() -> list[int | BaseException]:
            return await asyncio.gather(
                *(
                    self.store.delete(key, None) if value is None else self.store.put(key, value, 0 if new else None)
                    for key, value, new in writes
                ),
                return_exceptions=True,
            )

        for (key, value, new), outcome in zip(writes, self.run(together()), strict=True):
            exists = key in self.at(self.revision)
            if (not exists and value is None) or (exists and value is not None and new):
                assert isinstance(outcome, RevisionConflict)
                self.check_actual(key, outcome)
            else:
                assert outcome == self.revision + 1
                self.written.append((self.revision + 1, key, value))

    def check_actual(self, key: str, conflict: RevisionConflict) -> None:
        actual = self.at(self.revision).get(key)
        found = conflict.actual
        assert (None if found is None else (found.value, found.mod_revision, found.create_revision)) == actual

    @rule(prefix=PREFIXES, after=st.just("") | KEYS, limit=st.integers(0, 4), back=st.integers(0, 6))
    def range(self, prefix: str, after: str, limit: int, back: int) -> None:
        revision = max(self.revision - back, self.first)
        try:
            page = self.run(self.store.range(prefix, after=after, limit=limit, revision=revision if back else 0))
        except Compacted as compacted:
            assert revision < self.compacted == compacted.oldest
            return
        assert revision >= self.compacted
        state = self.at(revision)
        keys = sorted(key for key in state if key.startswith(prefix) and key > after)
        expected = [(key, *state[key]) for key in (keys[:limit] if limit else keys)]
        found = [(item.key, item.value, item.mod_revision, item.create_revision) for item in page.items]
        assert found == expected
        assert page.remaining == len(keys) - len(expected)
        assert page.revision == revision

    @rule(key=KEYS, back=st.integers(0, 6))
    def get(self, key: str, back: int) -> None:
        revision = max(self.revision - back, self.first)
        try:
            found = self.run(self.store.get(key, revision if back else 0))
        except Compacted:
            assert revision < self.compacted
            return
        assert revision >= self.compacted
        actual = self.at(revision).get(key)
        assert (None if found is None else (found.value, found.mod_revision, found.create_revision)) == actual

    @rule(prefix=PREFIXES, back=st.integers(0, 10))
    def watch(self, prefix: str, back: int) -> None:
        after = max(self.revision - back, self.first)
        expected = [entry for entry in self.written if entry[0] > after and entry[1].startswith(prefix)]

        async def read() -> list[StoreEvent]:
            found: list[StoreEvent] = []
            watch = self.store.watch(prefix, after)
            while len(found) < len(expected):
                found += [event for event in await anext(watch) if event.type is not EventType.PROGRESS]
            await watch.aclose()
            return found

        try:
            found = self.run(read())
        except Compacted:
            assert after < self.compacted
            return
        assert after >= self.compacted or not expected
        assert [(e.revision, e.key, None if e.type is EventType.DELETE else e.value) for e in found] == expected
        for event in found:
            before = self.at(event.revision - 1).get(event.key)
            assert (None if event.previous is None else event.previous.value) == (before and before[0])

    @rule(back=st.integers(0, 5))
    def compact(self, back: int) -> None:
        revision = max(self.revision - back, self.first)
        self.run(self.store.compact(revision))
        self.compacted = max(self.compacted, revision)


class SqliteModel(Model):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())

    def make(self) -> Store:
        return SqliteStore(self.folder / "kubegate.db")

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.folder)

    @precondition(lambda self: self.written)
    @rule()
    def restart(self) -> None:
        self.run(self.store.close())
        self.store = self.make()
        self.run(self.store.start())
        assert self.run(self.store.revision()) == self.revision

    @precondition(lambda self: self.written)
    @rule()
    def crash(self) -> None:
        """Go on with the files as they lie there, log and all, while the old store still has them open."""
        folder = Path(tempfile.mkdtemp())
        for file in self.folder.iterdir():
            shutil.copy(file, folder)
        self.run(self.store.close())
        shutil.rmtree(self.folder)
        self.folder = folder
        self.store = self.make()
        self.run(self.store.start())
        assert self.run(self.store.revision()) == self.revision


class KeptModel(Model):
    """Two clients of one keeper, in turn; each sees at once what the other did, also when the keeper starts anew."""

    keeper: Keeper
    listening: socket.socket
    clients: tuple[KeptStore, KeptStore]
    turns = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.place = Place(self.folder / "keeper")

    def make(self) -> Store:
        self.listening = self.place.listen()
        self.keep()
        self.clients = (KeptStore(self.place), KeptStore(self.place))
        self.run(self.clients[1].start())
        return self.clients[0]

    def keep(self) -> None:
        self.keeper = Keeper(SqliteStore(self.folder / "kubegate.db"), self.place, self.listening)
        self.run(self.keeper.start())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        found = super().run(coroutine)
        if hasattr(self, "store"):
            self.turns += 1
            self.store = self.clients[self.turns % 2]
        return found

    @precondition(lambda self: self.written)
    @rule()
    def restart(self) -> None:
        self.run(self.keeper.close())
        self.keep()
        assert self.run(self.store.revision()) == self.revision

    def teardown(self) -> None:
        if hasattr(self, "clients"):
            for client in self.clients:
                super().run(client.close())
            super().run(self.keeper.close())
            self.listening.close()
        shutil.rmtree(self.folder)


@pytest.mark.parametrize("machine", [Model, SqliteModel, KeptModel])
def test_an_engine_does_what_the_model_does(machine: type[Model]) -> None:
    check(machine, examples=60)


def test_etcd_does_what_the_model_does(etcd: Cluster) -> None:
    class EtcdModel(Model):
        ordered = False

        def make(self) -> Store:
            return EtcdStore(Endpoints(etcd.urls), prefix=uuid4().hex)

    check(EtcdModel, examples=4)


def check(machine: type[Model], examples: int) -> None:
    quiet = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )
    with asyncio.Runner() as machine.runner:
        run_state_machine_as_test(machine, settings=quiet)
