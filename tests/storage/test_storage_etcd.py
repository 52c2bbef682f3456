"""The etcd engine: how keys lie there, TLS, and what happens while etcd does not do as it should."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from storage_etcd import Cluster, free_ports, program

from kubegate.api.clock import SystemClock
from kubegate.pki import keys
from kubegate.pki.certificates import SERVER_AND_CLIENT, Subject, certificate_pem, issue, new_authority
from kubegate.storage import StoreUnavailable
from kubegate.storage.build import StorageOptions, open_store
from kubegate.storage.cache import NOTHING, WatchCache
from kubegate.storage.etcd import EtcdStore
from kubegate.storage.etcd_client import AT_ONCE, Endpoints, EtcdClient, messages

KEY = "/registry/pods/ns/a"


class Hurried(SystemClock):
    """Does not wait long before it tries again."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)


async def opened(cluster: Cluster, prefix: str = "/registry") -> EtcdStore:
    store = EtcdStore(Endpoints(cluster.urls), prefix=prefix)
    await store.start()
    return store


async def started(store: EtcdStore) -> WatchCache:
    cache = WatchCache(store, lambda key, value, revision: (value, NOTHING, NOTHING))
    await cache.start()
    return cache


async def put_at_last(cache: WatchCache, value: bytes) -> int:
    """Write as a client does that is told to try again; three times are enough."""
    for _ in range(2):
        with suppress(StoreUnavailable):
            return await cache.put(KEY, value, None)
    return await cache.put(KEY, value, None)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """One member that a test may spoil, with a quota of 16 MB."""
    if program() is None:
        pytest.skip("no etcd here: `python scripts/tools.py etcd` brings it")
    cluster = Cluster(tmp_path, more=["--quota-backend-bytes=16000000"])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Cluster]:
    if program() is None:
        pytest.skip("no etcd here: `python scripts/tools.py etcd` brings it")
    cluster = Cluster(tmp_path, 3)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


async def test_etcdctl_sees_keys_and_values_where_kube_apiserver_puts_them(etcd: Cluster) -> None:
    store = await opened(etcd)
    await store.put(KEY, b'{"kind":"Pod"}', None)
    assert etcd.etcdctl("get", KEY).stdout == f'{KEY}\n{{"kind":"Pod"}}\n'
    await store.delete(KEY, None)
    assert etcd.etcdctl("get", KEY).stdout == ""
    await store.close()


async def test_the_prefix_stands_in_place_of_registry(etcd: Cluster) -> None:
    store = await opened(etcd, "/team-a/registry/")
    await store.put(KEY, b"{}", None)
    assert etcd.etcdctl("get", "/team-a/registry/pods/ns/a", "--print-value-only").stdout == "{}\n"
    assert [item.key for item in (await store.range("/registry/")).items] == [KEY]
    other = await opened(etcd, "/team-b")
    assert await other.get(KEY) is None
    assert (await other.range("/registry/")).items == []
    await store.close()
    await other.close()


async def test_what_others_write_comes_through_the_watch(etcd: Cluster) -> None:
    store = await opened(etcd, "/others")
    cache = await started(store)
    etcd.etcdctl("put", "/others/pods/ns/b", "{}")
    await cache.fresh()
    assert cache.get("/registry/pods/ns/b") is not None
    await cache.close()
    await store.close()


async def test_ranges_of_more_than_a_page_are_whole_and_of_one_revision(etcd: Cluster) -> None:
    store = await opened(etcd, "/many")
    await asyncio.gather(*(store.put(f"{KEY}{number:04}", b"{}", 0) for number in range(1201)))
    page = await store.range("/registry/pods/")
    assert len(page.items) == 1201
    assert page.revision == await store.revision()
    some = await store.range("/registry/pods/", limit=700)
    assert (len(some.items), some.remaining) == (700, 501)
    await store.close()


async def test_keys_with_a_time_to_live_share_leases(etcd: Cluster) -> None:
    store = await opened(etcd, "/leases")
    before = len(etcd.etcdctl("lease", "list").stdout.splitlines())
    await asyncio.gather(*(store.put(f"/registry/events/ns/{number}", b"{}", 0, ttl=3600) for number in range(50)))
    assert len(etcd.etcdctl("lease", "list").stdout.splitlines()) == before + 1
    await store.close()


async def test_etcd_with_tls_asks_for_our_certificate_and_shows_its_own(tmp_path: Path) -> None:
    if program() is None:
        pytest.skip("no etcd here: `python scripts/tools.py etcd` brings it")
    authority = new_authority("etcd-ca")
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    for name in ("server", "client"):
        key = keys.generate()
        certificate = issue(authority, key.public_key(), Subject(name), usages=SERVER_AND_CLIENT, hosts=["127.0.0.1"])
        (tmp_path / f"{name}.crt").write_bytes(certificate_pem(certificate))
        (tmp_path / f"{name}.key").write_bytes(keys.private_pem(key))
    files = {name: str(tmp_path / name) for name in ("ca.crt", "client.crt", "client.key")}
    cluster = Cluster(
        tmp_path,
        scheme="https",
        more=[
            *(f"--cert-file={tmp_path}/server.crt", f"--key-file={tmp_path}/server.key"),
            *(f"--trusted-ca-file={tmp_path}/ca.crt", "--client-cert-auth"),
        ],
        etcdctl=[f"--cacert={files['ca.crt']}", f"--cert={files['client.crt']}", f"--key={files['client.key']}"],
    )
    try:
        cluster.start()
        options = StorageOptions(
            etcd_servers=cluster.urls,
            etcd_cafile=files["ca.crt"],
            etcd_certfile=files["client.crt"],
            etcd_keyfile=files["client.key"],
        )
        store = open_store(options)
        await store.start()
        await store.put(KEY, b"{}", 0)
        assert await store.get(KEY) is not None
        await store.close()
        stranger = open_store(StorageOptions(etcd_servers=cluster.urls, etcd_cafile=files["ca.crt"]), Hurried())
        with pytest.raises(StoreUnavailable):
            await stranger.start()
    finally:
        cluster.stop()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (StorageOptions(etcd_servers=["ftp://a"]), "'ftp://a' is not a URL"),
        (StorageOptions(etcd_servers=["https://a:1"], etcd_certfile="x"), "go together"),
        (StorageOptions(etcd_servers=["https://a:1"], storage="memory"), "exclude each other"),
        (StorageOptions(), "where shall objects live"),
        (StorageOptions(storage="paper"), "sqlite:PATH or memory"),
        (StorageOptions(storage="sqlite:"), "sqlite:PATH or memory"),
    ],
)
def test_options_that_name_no_store_are_refused(options: StorageOptions, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        open_store(options)


async def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    store = open_store(StorageOptions(etcd_servers=["https://127.0.0.1:1"], etcd_cafile=str(tmp_path / "none.crt")))
    with pytest.raises(ValueError, match=r"cannot read .*none\.crt"):
        await store.start()


async def test_an_etcd_that_cannot_be_reached_is_named_and_start_may_be_tried_again(tmp_path: Path) -> None:
    if program() is None:
        pytest.skip("no etcd here: `python scripts/tools.py etcd` brings it")
    cluster = Cluster(tmp_path)
    store = EtcdStore(Endpoints(cluster.urls), Hurried())
    with pytest.raises(StoreUnavailable, match=cluster.urls[0].removeprefix("http://")):
        await store.start()
    try:
        cluster.start()
        await store.start()
        await store.put(KEY, b"{}", 0)
        assert store.health() is None
        await store.close()
    finally:
        cluster.stop()


async def test_members_that_cannot_be_reached_are_passed_over(etcd: Cluster) -> None:
    dead = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
    store = EtcdStore(Endpoints([*dead, *etcd.urls]), prefix="/passed")
    await store.start()
    await store.put(KEY, b"{}", 0)
    assert store.health() is None
    await store.close()


async def test_what_waits_for_an_etcd_that_is_gone_is_bounded() -> None:
    (port,) = free_ports(1)
    client = EtcdClient(Endpoints([f"http://127.0.0.1:{port}"]), SystemClock())
    await client.start()
    request = messages().RangeRequest(key=b"a")
    waiting = [asyncio.ensure_future(client.call("Range", request, repeat=True)) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="waiting for etcd already"):
        await client.call("Range", request, repeat=True)
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await client.close()


async def test_a_full_etcd_refuses_writes_in_words_still_answers_reads_and_recovers(own: Cluster) -> None:
    store = await opened(own)
    cache = await started(store)
    revision = await cache.put(KEY, b"{}", 0)
    with pytest.raises(StoreUnavailable, match=r"etcd refuses writes: .*database space exceeded"):
        for number in range(200):
            await store.put(f"{KEY}{number}", b"x" * 1_000_000, 0)
    await cache.fresh()
    assert cache.get(KEY) is not None
    with pytest.raises(StoreUnavailable, match="space exceeded"):
        await cache.put(KEY, b"{}", revision)
    own.etcdctl("del", f"{KEY}0", f"{KEY}999")
    await store.compact(await store.revision())
    own.etcdctl("defrag")
    own.etcdctl("alarm", "disarm")
    await cache.put(KEY, b"{}", revision)
    assert cache.health() is None
    await cache.close()
    await store.close()


async def test_a_cluster_without_a_leader_is_named_and_forgiven(three: Cluster) -> None:
    store = await opened(three)
    cache = await started(store)
    await cache.put(KEY, b"{}", 0)
    leader = three.leader()
    others = [number for number in range(3) if number != leader]
    for number in others:
        three.kill(number)
    with pytest.raises(StoreUnavailable, match=r"etcd at 127\.0\.0\.1:\d+: "):
        await cache.put(KEY, b'{"n":1}', None)
    with pytest.raises(StoreUnavailable):
        await cache.fresh()
    assert (cache.health() or "").startswith("etcd at 127.0.0.1:")
    for number in others:
        three.start_member(number)
    three.wait()
    revision = await cache.put(KEY, b'{"n":2}', None)
    await cache.fresh()
    entry = cache.get(KEY)
    assert entry is not None
    assert (entry.data, entry.revision) == (b'{"n":2}', revision)
    assert cache.health() is None
    await cache.close()
    await store.close()


async def test_the_loss_of_the_leader_is_not_seen_by_clients_that_read_and_hardly_by_those_that_write(
    three: Cluster,
) -> None:
    store = await opened(three)
    cache = await started(store)
    await cache.put(KEY, b"{}", 0)
    three.kill(three.leader())
    await cache.fresh()
    await put_at_last(cache, b"{}")
    await cache.close()
    await store.close()


async def test_a_member_that_hangs_is_left_for_another(three: Cluster) -> None:
    follower = next(number for number in range(3) if number != three.leader())
    urls = [three.urls[follower], *(url for number, url in enumerate(three.urls) if number != follower)]
    store = EtcdStore(Endpoints(urls))
    await store.start()
    cache = await started(store)
    other = EtcdStore(Endpoints(urls[1:]))
    await other.start()
    await cache.put(KEY, b"{}", 0)
    three.pause(follower)
    try:
        revision = await other.put(KEY, b"{}", None)
        begin = time.monotonic()
        await cache.fresh()
        assert cache.revision >= revision
        assert time.monotonic() - begin < 9
        assert await put_at_last(cache, b"{}") > revision
    finally:
        three.go_on(follower)
    await cache.close()
    await store.close()
    await other.close()
