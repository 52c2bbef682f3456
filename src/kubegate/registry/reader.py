"""`storage.Reader` over the watch cache: objects by group resource, for those who decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kubegate.registry.keys import Keys
from kubegate.storage import EventType, ObjectEvent
from kubegate.storage.cache import CacheEvent, WatchCache


class CacheReader:
    """Nothing here waits; objects are decoded when asked for."""

    def __init__(self, cache: WatchCache, keys: Keys) -> None:
        self._cache, self._keys = cache, keys

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        entry = self._cache.get(self._keys.key(resource, namespace, name))
        return entry.object() if entry is not None else None

    def list(self, resource: str, namespace: str = "") -> Sequence[dict[str, Any]]:
        entries, _ = self._cache.range(self._keys.prefix(resource, namespace))
        return [entry.object() for entry in entries]

    def subscribe(
        self, resource: str, on_event: Callable[[ObjectEvent, dict[str, Any], dict[str, Any] | None], None]
    ) -> Callable[[], None]:
        def on_change(event: CacheEvent) -> None:
            previous = event.previous.object() if event.previous is not None else None
            if event.type is EventType.DELETE:
                if previous is not None:
                    on_event(ObjectEvent.DELETED, previous, previous)
                return
            assert event.entry is not None
            kind = ObjectEvent.ADDED if previous is None else ObjectEvent.MODIFIED
            on_event(kind, event.entry.object(), previous)

        return self._cache.subscribe(self._keys.prefix(resource), on_change)
