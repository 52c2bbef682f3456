"""Tokens between two runs: one file for each source, readable by its owner alone, used by one process at a time.

kubectl starts the plugin for every command, and many at once in scripts: the lock makes the first of them fetch the
token, or sign in, and the others find it there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kubegate.pki import files
from kubegate.tokens.credential import Credential, TokenError

LEEWAY = 60.0
"""Seconds before its end from which a token is no longer given out: it has a way to go."""

LOCK_SECONDS = 330.0
"""How long to wait for another process; signing in takes its time."""

_MAX_SIZE = 1024 * 1024
_PAUSE = 0.05


def default_folder(environment: Mapping[str, str]) -> Path:
    """$KUBEGATE_TOKEN_CACHE, or kubegate/tokens among the user's caches."""
    named = environment.get("KUBEGATE_TOKEN_CACHE", "")
    if named:
        return Path(named)
    caches = environment.get("XDG_CACHE_HOME", "")
    return (Path(caches) if caches else Path.home() / ".cache") / "kubegate" / "tokens"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file holds. `refresh` gets new tokens without signing in again."""

    credential: Credential | None = None
    refresh: str = ""


class Entry:
    """One source's file, locked as long as the `with` around it lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Kept:
        """What is kept. A file that cannot be understood counts as none; one that others may read is refused."""
        try:
            found = os.stat(self._path)
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise TokenError(f"{self._path} can be read by others; remove it, for its tokens may be known")
            content = self._path.read_bytes() if found.st_size <= _MAX_SIZE else b""
        except FileNotFoundError:
            return Kept()
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError:
            return Kept()
        return _kept(document) if isinstance(document, dict) else Kept()

    def write(self, kept: Kept) -> None:
        document: dict[str, Any] = {"refresh": kept.refresh}
        if kept.credential is not None:
            document |= {"token": kept.credential.token, "expires": kept.credential.expires}
        files.write_secret(self._path, orjson.dumps(document), force=True)

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)


class Store:
    """The folder of the files. It is made for its owner alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def entry(self, *key: str, within: float = LOCK_SECONDS) -> Iterator[Entry]:
        """The file for `key`, the words that tell one source from another. Raises TokenError.

        Blocks until no other process uses it, `within` seconds at most.
        """
        name = hashlib.sha256(orjson.dumps(key)).hexdigest()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise TokenError(f"{error.filename}: {error.strerror}") from None
        try:
            _lock(descriptor, within)
            yield Entry(self.folder / f"{name}.json")
        finally:
            os.close(descriptor)

    def clear(self) -> int:
        """Forget everything; gives how many files went."""
        found = list(self.folder.glob("*.json"))
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)


def remembered(store: Store, key: tuple[str, ...], now: float, fetch: Callable[[], Credential]) -> Credential:
    """The token kept for `key`, or what `fetch` gives: kept where its end is known. Raises TokenError."""
    with store.entry(*key) as entry:
        known = fresh(entry.read(), now)
        if known is not None:
            return known
        found = fetch()
        if found.expires is not None and found.expires > now + LEEWAY:
            entry.write(Kept(found))
        else:
            entry.clear()
        return found


def fresh(kept: Kept, now: float) -> Credential | None:
    """The token, where it is still good for a while."""
    found = kept.credential
    return found if found is not None and found.expires is not None and found.expires > now + LEEWAY else None


def _kept(document: Mapping[str, Any]) -> Kept:
    token, expires, refresh = document.get("token"), document.get("expires"), document.get("refresh")
    credential = None
    if isinstance(token, str) and token and isinstance(expires, int | float):
        credential = Credential(token, float(expires))
    return Kept(credential, refresh if isinstance(refresh, str) else "")


def _lock(descriptor: int, within: float) -> None:
    import fcntl

    end = time.monotonic() + within
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise TokenError(f"another process has been getting this token for {within:.0f} s") from None
        time.sleep(_PAUSE)
