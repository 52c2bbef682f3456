"""Whatever is written, and whenever somebody watches and reads: the cache shows what a plain list of changes says."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kubegate.storage import Compacted, RevisionConflict
from kubegate.storage.cache import NOTHING, CacheEvent, WatchCache, Watcher
from kubegate.storage.memory import MemoryStore

WINDOW = 4
KEYS = st.sampled_from([f"/registry/{path}" for path in ("a/x", "a/x1", "a/y/z", "b/x", "b/y")])
PREFIXES = st.sampled_from(
    ["/registry/", "/registry/a/", "/registry/a/x", "/registry/a/y/", "/registry/b/", "/registry/c/"]
)

Change = tuple[int, str, bytes | None]
"""Revision, key, and value (None: deleted)."""


def codec(key: str, value: bytes, revision: int) -> tuple[bytes, Mapping[str, str], Mapping[str, str]]:
    return b"%s@%d" % (value, revision), NOTHING, NOTHING


def change(event: CacheEvent) -> Change:
    """An event as the model has it; what it shows must bear its revision."""
    if event.entry is None:
        assert event.previous is not None
        assert event.previous.data.endswith(b"@%d" % event.revision)
        return event.revision, event.key, None
    value, _, revision = event.entry.data.rpartition(b"@")
    assert int(revision) == event.revision == event.entry.revision
    return event.revision, event.key, value


class CacheModel(RuleBasedStateMachine):
    runner: asyncio.Runner

    @initialize()
    def start(self) -> None:
        self.store = MemoryStore()
        self.cache = WatchCache(self.store, codec, window=WINDOW)
        self.run(self.store.start())
        self.run(self.cache.start())
        self.changes: list[Change] = []
        self.state: dict[str, tuple[bytes, int]] = {}
        self.watchers: list[tuple[Watcher, str, int, list[Change]]] = []
        self.heard: list[Change] = []
        self.cache.subscribe("/registry/a/", lambda event: self.heard.append(change(event)))

    def teardown(self) -> None:
        self.run(self.cache.close())
        self.run(self.store.close())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)

    @rule(key=KEYS, value=st.binary(max_size=4))
    def put(self, key: str, value: bytes) -> None:
        revision = self.run(self.cache.put(key, value, None))
        self.changes.append((revision, key, value))
        self.state[key] = (value, revision)

    @rule(keys=st.lists(KEYS, min_size=2, max_size=6))
    def put_some(self, keys: list[str]) -> None:
        for key in keys:
            self.put(key, b"")

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        try:
            revision = self.run(self.cache.delete(key, None))
        except RevisionConflict:
            assert key not in self.state
            return
        self.changes.append((revision, key, None))
        del self.state[key]

    @rule(prefix=PREFIXES, back=st.integers(-2, 7))
    def watch(self, prefix: str, back: int) -> None:
        after = max(self.cache.revision - back, 1)
        missing = [entry for entry in self.changes if entry[0] > after]

        async def open_() -> Watcher:
            return self.cache.watch(prefix, after)

        try:
            self.watchers.append((self.run(open_()), prefix, after, []))
        except Compacted:
            assert len(missing) > WINDOW
        else:
            assert len(missing) <= WINDOW

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        if self.watchers:
            watcher, prefix, after, seen = data.draw(st.sampled_from(self.watchers))
            seen += map(change, watcher.pending())
            assert seen == [entry for entry in self.changes if entry[0] > after and entry[1].startswith(prefix)]

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        if self.watchers:
            index = data.draw(st.integers(0, len(self.watchers) - 1))

            async def close_() -> None:
                self.watchers.pop(index)[0].close()

            self.run(close_())

    @rule(prefix=PREFIXES, after=st.just("") | KEYS, limit=st.integers(0, 3))
    def range(self, prefix: str, after: str, limit: int) -> None:
        keys = sorted(key for key in self.state if key.startswith(prefix) and key > after)
        entries, remaining = self.cache.range(prefix, after=after, limit=limit)
        wanted = keys[:limit] if limit else keys
        assert [(entry.key, entry.data) for entry in entries] == [(key, b"%s@%d" % self.state[key]) for key in wanted]
        assert remaining == len(keys) - len(wanted)
        assert self.cache.count(prefix) == sum(1 for key in self.state if key.startswith(prefix))

    @rule(prefix=PREFIXES, last=st.sampled_from("0123456789"))
    def select(self, prefix: str, last: str) -> None:
        end = last.encode()
        entries = self.cache.select(prefix, last, lambda all_: [entry for entry in all_ if entry.data.endswith(end)])
        wanted = [b"%s@%d" % self.state[key] for key in sorted(self.state) if key.startswith(prefix)]
        assert [entry.data for entry in entries] == [data for data in wanted if data.endswith(end)]

    @invariant()
    def a_subscriber_heard_everything_at_once(self) -> None:
        if hasattr(self, "heard"):
            assert self.heard == [entry for entry in self.changes if entry[1].startswith("/registry/a/")]


def test_the_cache_does_what_the_model_does() -> None:
    quiet = settings(max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
    with asyncio.Runner() as CacheModel.runner:
        run_state_machine_as_test(CacheModel, settings=quiet)
