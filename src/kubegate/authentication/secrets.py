"""Comparing and remembering secrets: never by the secret itself, always by a keyed hash of it.

A lookup by keyed hash takes the same time whatever an attacker guessed, and a cache that leaks gives nothing away.
"""

from __future__ import annotations

import hashlib
import os
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Digest:
    """A keyed hash of text, with a key of its own. The last text is kept: several ask for one request's token.

    SHA-256 after the key: digests are never shown to anybody who could make a longer text's of one.
    """

    __slots__ = ("_keyed", "_last")

    def __init__(self) -> None:
        self._keyed = hashlib.sha256(os.urandom(64))
        self._last: tuple[str, bytes] = ("", b"")

    def __call__(self, secret: str) -> bytes:
        text, found = self._last
        if text is not secret:
            hashed = self._keyed.copy()
            hashed.update(secret.encode("utf-8", "surrogateescape"))
            found = hashed.digest()
            self._last = (secret, found)
        return found


class BoundedCache(Generic[Value]):
    """Values until a time, at most `limit` of them: the one not used for longest goes first. Not for threads.

    Who was used last is noted from when half of the places are taken.
    """

    __slots__ = ("_entries", "_half", "limit")

    def __init__(self, limit: int) -> None:
        self.limit, self._half = limit, limit // 2
        self._entries: dict[object, tuple[float, Value]] = {}

    def get(self, key: object, now: float) -> Value | None:
        """The value, None where there is none or its time is over."""
        entries = self._entries
        entry = entries.get(key)
        if entry is None:
            return None
        if entry[0] <= now:
            del entries[key]
            return None
        if len(entries) >= self._half:
            entries[key] = entries.pop(key)
        return entry[1]

    def put(self, key: object, value: Value, until: float) -> None:
        self._entries.pop(key, None)
        while len(self._entries) >= self.limit:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (until, value)

    def drop(self, key: object) -> None:
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
