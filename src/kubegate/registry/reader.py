"""`storage.Reader` over the watch cache: objects by group resource, for those who decide."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from kubegate.registry.keys import Keys
from kubegate.storage import ObjectEvent
from kubegate.storage.cache import CacheEvent, WatchCache

log = logging.getLogger(__name__)

Listener = Callable[[ObjectEvent, dict[str, Any], dict[str, Any] | None], None]


class CacheReader:
    """Nothing here waits; objects are decoded when asked for."""

    def __init__(self, cache: WatchCache, keys: Keys) -> None:
        self._cache, self._keys = cache, keys
        self._listeners: dict[str, tuple[Listener, ...]] = {}

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        entry = self._cache.get(self._keys.key(resource, namespace, name))
        return entry.object() if entry is not None else None

    def list(self, resource: str, namespace: str = "") -> Sequence[dict[str, Any]]:
        entries, _ = self._cache.range(self._keys.prefix(resource, namespace))
        return [entry.object() for entry in entries]

    def subscribe(self, resource: str, on_event: Listener) -> Callable[[], None]:
        for entry in self._cache.range(self._keys.prefix(resource))[0]:
            on_event(ObjectEvent.ADDED, entry.object(), None)
        if resource not in self._listeners:
            self._listeners[resource] = ()
            self._cache.subscribe(self._keys.prefix(resource), self._teller(resource))
        self._listeners[resource] += (on_event,)

        def end() -> None:
            listeners = list(self._listeners[resource])
            with suppress(ValueError):  # to end it twice is no error
                listeners.remove(on_event)
            self._listeners[resource] = tuple(listeners)

        return end

    def _teller(self, resource: str) -> Callable[[CacheEvent], None]:
        """Tells all who subscribed to a resource of each change, which is decoded once for them."""

        def tell(event: CacheEvent) -> None:
            listeners = self._listeners[resource]
            if not listeners:
                return
            previous = event.previous.object() if event.previous is not None else None
            if event.entry is not None:
                kind = ObjectEvent.ADDED if previous is None else ObjectEvent.MODIFIED
                obj = event.entry.object()
            elif previous is not None:
                kind, obj = ObjectEvent.DELETED, previous
            else:
                return
            for on_event in listeners:
                try:
                    on_event(kind, obj, previous)
                except Exception:  # the write is durable already, and others must hear of it
                    log.exception("a subscriber of %s failed at %s", resource, event.key)

        return tell
