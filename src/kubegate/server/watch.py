"""Watch streams: from a revision on, every change that the watcher may see, as lines of JSON.

Follows k8s.io/apiserver/pkg/endpoints/handlers/watch and the watch cache's rules for resourceVersion,
sendInitialEvents, bookmarks and selectors.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import lru_cache

import orjson
from msgspec import Struct

from kubegate.api import Object, status
from kubegate.api.clock import Clock
from kubegate.registry import wire
from kubegate.storage import Compacted, EventType, FutureRevision
from kubegate.storage.cache import CacheEvent, Entry, SlowWatcher, WatchCache, Watcher

Matches = Callable[[Entry], bool]
Render = Callable[[bytes], bytes]
Convert = Callable[[bytes], Awaitable[bytes]]
Line = Callable[[bytes, bytes], bytes]

BOOKMARK_SECONDS = 60.0
LAST_BOOKMARK_SECONDS = 2.0
FRESH_SECONDS = 3.0
# By then kube-apiserver has told where the beginning ends; a bookmark that is due before has been told with that.
INITIAL_BOOKMARK_SECONDS = 1.25
_END_OF_INITIAL_EVENTS = {"k8s.io/initial-events-end": "true"}


def json_line(kind: bytes, data: bytes) -> bytes:
    """An event: what happened (ADDED, …), and to what."""
    return b'{"type":"%s","object":%s}\n' % (kind, data)


def protobuf_line(kind: bytes, data: bytes) -> bytes:
    """The same as a frame for those who take protobuf alone."""
    from kubegate.api import protobufwriter

    return protobufwriter.watch_event(kind, orjson.loads(data))


class WatchRequest(Struct, frozen=True):
    """`empty` makes an object of what is watched in which nothing is set, as bookmarks are.

    `after` None: begin with all that is there. `matches` None: everything. `render` None: bytes as stored.

    `settle` makes of a change what it is under today's definition of the kind.
    `line` makes an event of its kind and the object's JSON.
    `convert` asks a webhook for the bytes in the version wanted, before `render`; it raises StatusError.

    `initial_bookmark`: tell when the objects that were there have been sent, which must be as of revision `fresh_as`.
    `seconds`: how long the watch may take.
    """

    prefix: str
    empty: Callable[[], Object]
    after: int | None
    seconds: float
    matches: Matches | None = None
    settle: Callable[[CacheEvent], CacheEvent] | None = None
    line: Line = json_line
    convert: Convert | None = None
    render: Render | None = None
    bookmarks: bool = False
    initial_bookmark: bool = False
    fresh_as: int = 0


async def stream(
    cache: WatchCache, request: WatchRequest, clock: Clock, sent: Callable[[int], None]
) -> AsyncIterator[bytes]:
    """The frames of one watch, until its time is over; `sent` is told how many events each frame holds."""
    try:
        await cache.wait_for(request.fresh_as, FRESH_SECONDS)
    except FutureRevision as error:
        yield _error(request, status.too_large_resource_version(request.fresh_as, error.current))
        return
    start = cache.revision if request.after is None else request.after
    try:
        watcher = cache.watch(request.prefix, start)
    except Compacted as error:
        text = f"too old resource version: {request.after} ({error.oldest})"
        yield _error(request, status.expired(text))
        return
    alarm: asyncio.TimerHandle | None = None
    try:
        if request.after is None:
            async for frame in _initial(cache, request):
                yield frame
                del frame  # what was told is not kept until there is something else to tell
        now = clock.monotonic()
        deadline = now + request.seconds
        due = _next_bookmark(now, deadline) if request.bookmarks else math.inf
        if request.initial_bookmark and due < now + INITIAL_BOOKMARK_SECONDS:
            due = math.inf
        alarm = _alarm(watcher, min(deadline, due) - now)
        while True:
            batch = await watcher.next()
            if not batch:
                now = clock.monotonic()
                if now >= deadline:
                    return
                if now >= due:  # timers may wake a little early
                    due = _next_bookmark(now, deadline)
                    yield _bookmark(request, cache.revision, {})
                alarm.cancel()
                alarm = _alarm(watcher, min(deadline, due) - now)
                continue
            if request.settle is not None:
                batch = [request.settle(event) for event in batch]
            if request.convert is None:
                frames = [told for event in batch if (told := _frame(event, request)) is not None]
            else:
                frames = [told async for told in _converted(batch, request, request.convert)]
            if frames:
                sent(len(frames))
                yield b"".join(frames) if len(frames) > 1 else frames[0]
            del batch, frames
    except StopAsyncIteration:
        return
    except status.StatusError as error:
        yield _error(request, status.StatusError(500, "InternalError", error.message))
    except (SlowWatcher, Compacted) as error:
        yield _error(request, status.expired(f"the watch was ended: {error}"))
    finally:
        if alarm is not None:
            alarm.cancel()
        watcher.close()


def _next_bookmark(now: float, deadline: float) -> float:
    """Every minute, and once shortly before the watch ends; infinity where there is none to come."""
    soon = min(now + BOOKMARK_SECONDS, deadline - LAST_BOOKMARK_SECONDS)
    return soon if soon > now else math.inf


def _alarm(watcher: Watcher, seconds: float) -> asyncio.TimerHandle:
    """One for many changes: a timer for each wait would cost as much as the rest of telling one."""
    return asyncio.get_running_loop().call_later(max(seconds, 0), watcher.wake)


async def _initial(cache: WatchCache, request: WatchRequest) -> AsyncIterator[bytes]:
    entries, _ = cache.range(request.prefix)
    revision = cache.revision
    page: list[bytes] = []
    for entry in entries:
        if request.matches is None or request.matches(entry):
            if request.settle is not None:
                there = request.settle(CacheEvent(EventType.PUT, entry.key, entry.revision, entry, None)).entry
                entry = there or entry
            data = entry.data if request.convert is None else await request.convert(entry.data)
            page.append(_line(b"ADDED", data, request))
        if len(page) >= 100:
            yield b"".join(page)
            page = []
    if page:
        yield b"".join(page)
    if request.initial_bookmark:
        yield _bookmark(request, revision, _END_OF_INITIAL_EVENTS)


async def _converted(batch: Sequence[CacheEvent], request: WatchRequest, convert: Convert) -> AsyncIterator[bytes]:
    for event in batch:
        kind = _kind(event, request)
        if kind is not None:
            yield _line(kind, await convert(_data(event, kind)), request)


def _frame(event: CacheEvent, request: WatchRequest) -> bytes | None:
    kind = _kind(event, request)
    if kind is None:
        return None
    if request.render is not None:
        return _line(kind, _data(event, kind), request)
    return _shared_line(event, kind) if event.size() <= _SMALL else _shared_large_line(event, kind)


def _kind(event: CacheEvent, request: WatchRequest) -> bytes | None:
    """What this watcher is told of a change: an object that comes to match is ADDED, one that stops is DELETED."""
    matches = request.matches
    if event.type is EventType.DELETE:
        assert event.previous is not None
        if matches is not None and not matches(event.previous):
            return None
        return b"DELETED"
    assert event.entry is not None
    is_there = matches is None or matches(event.entry)
    was_there = event.previous is not None and (matches is None or matches(event.previous))
    if not is_there and not was_there:
        return None
    return b"MODIFIED" if is_there and was_there else b"ADDED" if is_there else b"DELETED"


def _data(event: CacheEvent, kind: bytes) -> bytes:
    if kind == b"DELETED":
        assert event.previous is not None
        return wire.replace_revision(event.previous.data, event.revision)
    assert event.entry is not None
    return event.entry.data


def _json_line(event: CacheEvent, kind: bytes) -> bytes:
    """One line for all who watch the same bytes: a change is told a thousand times and put together once."""
    return json_line(kind, _data(event, kind))


_shared_line, _shared_large_line = lru_cache(256)(_json_line), lru_cache(4)(_json_line)
_SMALL = 64 * 1024


def _line(kind: bytes, data: bytes, request: WatchRequest) -> bytes:
    return request.line(kind, data if request.render is None else request.render(data))


def _bookmark(request: WatchRequest, revision: int, annotations: dict[str, str]) -> bytes:
    """An empty object at a revision, shown as other objects are."""
    metadata: Object = {"resourceVersion": str(revision)}
    if annotations:
        metadata["annotations"] = annotations
    return _line(b"BOOKMARK", orjson.dumps({**request.empty(), "metadata": metadata}), request)


def _error(request: WatchRequest, error: status.StatusError) -> bytes:
    return request.line(b"ERROR", orjson.dumps(error.status()))
