"""What a decision costs: decisions a second in process and over HTTP, index updates and memory, by number of bindings.

The cluster is of the usual kind: a RoleBinding for each of many users to one of a hundred ClusterRoles, spread over
namespaces, a tenth of them to groups, with the bootstrap roles beside them. The questions are those of a user with one
binding of its own and two groups, and of one in 300 groups.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.harness import Figure, kubegate, requests_per_second
from kubegate.analysis.sources import Cluster
from kubegate.analysis.whocan import who_can
from kubegate.api.clock import SystemClock
from kubegate.api.resources import Resources
from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes
from kubegate.authorization.bootstrap import objects
from kubegate.authorization.rbac import CLUSTER_ROLES, ROLE_BINDINGS, RbacIndex
from kubegate.registry import wire
from kubegate.registry.keys import Keys
from kubegate.storage.build import StorageOptions, open_store

SIZES = (10, 1_000, 10_000, 100_000)
GROUP = "rbac.authorization.k8s.io"


def run(quick: bool = False) -> Iterator[Figure]:
    """Shorter rounds, and 10,000 bindings at most, where `quick`."""
    least = 0.2 if quick else 1.0
    for size in SIZES[: 3 if quick else 4]:
        index, memory = indexed(size)
        user = UserInfo("user-5", "", ("dev", "system:authenticated"))
        many = UserInfo("user-5", "", tuple(f"group-{9 + 10 * number}" for number in range(300)))
        where = f"{size:,} bindings"
        for name, attributes in (
            ("allowed", question(user, "get")),
            ("refused", question(user, "delete")),
            ("refused, in 300 groups", question(many, "delete")),
        ):
            assert index.decide(attributes).allowed == (name == "allowed")
            each = seconds_each(decide(index, attributes), least)
            yield Figure(f"RBAC decisions, {name}, {where}", 1 / each, "/s")
        yield Figure(f"RBAC index update of one binding, {where}", seconds_each(update(index), least) * 1e6, "µs")
        if size >= 1_000:
            yield Figure(f"RBAC index memory, {where}", memory / size, "bytes a binding")
        source = Cluster.of_index(index)
        start = time.perf_counter()
        found = who_can(source, question(UserInfo(""), "get"))
        assert len(found) > size / 2000
        yield Figure(f"who-can, {where}", (time.perf_counter() - start) * 1e3, "ms")
    for size in SIZES[:3:2] if quick else SIZES[::3]:
        yield Figure(f"authorized requests over HTTP, {size:,} bindings", over_http(size, least * 5), "/s")


def over_http(size: int, seconds: float) -> float:
    """A user with one binding lists an empty namespace of a server that holds so many bindings."""
    with tempfile.TemporaryDirectory(prefix="kubegate-bench-") as folder:
        asyncio.run(preload(Path(folder), size))
        with kubegate("sqlite", data_dir=Path(folder)) as server:
            path = "/api/v1/namespaces/team-5/pods"
            return requests_per_second(server, path, seconds=seconds, token="reader-token")


async def preload(folder: Path, size: int) -> None:
    """Write roles and bindings into the store before a server opens it."""
    keys = Keys(Resources.built_in())
    store = open_store(StorageOptions(storage=f"sqlite:{folder / 'kubegate.db'}"), clock=SystemClock())
    await store.start()
    found = [obj for obj in cluster(0) if obj["metadata"]["name"].startswith("role-")]
    found += [binding(number) for number in range(size)] + [{**binding(5, "reader"), "kind": "RoleBinding"}]
    found[-1]["metadata"]["name"] = "reader"
    try:
        for start in range(0, len(found), 1000):
            await asyncio.gather(*(put(store, keys, obj) for obj in found[start : start + 1000]))
    finally:
        await store.close()


async def put(store: Any, keys: Keys, obj: dict[str, Any]) -> None:
    metadata = obj["metadata"]
    resource = CLUSTER_ROLES if obj["kind"] == "ClusterRole" else ROLE_BINDINGS
    key = keys.key(resource, metadata.get("namespace", ""), metadata["name"])
    stored = {"apiVersion": f"{GROUP}/v1", **obj, "metadata": {"uid": metadata["name"], **metadata}}
    await store.put(key, wire.encode(stored), 0)


def cluster(bindings: int) -> Iterator[dict[str, Any]]:
    yield from objects()
    for number in range(100):
        rules = [
            {"apiGroups": ["", "apps"], "resources": ["pods", "pods/log", "deployments"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [f"c{number}"], "verbs": ["get"]},
        ]
        yield {"kind": "ClusterRole", "metadata": {"name": f"role-{number}"}, "rules": rules}
    for number in range(bindings):
        yield binding(number)


def binding(number: int, user: str = "") -> dict[str, Any]:
    kind = "Group" if number % 10 == 9 else "User"
    return {
        "kind": "RoleBinding",
        "metadata": {"name": f"binding-{number}", "namespace": f"team-{number % 1000}"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": f"role-{number % 100}"},
        "subjects": [{"kind": kind, "apiGroup": GROUP, "name": user or f"{kind.lower()}-{number}"}],
    }


def indexed(size: int) -> tuple[RbacIndex, int]:
    """The index, and the bytes that its bindings take. The objects themselves are let go."""
    tracemalloc.start()
    index = RbacIndex()
    for obj in cluster(0):
        index.put(obj)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(size):
        index.put(binding(number))
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return index, taken


def question(who: UserInfo, verb: str) -> Attributes:
    return Attributes(who, verb, True, "", "v1", "pods", "log", "team-5", "p")


def decide(index: RbacIndex, attributes: Attributes) -> Callable[[], object]:
    return lambda: index.decide(attributes)


def update(index: RbacIndex) -> Callable[[], object]:
    """One binding goes to and fro between two users."""
    turn = [binding(5), binding(5, "somebody-else")]

    def once() -> None:
        turn.reverse()
        index.put(turn[0])

    return once


def seconds_each(work: Callable[[], object], least: float) -> float:
    """The best of five rounds that take `least` seconds together."""
    best = float("inf")
    for _ in range(5):
        count, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < least / 5:
            for _ in range(200):
                work()
            count += 200
        best = min(best, spent / count)
    return best


if __name__ == "__main__":
    for figure in run():
        print(f"{figure.name:<60} {figure.value:>14,.1f} {figure.unit}")
