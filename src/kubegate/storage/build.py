"""From the server's options to the store they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from kubegate.api.clock import Clock, SystemClock
from kubegate.api.resources import Resources, storage_prefix
from kubegate.storage import Store
from kubegate.storage.compaction import INTERVAL

T = TypeVar("T")

ROOT = "/registry"
"""What all keys begin with."""

FILE = "kubegate.db"
"""The SQLite file's name in the data directory."""


class StorageOptions(Struct, frozen=True):
    """Where objects live, in kube-apiserver's option names where it has them.

    `storage` is `sqlite:PATH` or `memory`; empty: etcd where `etcd_servers` (URLs) are given, else the file
    `kubegate.db` in `data_dir`. Files are PEM. `compaction_interval` in seconds, 0 for none. `keeper` is the folder of
    the process that keeps the store these options name, for those who use it through that process.
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
    keeper: str = ""


def open_store(options: StorageOptions, clock: Clock | None = None) -> Store:
    """The store, not started yet. Raises ValueError for options that contradict each other or name nothing."""
    if options.keeper:
        from kubegate.storage.kept import KeptStore

        return KeptStore(options.keeper, clock)
    engine = _engine(options, clock or SystemClock())
    if not options.encryption_provider_config:
        return engine
    from kubegate.storage.encryption import EncryptedStore, parse

    prefix = "/" + options.etcd_prefix.strip("/") if options.etcd_servers else ROOT
    return EncryptedStore(
        engine,
        _read(options.encryption_provider_config, parse),
        GroupResources().of,
        lambda key: prefix + key.removeprefix(ROOT),
    )


class GroupResources:
    """The group resource of a key: `/registry/deployments/ns/a` is one of `deployments.apps`.

    Built-in resources lie where kube-apiserver keeps them, custom ones under `GROUP/RESOURCE/`.
    """

    def __init__(self) -> None:
        self._known = {
            storage_prefix(resource.stored_as): resource.stored_as
            for resource in Resources.built_in()
            if resource.persistent
        }

    def of(self, key: str) -> str:
        first, _, rest = key.removeprefix(f"{ROOT}/").partition("/")
        second = rest.partition("/")[0]
        known = self._known.get(f"{first}/{second}/") or self._known.get(f"{first}/")
        return known or f"{second}.{first}"


def _engine(options: StorageOptions, clock: Clock) -> Store:
    kind, _, path = options.storage.partition(":")
    interval = options.compaction_interval
    if options.etcd_servers and options.storage:
        raise ValueError("--etcd-servers and --storage exclude each other: objects live in one place")
    if options.etcd_servers:
        from kubegate.storage.etcd import EtcdStore
        from kubegate.storage.etcd_client import Endpoints

        files = (options.etcd_cafile, options.etcd_certfile, options.etcd_keyfile)
        endpoints = Endpoints(options.etcd_servers, *files)
        return EtcdStore(endpoints, clock, prefix=options.etcd_prefix, compaction_interval=interval)
    if kind == "memory" and not path:
        from kubegate.storage.memory import MemoryStore

        return MemoryStore(clock, compaction_interval=interval)
    if kind not in ("", "sqlite") or (kind == "sqlite" and not path):
        raise ValueError(f"--storage is sqlite:PATH or memory, not {options.storage!r}")
    if not path and not options.data_dir:
        raise ValueError("where shall objects live? Give --storage, --data-dir or --etcd-servers")
    from kubegate.storage.sqlite import SqliteStore

    return SqliteStore(path or Path(options.data_dir) / FILE, clock, compaction_interval=interval)


def _read(path: str, parse: Callable[[bytes], T]) -> T:
    """What a file says. Raises ValueError with the file's name for what is wrong with it."""
    try:
        return parse(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
