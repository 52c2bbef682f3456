"""`kubegate storage`: the tools for a store as a whole, on stopped stores and on stores in use."""

from __future__ import annotations

import asyncio
import base64
import os
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from msgspec.structs import replace
from storage_etcd import Cluster
from typer.testing import CliRunner, Result

from kubegate.cli.storage import app
from kubegate.storage import Compacted, Store
from kubegate.storage.build import StorageOptions, open_store

T = TypeVar("T")

POD, SECRET, EVENT = "/registry/pods/ns/a", "/registry/secrets/ns/s", "/registry/events/ns/e"


def storage(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> str:
    result = storage(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str | Path) -> str:
    result = storage(*arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return result.output


async def contents(store: Store) -> dict[str, bytes]:
    return {item.key: item.value for item in (await store.range("/registry/")).items}


async def fill(store: Store, pods: int = 20) -> dict[str, bytes]:
    """Objects with some history."""
    await asyncio.gather(*(store.put(f"{POD}{number}", b"%d" % number, 0) for number in range(pods)))
    await store.put(f"{POD}0", b"changed", None)
    await store.delete(f"{POD}1", None)
    await store.put(SECRET, b'{"data":"hidden words"}', 0)
    await store.put(EVENT, b"{}", 0, ttl=60)
    return await contents(store)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kubegate.db"


def run(options: StorageOptions, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    async def opened() -> T:
        store = open_store(options)
        await store.start()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(opened())


def sqlite(path: Path) -> StorageOptions:
    return StorageOptions(storage=f"sqlite:{path}")


def test_a_whole_store_is_said_to_be_whole(path: Path) -> None:
    run(sqlite(path), fill)
    assert "is whole: 21 keys, 24 changes in the log" in done("check", path)
    assert "is whole: 21 keys" in done("check", path.parent)
    assert "is whole: 21 keys" in done("check", f"sqlite:{path}")


def test_what_is_wrong_with_a_store_is_listed(path: Path) -> None:
    run(sqlite(path), fill)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE log SET value = x'00' WHERE key = ?", (SECRET,))
        file.execute("DELETE FROM log WHERE key = ? AND created > 0", (f"{POD}1",))
    file.close()
    output = refused("check", path)
    assert f"of {SECRET}: the checksum is wrong" in output
    assert f"of {POD}1: revision 3, which it follows, is missing" in output
    assert "2 faults" in output


def test_a_store_that_is_not_there_or_not_ours_is_named(tmp_path: Path) -> None:
    assert "there is no file" in refused("check", tmp_path / "none.db")
    (tmp_path / "text").write_text("hello, this is not a database at all")
    assert "not a kubegate store" in refused("check", tmp_path / "text")
    assert "needs the URL" in refused("check", "etcd:")


def test_compaction_forgets_history_and_gives_space_back(path: Path) -> None:
    async def rewrite(store: Store) -> int:
        for _ in range(30):
            await store.put(POD, os.urandom(50_000), None)
        return await store.revision()

    revision = run(sqlite(path), rewrite)
    size = path.stat().st_size
    assert "is compacted" in done("compact", path)
    assert path.stat().st_size < size / 5

    async def read(store: Store) -> None:
        assert await store.revision() == revision
        assert await store.get(POD) is not None
        with pytest.raises(Compacted):
            await store.get(POD, revision - 1)

    run(sqlite(path), read)


def test_a_backup_is_the_store_of_that_moment(path: Path, tmp_path: Path) -> None:
    before = run(sqlite(path), fill)
    assert "has 21 keys" in done("backup", tmp_path / "backup.db", path)
    run(sqlite(path), lambda store: store.delete(SECRET, None))
    assert "exists already" in refused("backup", tmp_path / "backup.db", path)
    assert run(sqlite(tmp_path / "backup.db"), contents) == before
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600


def test_a_restored_store_goes_on_after_all_that_clients_can_have_seen(path: Path, tmp_path: Path) -> None:
    before = run(sqlite(path), fill)
    done("backup", tmp_path / "backup.db", path)
    lost = run(sqlite(path), lambda store: store.put(POD, b"later", 0))
    assert "exists already" in refused("restore", tmp_path / "backup.db", path)
    assert "has 21 keys" in done("restore", "--force", tmp_path / "backup.db", path)

    async def look(store: Store) -> None:
        assert await contents(store) == before
        assert await store.put(POD, b"again", 0) > lost + 1000
        with pytest.raises(Compacted):
            await anext(store.watch("/registry/", lost))

    run(sqlite(path), look)
    assert "is whole" in done("check", path)
    assert sorted(file.name for file in tmp_path.iterdir() if "restoring" in file.name) == []


def test_a_damaged_backup_is_not_restored(path: Path, tmp_path: Path) -> None:
    run(sqlite(path), fill)
    done("backup", tmp_path / "backup.db", path)
    with sqlite3.connect(tmp_path / "backup.db") as file:
        file.execute("UPDATE log SET value = x'00' WHERE key = ?", (SECRET,))
    file.close()
    before = path.read_bytes()
    assert "checksum is wrong" in refused("restore", "--force", tmp_path / "backup.db", path)
    assert path.read_bytes() == before


def test_a_store_in_use_can_be_checked_copied_and_compacted_but_not_replaced(path: Path, tmp_path: Path) -> None:
    async def use(store: Store) -> None:
        before = await fill(store)
        old = await store.revision() - 1
        assert "is whole" in await asyncio.to_thread(done, "check", path)
        assert "has 21 keys" in await asyncio.to_thread(done, "backup", tmp_path / "b.db", path)
        assert "same" in await asyncio.to_thread(done, "migrate", "--from", path, "--to", tmp_path / "m.db")
        assert "is compacted" in await asyncio.to_thread(done, "compact", path)
        assert "in use by" in await asyncio.to_thread(refused, "restore", "--force", tmp_path / "b.db", path)
        assert await contents(store) == before
        with pytest.raises(Compacted):
            await store.range("/registry/", revision=old)
        await store.put(POD, b"goes on", 0)

    run(sqlite(path), use)
    assert "is whole: 22 keys" in done("check", path)


def test_a_store_moves_to_etcd_and_back(path: Path, tmp_path: Path, etcd: Cluster) -> None:
    before = run(sqlite(path), lambda store: fill(store, 700))
    prefix = f"--etcd-prefix={uuid4().hex}"
    there = f"etcd:{etcd.urls[0]}"
    assert "the 701 keys" in done("migrate", "--from", path, "--to", there, prefix)
    assert "is whole: 701 keys" in done("check", there, prefix)
    assert "not empty" in refused("migrate", "--from", path, "--to", there, prefix)
    assert "is compacted" in done("compact", there, prefix)
    assert "the 701 keys" in done("migrate", "--from", there, "--to", tmp_path / "back.db", prefix)
    assert "has 701 keys" in done("backup", tmp_path / "backup.db", there, prefix)
    assert run(sqlite(tmp_path / "back.db"), contents) == before
    assert run(sqlite(tmp_path / "backup.db"), contents) == before
    assert "not empty" in refused("restore", tmp_path / "backup.db", there, prefix)
    elsewhere = f"--etcd-prefix={uuid4().hex}"
    assert "has 701 keys" in done("restore", tmp_path / "backup.db", there, elsewhere)


def test_revisions_go_on_in_a_file_that_a_store_moves_to(path: Path, tmp_path: Path) -> None:
    run(sqlite(path), fill)
    revision = run(sqlite(path), lambda store: store.revision())
    done("migrate", "--from", path, "--to", tmp_path / "other.db")
    found = run(sqlite(tmp_path / "other.db"), lambda store: store.range("/registry/"))
    assert min(item.mod_revision for item in found.items) > revision


def test_values_are_written_again_after_a_change_of_keys(path: Path, tmp_path: Path) -> None:
    before = run(sqlite(path), fill)
    key = base64.b64encode(b"k" * 32).decode()
    configuration = tmp_path / "encryption.yaml"
    configuration.write_text(
        "{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{resources: [secrets],"
        f" providers: [{{aesgcm: {{keys: [{{name: one, secret: {key}}}]}}}}, {{identity: {{}}}}]}}]}}"
    )
    option = f"--encryption-provider-config={configuration}"
    assert "1 of 21 keys were written again" in done("encrypt", path, option)
    assert "0 of 21 keys were written again" in done("encrypt", path, option)
    assert "is whole: 21 keys" in done("check", path, option)
    done("compact", path)
    assert b"hidden words" not in path.read_bytes()
    assert run(replace(sqlite(path), encryption_provider_config=str(configuration)), contents) == before
    plain = run(sqlite(path), contents)
    assert plain[SECRET].startswith(b"k8s:enc:aesgcm:v1:one:")
    configuration.write_text(configuration.read_text().replace("name: one", "name: two"))
    assert f"{SECRET} cannot be decrypted" in refused("check", path, option)
