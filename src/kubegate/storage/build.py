"""From the server's options to the store they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kubegate.api.clock import Clock, SystemClock
from kubegate.storage import Store
from kubegate.storage.compaction import INTERVAL

FILE = "kubegate.db"
"""The SQLite file's name in the data directory."""


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """Where objects live, in kube-apiserver's option names where it has them.

    `storage` is `sqlite:PATH` or `memory`; empty: etcd where `etcd_servers` (URLs) are given, else the file
    `kubegate.db` in `data_dir`. Files are PEM. `compaction_interval` in seconds, 0 for none.
    """

    storage: str = ""
    data_dir: str = ""
    etcd_servers: Sequence[str] = ()
    etcd_prefix: str = "/registry"
    etcd_cafile: str = ""
    etcd_certfile: str = ""
    etcd_keyfile: str = ""
    compaction_interval: float = INTERVAL
    encryption_provider_config: str = ""


def open_store(options: StorageOptions, clock: Clock | None = None) -> Store:
    """The store, not started yet. Raises ValueError for options that contradict each other or name nothing."""
    clock = clock or SystemClock()
    kind, _, path = options.storage.partition(":")
    if options.etcd_servers and options.storage:
        raise ValueError("--etcd-servers and --storage exclude each other: objects live in one place")
    if kind == "memory" and not path:
        from kubegate.storage.memory import MemoryStore

        return MemoryStore(clock, compaction_interval=options.compaction_interval)
    if kind not in ("", "sqlite") or (kind == "sqlite" and not path):
        raise ValueError(f"--storage is sqlite:PATH or memory, not {options.storage!r}")
    if options.etcd_servers:
        from kubegate.storage.etcd import EtcdStore
        from kubegate.storage.etcd_client import Endpoints

        files = (options.etcd_cafile, options.etcd_certfile, options.etcd_keyfile)
        return EtcdStore(
            Endpoints(options.etcd_servers, *files),
            clock,
            prefix=options.etcd_prefix,
            compaction_interval=options.compaction_interval,
        )
    if not path and not options.data_dir:
        raise ValueError("where shall objects live? Give --storage, --data-dir or --etcd-servers")
    from kubegate.storage.sqlite import SqliteStore

    return SqliteStore(path or Path(options.data_dir) / FILE, clock, compaction_interval=options.compaction_interval)
