"""The store in an etcd v3 cluster, for more than one machine: keys and values lie there as kube-apiserver lays them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kubegate.api.clock import Clock, SystemClock
from kubegate.storage import (
    Compacted,
    EventType,
    FutureRevision,
    KeyValue,
    Range,
    RevisionConflict,
    StoreEvent,
    StoreUnavailable,
)
from kubegate.storage.compaction import Compactor
from kubegate.storage.etcd_client import Endpoints, EtcdClient, RevisionCompacted, RevisionInFuture, messages

log = logging.getLogger(__name__)

ROOT = "/registry"
"""What all keys begin with; in etcd `--etcd-prefix` stands in its place."""

PAGE = 500
"""Keys asked for at once. A value has at most 1.5 MB, etcd's limit for a request."""

RANGE_TIMEOUT = 15.0

EQUAL, MOD = 0, 2
"""Compare.CompareResult and CompareTarget."""

DELETE = 1
"""Event.EventType."""

LEASE_KEYS = 1000
"""Keys that share a lease, as in kube-apiserver: one lease for each event would cost etcd more than the event."""

BEHIND = 1.0
"""Seconds that a watch may bring nothing while something is known to be committed, before another member is asked."""


@dataclass(slots=True)
class _Lease:
    id: int
    until: float
    keys: int


@dataclass(slots=True, eq=False)
class _Stream:
    """A watch as it runs: the revision it has reached, whether more must come soon, and from which member, how."""

    reached: int
    expected: bool = False
    member: int = 0
    call: Any = None


class EtcdStore:
    """`Store` in the cluster at `endpoints`, under `prefix`.

    Every process may write; what it knows of others comes through `watch`. A watch covers the whole cluster and hands
    on what lies under the prefix: so it hears of every revision, and a reader that waits for one never waits in vain.
    (etcd's progress notifications would do too, but before 3.5.13 they overtake events.)
    """

    def __init__(
        self,
        endpoints: Endpoints,
        clock: Clock | None = None,
        *,
        prefix: str = ROOT,
        compaction_interval: float = 0,
    ) -> None:
        self._clock = clock or SystemClock()
        self._client = EtcdClient(endpoints, self._clock)
        self._compactor = Compactor(self, self._clock, compaction_interval)
        self._prefix = "/" + prefix.strip("/")
        self._streams: set[_Stream] = set()
        self._askers: list[asyncio.Future[int]] = []
        self._asking: asyncio.Task[None] | None = None
        self._leases: dict[int, _Lease] = {}
        self._granting: dict[int, asyncio.Lock] = {}
        self._closed = asyncio.Event()

    async def start(self) -> None:
        self._closed.clear()
        await self._client.start()
        try:
            await self.revision()
        except BaseException:
            await self._client.close()
            raise
        self._compactor.start()

    async def close(self) -> None:
        await self._compactor.close()
        self._closed.set()
        if self._asking is not None:
            self._asking.cancel()
        for stream in tuple(self._streams):
            if stream.call is not None:
                stream.call.cancel()
        await self._client.close()

    def health(self) -> str | None:
        return self._client.trouble

    async def revision(self) -> int:
        # Whoever comes while a question is under way cannot use its answer, which may be older than the call; but
        # all who come meanwhile share the next one.
        asker: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._askers.append(asker)
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask_revisions(), name="etcd revision")
        return await asker

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        request = messages().RangeRequest(key=self._key(key), revision=revision)
        answer = await self._read(request, revision)
        return self._item(answer.kvs[0]) if answer.kvs else None

    async def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Range:
        start, end = self._bounds(prefix)
        if after >= prefix:
            start = max(start, self._place(after) + b"\0")
        items: list[KeyValue] = []
        while True:
            wanted = min(limit - len(items), PAGE) if limit else PAGE
            # Where nothing can lie under the prefix the question is still asked: revisions are judged all the same.
            request = messages().RangeRequest(
                key=start, range_end=end if start < end else b"", limit=wanted, revision=revision
            )
            if start >= end:
                request.count_only = True
            answer = await self._read(request, revision)
            revision = revision or answer.header.revision
            if start >= end:
                return Range(items, revision)
            items += [self._item(found) for found in answer.kvs]
            remaining = answer.count - len(answer.kvs)
            if not remaining or not answer.kvs or (limit and len(items) >= limit):
                return Range(items, revision, remaining)
            start = answer.kvs[-1].key + b"\0"

    async def put(self, key: str, value: bytes, expected: int | None, *, ttl: int = 0) -> int:
        known = messages()
        place = self._key(key)
        lease = await self._lease(ttl) if ttl else 0
        put = known.RequestOp(request_put=known.PutRequest(key=place, value=value, lease=lease))
        return await self._write(key, place, expected, put)

    async def delete(self, key: str, expected: int | None) -> int:
        known = messages()
        place = self._key(key)
        delete = known.RequestOp(request_delete_range=known.DeleteRangeRequest(key=place))
        while expected is None:
            actual = await self.get(key)
            if actual is None:
                raise RevisionConflict(key, None)
            with suppress(RevisionConflict):
                return await self._write(key, place, actual.mod_revision, delete)
        if not expected:
            raise RevisionConflict(key, await self.get(key))
        return await self._write(key, place, expected, delete)

    async def watch(self, prefix: str, after: int) -> AsyncGenerator[Sequence[StoreEvent], None]:
        """As the protocol says. Goes on through failures of members from where it was, with another member.

        Batches end with a PROGRESS event where their last revision brought nothing under the prefix.
        """
        stream = _Stream(after)
        self._streams.add(stream)
        pause = 0.05
        try:
            while not self._closed.is_set():
                try:
                    await self._require_uncompacted(stream.reached)
                    stream.member, stream.call = self._client.watch()
                    async for events in self._read_stream(stream, prefix):
                        pause = 0.05
                        yield events
                except StoreUnavailable as error:
                    if not self._closed.is_set():
                        log.debug("a watch could not start: %s", error)
                except (RevisionCompacted, Compacted):
                    raise Compacted(await self._oldest()) from None
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    if task is None or task.cancelling():
                        raise
                    # else it was the stream that was cancelled, by `close` or `_hurry`
                except Exception as error:
                    if not _broken(error):
                        raise
                    if not self._closed.is_set():
                        self._client.stream_failed(stream.member, error)
                if not self._closed.is_set():
                    await self._clock.sleep(pause)
                    pause = min(pause * 2, 2.0)
        finally:
            self._streams.discard(stream)
            if stream.call is not None:
                stream.call.cancel()

    def listen(self, on_events: Callable[[Sequence[StoreEvent]], None]) -> Callable[[], None] | None:
        return None

    async def compact(self, revision: int) -> None:
        try:
            await self._client.call("Compact", messages().CompactionRequest(revision=revision), repeat=True)
        except RevisionCompacted:
            return
        except RevisionInFuture:
            raise FutureRevision(await self.revision()) from None

    def _key(self, key: str) -> bytes:
        if not key.startswith(ROOT + "/"):
            raise ValueError(f"{key!r} does not begin with {ROOT}/")
        return self._place(key)

    def _place(self, text: str) -> bytes:
        """Where a key, or a text to compare keys with, lies in etcd."""
        if text.startswith(ROOT + "/"):
            text = self._prefix + text[len(ROOT) :]
        elif text < ROOT + "/":
            text = self._prefix + "/"
        else:
            text = self._prefix + "0"  # the first after all that begin with PREFIX/
        return text.encode()

    def _name(self, place: bytes) -> str | None:
        """The key that lies at a place in etcd; None where it is not ours."""
        text = place.decode(errors="replace")
        return ROOT + text[len(self._prefix) :] if text.startswith(self._prefix + "/") else None

    def _bounds(self, prefix: str) -> tuple[bytes, bytes]:
        """The first key of a range and the first after it; equal where nothing of ours can lie between."""
        if prefix.startswith(ROOT + "/"):
            start = self._place(prefix)
            return start, _past(start)
        everything = (self._prefix + "/").encode()
        return (everything, _past(everything)) if (ROOT + "/").startswith(prefix) else (everything, everything)

    def _item(self, found: Any) -> KeyValue:
        return KeyValue(self._name(found.key) or "", found.value, found.mod_revision, found.create_revision)

    async def _read(self, request: Any, revision: int) -> Any:
        try:
            return await self._client.call("Range", request, repeat=True, timeout=RANGE_TIMEOUT)
        except RevisionCompacted:
            raise Compacted(await self._oldest()) from None
        except RevisionInFuture:
            raise FutureRevision(await self.revision()) from None

    async def _write(self, key: str, place: bytes, expected: int | None, operation: Any) -> int:
        """One transaction: `operation` if the key is at `expected`, else read what is there."""
        known = messages()
        request = known.TxnRequest(
            success=[operation],
            failure=[known.RequestOp(request_range=known.RangeRequest(key=place))],
        )
        if expected is not None:
            request.compare.add(result=EQUAL, target=MOD, key=place, mod_revision=expected)
        answer = await self._client.call("Txn", request, repeat=False)
        if not answer.succeeded:
            found = answer.responses[0].response_range.kvs
            raise RevisionConflict(key, self._item(found[0]) if found else None)
        revision: int = answer.header.revision
        return revision

    async def _ask_revisions(self) -> None:
        """Linearizable reads of nothing, whose headers have the revision, until nobody asks any more."""
        request = messages().RangeRequest(key=self._prefix.encode(), count_only=True)
        askers: list[asyncio.Future[int]] = []
        try:
            while self._askers:
                askers, self._askers = self._askers, []
                try:
                    answer = await self._client.call("Range", request, repeat=True)
                except Exception as error:
                    _fail(askers, error)
                    continue
                for asker in askers:
                    if not asker.done():
                        asker.set_result(answer.header.revision)
                self._expect(answer.header.revision)
        except asyncio.CancelledError:
            _fail(askers + self._askers, StoreUnavailable("the store is closed"))
            raise
        finally:
            self._asking = None

    def _expect(self, revision: int) -> None:
        """Give watches that lack a committed revision a moment to bring it."""
        for stream in self._streams:
            if stream.reached < revision and not stream.expected:
                stream.expected = True
                asyncio.get_running_loop().call_later(BEHIND, self._hurry, stream, stream.reached)

    def _hurry(self, stream: _Stream, reached: int) -> None:
        """Break off a watch that brought nothing although there is something: its member is stopped or cut off."""
        stream.expected = False
        if stream.reached == reached and stream in self._streams and stream.call is not None:
            self._client.turn_away(stream.member)
            stream.call.cancel()

    async def _require_uncompacted(self, after: int) -> None:
        """etcd lets a watch start at the compacted revision itself, whose deletions it no longer has."""
        request = messages().RangeRequest(key=self._prefix.encode(), count_only=True, revision=after)
        with suppress(RevisionInFuture):
            await self._client.call("Range", request, repeat=True)

    async def _read_stream(self, stream: _Stream, prefix: str) -> AsyncGenerator[Sequence[StoreEvent], None]:
        known = messages()
        create = known.WatchCreateRequest(
            key=b"\0", range_end=b"\0", start_revision=stream.reached + 1, prev_kv=True, fragment=True
        )
        await stream.call.write(known.WatchRequest(create_request=create))
        parts: list[Any] = []
        async for answer in stream.call:
            self._client.trouble = None
            if answer.canceled:
                if answer.compact_revision:
                    raise Compacted(answer.compact_revision)
                raise _Canceled(answer.cancel_reason or "the watch was canceled")
            parts += answer.events
            if answer.fragment or not parts:
                continue
            stream.reached = parts[-1].kv.mod_revision
            events = [event for event in map(self._event, parts) if event is not None and event.key.startswith(prefix)]
            if not events or events[-1].revision < stream.reached:
                events.append(StoreEvent(EventType.PROGRESS, "", stream.reached, b""))
            parts = []
            yield events
        raise _Canceled("the watch ended")

    def _event(self, event: Any) -> StoreEvent | None:
        key = self._name(event.kv.key)
        if key is None:
            return None
        previous = self._item(event.prev_kv) if event.prev_kv.mod_revision else None
        if event.type == DELETE:
            return StoreEvent(EventType.DELETE, key, event.kv.mod_revision, b"", previous)
        return StoreEvent(EventType.PUT, key, event.kv.mod_revision, event.kv.value, previous)

    async def _oldest(self) -> int:
        """The compacted revision: what a watch from the beginning is refused with."""
        known = messages()
        _, call = self._client.watch()
        try:
            create = known.WatchCreateRequest(key=self._prefix.encode(), start_revision=1)
            await call.write(known.WatchRequest(create_request=create))
            while True:
                answer = await asyncio.wait_for(call.read(), 5.0)
                if not hasattr(answer, "canceled"):
                    return 0
                if answer.canceled:
                    return int(answer.compact_revision)
        except Exception as error:
            if _broken(error) or isinstance(error, TimeoutError):
                return 0
            raise
        finally:
            call.cancel()

    async def _lease(self, ttl: int) -> int:
        """A lease of at least `ttl` seconds, shared by keys that are written at about the same time."""
        shared = min(60, math.floor(ttl * 0.05))
        async with self._granting.setdefault(ttl, asyncio.Lock()):
            lease = self._leases.get(ttl)
            if lease is None or lease.keys >= LEASE_KEYS or self._clock.monotonic() >= lease.until:
                request = messages().LeaseGrantRequest(TTL=ttl + shared)
                started = self._clock.monotonic()
                answer = await self._client.call("LeaseGrant", request, repeat=True)
                lease = _Lease(answer.ID, started + shared, 0)
                if shared:
                    self._leases[ttl] = lease
            lease.keys += 1
            return lease.id


class _Canceled(Exception):
    """etcd ended a watch; the text is its reason."""


def _fail(askers: Sequence[asyncio.Future[int]], error: Exception) -> None:
    for asker in askers:
        if not asker.done():
            asker.set_exception(error)


def _broken(error: Exception) -> bool:
    """Whether a stream's error is one that another stream may not have."""
    import grpc

    return isinstance(error, (_Canceled, grpc.aio.AioRpcError, asyncio.InvalidStateError))


def _past(start: bytes) -> bytes:
    """The first key after all that begin with `start` (etcd's range end for a prefix)."""
    return start[:-1] + bytes([start[-1] + 1])
