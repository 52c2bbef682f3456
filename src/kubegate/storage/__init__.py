"""Where objects live. The `Store` protocol has etcd's semantics; `sqlite`, `etcd` and `memory` are its engines.

Knows nothing of kinds: keys are text (`/registry/pods/NAMESPACE/NAME`), values are bytes. In front of a store stands
the watch cache (`cache`), which serves reads as bytes ready to send.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from enum import Enum
from typing import Any, Protocol

from msgspec import Struct


class KeyValue(Struct, frozen=True):
    """One key at one revision. `mod_revision` is the store's revision of its last write."""

    key: str
    value: bytes
    mod_revision: int
    create_revision: int = 0

    def __repr__(self) -> str:
        return f"KeyValue({self.key!r}, {len(self.value)} bytes, {self.mod_revision}, {self.create_revision})"


class Range(Struct, frozen=True):
    """A page of keys in order. `revision` is the one it was read at; `more` keys follow `remaining` in number."""

    items: Sequence[KeyValue]
    revision: int
    remaining: int = 0


class EventType(Enum):
    """PROGRESS, of `watch` alone: no change (its key is empty), but all up to its revision was handed out."""

    PUT = "PUT"
    DELETE = "DELETE"
    PROGRESS = "PROGRESS"


class StoreEvent(Struct, frozen=True):
    """One change. `value` is the new value (b"" for DELETE); `previous` the value before, None where there was none."""

    type: EventType
    key: str
    revision: int
    value: bytes
    previous: KeyValue | None = None

    def __repr__(self) -> str:
        return f"StoreEvent({self.type.value}, {self.key!r}, {self.revision}, {len(self.value)} bytes)"


class RevisionConflict(Exception):
    """Compare-and-set failed: the key is at `actual` (None: it does not exist). Read again and retry, or give up."""

    def __init__(self, key: str, actual: KeyValue | None) -> None:
        super().__init__(f"{key} was changed")
        self.key, self.actual = key, actual


class Compacted(Exception):
    """The revision asked for is older than `oldest`: list again."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"compacted up to {oldest}")
        self.oldest = oldest


class FutureRevision(Exception):
    """The revision asked for is not there yet; the store is at `current`."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the store is at revision {current}")
        self.current = current


class StoreUnavailable(Exception):
    """The engine cannot answer now (no leader, disk full, read-only file). The text says which; try again later."""


class OutcomeUnknown(StoreUnavailable):
    """A write was sent and its answer was lost: it may be done, or not. Read before you try again."""


class Store(Protocol):
    """One revision counter for the whole store; a write is acknowledged (returns) after it is durable."""

    async def start(self) -> None:
        """Open, check and recover. Raises StoreUnavailable (then start may be tried again), or ValueError for a corrupt
        or foreign file."""
        ...

    async def close(self) -> None:
        """Finish writes in flight, end watches, let go of files and sockets."""
        ...

    async def revision(self) -> int:
        """The latest committed revision (linearizable)."""
        ...

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        """The key as it is (or was at `revision`). Raises Compacted, FutureRevision."""
        ...

    async def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Range:
        """Keys that begin with `prefix`, in byte order, from after `after`; 0 means no limit, latest revision."""
        ...

    async def put(self, key: str, value: bytes, expected: int | None, *, ttl: int = 0) -> int:
        """Write if the key's mod_revision is `expected` (0: must not exist; None: whatever is there).

        Returns the new revision, after it is durable. `ttl` in seconds; 0 keeps it for ever. Raises RevisionConflict,
        and ValueError for a key that cannot be.
        """
        ...

    async def delete(self, key: str, expected: int | None) -> int:
        """Delete if the key's mod_revision is `expected` (None: whatever). Returns the revision of the deletion.

        Raises RevisionConflict, also where the key does not exist.
        """
        ...

    def watch(self, prefix: str, after: int) -> AsyncGenerator[Sequence[StoreEvent], None]:
        """Every change of keys under `prefix` with a revision greater than `after`, in order, none missed.

        Batches may be empty: then they only tell that the store is alive. `previous` is there for DELETE and may be
        missing for a PUT that is handed on as it happens. Raises Compacted.
        """
        ...

    def listen(self, on_events: Callable[[Sequence[StoreEvent]], None]) -> Callable[[], None] | None:
        """Hear of every change before the write that made it returns; None where the engine is another process.

        `on_events` is called on the event loop, after the change is durable, in order of revision; it must be quick
        and must not raise. `previous` is there for DELETE and may be missing for PUT. Returns a function that ends it.
        """
        ...

    async def compact(self, revision: int) -> None:
        """Forget what was overwritten or deleted at or before `revision`; reads older than it raise Compacted.

        Raises FutureRevision. A revision that was compacted before is no error.
        """
        ...

    def health(self) -> str | None:
        """What keeps the engine from answering, in a sentence; None while it works. Never waits."""
        ...


class ObjectEvent(Enum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Reader(Protocol):
    """Objects as the watch cache holds them, for those who decide: authenticators, authorizers, admission plugins.

    `resource` is a GroupResource's text: `secrets`, `clusterroles.rbac.authorization.k8s.io`. Objects are decoded
    JSON in the storage version, with metadata.resourceVersion; treat them as immutable. Nothing here waits.
    """

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        """None where there is no such object (or no such resource). `namespace` is "" for cluster-scoped ones."""
        ...

    def list(self, resource: str, namespace: str = "") -> Sequence[dict[str, Any]]:
        """All objects of the resource, of one namespace where one is named."""
        ...

    def subscribe(
        self, resource: str, on_event: Callable[[ObjectEvent, dict[str, Any], dict[str, Any] | None], None]
    ) -> Callable[[], None]:
        """Call `on_event(type, object, previous)` for all that is there (ADDED), then for each change, in order.

        It is called on the event loop, before the write that made the change is acknowledged in this process; it must
        be quick and must not raise. Returns a function that ends the subscription.
        """
        ...
