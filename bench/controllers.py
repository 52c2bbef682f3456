"""A thousand namespaces with ten objects each, made and deleted; a large Deployment on simulated nodes."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp

from bench.harness import Figure, Process, kubegate

NAMESPACES = "/api/v1/namespaces"
CONNECTIONS = 32
LONGEST = 900.0
LABELS = {"app": "web"}
Object = dict[str, Any]


def objects() -> Iterator[tuple[str, Object]]:
    """Collection below a namespace, and the object, of each of the ten."""
    for name in ("a", "b", "c"):
        yield "/api/v1/{}/configmaps", {"metadata": {"name": name}, "data": {"key": "value"}}
    for name in ("a", "b"):
        yield "/api/v1/{}/secrets", {"metadata": {"name": name}, "stringData": {"key": "value"}}
    yield "/api/v1/{}/serviceaccounts", {"metadata": {"name": "robot"}}
    yield "/api/v1/{}/services", {"metadata": {"name": "web"}, "spec": {"selector": LABELS, "ports": [{"port": 80}]}}
    rbac = "/apis/rbac.authorization.k8s.io/v1/{}"
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    yield f"{rbac}/roles", {"metadata": {"name": "reads"}, "rules": [rule]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads"}
    subject = {"kind": "ServiceAccount", "name": "robot"}
    yield f"{rbac}/rolebindings", {"metadata": {"name": "reads"}, "roleRef": role, "subjects": [subject]}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template}
    yield "/apis/apps/v1/{}/deployments", {"metadata": {"name": "web"}, "spec": spec}


class Load:
    def __init__(self, server: Process, session: aiohttp.ClientSession) -> None:
        self.server, self._session = server, session
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def ask(self, method: str, path: str, body: Object | None = None) -> Object:
        async with (
            self._slots,
            self._session.request(method, self.server.url + path, json=body) as answer,
        ):
            found: Object = await answer.json()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {found.get('message')}")
            return found

    async def count(self, path: str) -> int:
        found = await self.ask("GET", f"{path}?limit=1")
        return len(found["items"]) + int(found["metadata"].get("remainingItemCount", 0))

    async def until(self, path: str, done: Callable[[int], bool]) -> None:
        """Until as many objects as `done` wants are there."""
        deadline = time.monotonic() + LONGEST
        while not done(await self.count(path)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{path} did not become what it should in {LONGEST:g} s")
            await asyncio.sleep(0.02)

    async def make(self, name: str) -> None:
        await self.ask("POST", NAMESPACES, {"metadata": {"name": name, "labels": {"bench": "yes"}}})
        where = f"namespaces/{name}"
        await self.until(f"/api/v1/{where}/serviceaccounts", lambda count: count > 0)
        await asyncio.gather(*(self.ask("POST", path.format(where), obj) for path, obj in objects()))

    async def left(self) -> list[str]:
        """What is still in namespaces of ours, of any kind."""
        found = []
        for group in ("/api/v1", *(f"/apis/{one}" for one in await self._groups())):
            for resource in (await self.ask("GET", group))["resources"]:
                if resource["namespaced"] and "list" in resource["verbs"]:
                    items = (await self.ask("GET", f"{group}/{resource['name']}"))["items"]
                    places = [one["metadata"]["namespace"] for one in items]
                    found += [f"{resource['name']} in {place}" for place in places if place.startswith("bench-")]
        return found

    async def _groups(self) -> list[str]:
        groups = (await self.ask("GET", "/apis"))["groups"]
        return [version["groupVersion"] for group in groups for version in group["versions"]]


def run(quick: bool) -> Iterator[Figure]:
    count = 40 if quick else 1000
    for storage, name in (("memory", "in memory"), ("sqlite", "SQLite")):
        with kubegate(storage) as server:
            made, deleted, left, megabytes = asyncio.run(measured(server, count))
        what = f"{count:,} namespaces with 10 objects each, {name}"
        yield Figure(f"{what}: made", made, "s", note=f"until their Deployments have pods; {megabytes:.0f} MB")
        yield Figure(f"{what}: deleted", deleted, "s", note=f"{left} objects left over")

    pods = 50 if quick else 500
    with kubegate("memory", "--simulate-nodes=10") as server:
        seconds = asyncio.run(rolled_out(server, pods))
    yield Figure(f"a Deployment of {pods} pods on 10 simulated nodes: rolled out", seconds, "s")


async def rolled_out(server: Process, count: int) -> float:
    """Seconds until all pods of a Deployment are available, each with its token in a folder."""
    context = ssl.create_default_context(cafile=str(server.ca))
    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    async with aiohttp.ClientSession(connector=connector, headers=server.headers) as session:
        load = Load(server, session)
        await load.until("/api/v1/nodes", lambda found: found == 10)
        await load.until(f"{NAMESPACES}/default/serviceaccounts", lambda found: found > 0)
        path, obj = next(one for one in objects() if one[0].endswith("deployments"))
        path = path.format("namespaces/default")
        start = time.perf_counter()
        await load.ask("POST", path, {**obj, "spec": {**obj["spec"], "replicas": count}})
        for _ in range(int(LONGEST / 0.05)):
            found = await load.ask("GET", f"{path}/web")
            if found.get("status", {}).get("availableReplicas") == count:
                return time.perf_counter() - start
            await asyncio.sleep(0.05)
        raise RuntimeError(f"{count} pods were not available in {LONGEST:g} s")


async def measured(server: Process, count: int) -> tuple[float, float, int, float]:
    """Seconds to make and to delete, objects that are left, and megabytes of the server at its fullest."""
    context = ssl.create_default_context(cafile=str(server.ca))
    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    async with aiohttp.ClientSession(connector=connector, headers=server.headers) as session:
        load = Load(server, session)
        names = [f"bench-{number}" for number in range(count)]
        before = await load.count(NAMESPACES)
        start = time.perf_counter()
        batches = [names[at : at + CONNECTIONS] for at in range(0, count, CONNECTIONS)]
        for batch in batches:
            await asyncio.gather(*(load.make(name) for name in batch))
        await load.until("/api/v1/pods", lambda found: found >= 2 * count)
        made, megabytes = time.perf_counter() - start, server.memory_mb()
        start = time.perf_counter()
        await asyncio.gather(*(load.ask("DELETE", f"{NAMESPACES}/{name}") for name in names))
        await load.until(NAMESPACES, lambda found: found <= before)
        deleted = time.perf_counter() - start
        left = await load.left()
        if left:
            print(json.dumps(left[:20]))
        return made, deleted, len(left), megabytes
