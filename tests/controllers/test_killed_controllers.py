"""Controllers that end at any call finish their work when they are started again: nothing twice, nothing left over."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from controllers_world import ControllersWorld, Flags, StandingClock, controllers_world, due

from kubegate.api.status import StatusError
from kubegate.authentication.signing import TokenSigner
from kubegate.controllers import Worker, World
from kubegate.controllers.manager import MODULES
from kubegate.nodes import World as NodesWorld
from kubegate.nodes.simulation import Simulation
from kubegate.pki import keys
from kubegate.registry.internal import Internal
from kubegate.storage import Reader

Object = dict[str, Any]
LABELS = {"app": "web"}
_OTHERS = ("certificatesigning", "validatingadmission", "aws")  # of what nothing is asked for here
NAMES = [name for name in MODULES if not name.startswith(_OTHERS)]
MOST_STEPS = 20_000


class Killed(BaseException):
    """The process ends here. No controller may catch it."""


class Fate:
    """Ends the process at the `left`-th call from now on, before the call or right after it; never where it is None."""

    def __init__(self, left: int | None, after: bool) -> None:
        self.left, self.after = left, after

    def before(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left <= 0 and not self.after:
                raise Killed

    def done(self) -> None:
        if self.left is not None and self.left <= 0:
            raise Killed


class MortalClient:
    """Every call of a client is a point at which the process may end."""

    def __init__(self, client: Internal, fate: Fate) -> None:
        self._client, self._fate = client, fate

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*words: Any, **more: Any) -> Any:
            self._fate.before()
            try:
                return await method(*words, **more)
            finally:
                self._fate.done()

        return call


class MortalReader:
    """What was subscribed to ends with the process."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._ends: list[Callable[[], None]] = []
        self.get, self.list = reader.get, reader.list

    def subscribe(self, resource: str, on_event: Any) -> Callable[[], None]:
        end = self._reader.subscribe(resource, on_event)
        self._ends.append(end)
        return end

    def end(self) -> None:
        for end in self._ends:
            end()


class Process:
    """All controllers and two simulated nodes, from their start to their end."""

    def __init__(self, world: ControllersWorld, folder: Path, fate: Fate, signer: TokenSigner) -> None:
        self.clock: StandingClock = world.clock
        self.reader = MortalReader(world.registry.reader)
        registry = world.registry
        clients = lambda name: MortalClient(Internal(registry, manager="kube-controller-manager"), fate)  # noqa: E731
        settings = World(self.reader, clients, world.clock, registry.resources, world.flags, signer=signer)
        self.workers: list[Worker] = []
        for name in NAMES:
            controller = import_module(f"kubegate.controllers.{MODULES[name]}").build()
            controller.start(settings)
            self.workers.append(controller)
        nodes = NodesWorld(
            self.reader,
            lambda user, manager: MortalClient(Internal(registry, user, manager), fate),
            world.clock,
            folder,
            lambda: ("127.0.0.1", 6443),
        )
        self._simulation = Simulation(nodes, 2)

    async def run(self, chance: random.Random) -> None:
        """Until there is nothing to do now. Raises Killed."""
        await self._simulation.kubelet.look()
        for part in (self._simulation.machines, self._simulation.scheduler, self._simulation.kubelet):
            part.start()
            self.workers.append(part)
        for _ in range(MOST_STEPS):
            ready = [worker for worker in self.workers if due(worker, self.clock.time)]
            if not ready:
                later = [worker.queue._later[0][0] for worker in self.workers if worker.queue._later]
                soon = min(later, default=self.clock.time + 60)
                if soon > self.clock.time + 1:  # only what waits for its time is left
                    return
                self.clock.time = soon
                continue
            worker = chance.choice(ready)
            key = await worker.queue.get(self.clock)
            try:
                await worker.sync(key)
                worker.queue.succeeded(key)
            except StatusError:
                worker.queue.failed(key, self.clock.monotonic())
            worker.queue.done(key)
        raise AssertionError("the controllers never come to rest")


def template(**spec: Any) -> Object:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec}}


async def wishes(world: ControllersWorld) -> None:
    """What people have asked for before any controller runs."""
    client = world.client
    for namespace in ("ns", "going"):
        await client.create("namespaces", "", {"metadata": {"name": namespace}})
        sets = {"selector": {"matchLabels": LABELS}, "template": template()}
        meta = {"metadata": {"name": "web", "namespace": namespace}}
        await client.create("deployments.apps", namespace, {**meta, "spec": {"replicas": 3, **sets}})
        job = {"template": template(restartPolicy="Never"), "completions": 3, "parallelism": 2}
        await client.create("jobs.batch", namespace, {**meta, "spec": job})
        await client.create("serviceaccounts", namespace, {"metadata": {"name": "robot"}})
        annotations = {"kubernetes.io/service-account.name": "robot"}
        key = {"metadata": {"name": "key", "annotations": annotations}, "type": "kubernetes.io/service-account-token"}
        await client.create("secrets", namespace, key)
    other = {
        "selector": {"matchLabels": {"app": "set"}},
        "template": {**template(), "metadata": {"labels": {"app": "set"}}},
    }
    await client.create("statefulsets.apps", "ns", {"metadata": {"name": "set"}, "spec": {"replicas": 2, **other}})
    third = {
        "selector": {"matchLabels": {"app": "ds"}},
        "template": {**template(), "metadata": {"labels": {"app": "ds"}}},
    }
    await client.create("daemonsets.apps", "ns", {"metadata": {"name": "ds"}, "spec": third})
    ports = {"selector": LABELS, "ports": [{"port": 80}]}
    await client.create("services", "ns", {"metadata": {"name": "web"}, "spec": ports})
    await client.create("resourcequotas", "ns", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "50"}}})
    owned = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000001"}]
    await client.create("configmaps", "ns", {"metadata": {"name": "orphan", "ownerReferences": owned}})


async def second_wishes(world: ControllersWorld) -> None:
    """What they ask for later: one namespace is to go, one Deployment has another image."""
    await world.client.delete("namespaces", "", "going")
    found = await world.client.get("deployments.apps", "ns", "web")
    assert found is not None
    found["spec"]["template"]["spec"]["containers"][0]["image"] = "i:2"
    found["spec"]["replicas"] = 2
    await world.client.update("deployments.apps", "ns", "web", found)


def outcome(world: ControllersWorld) -> Object:
    """What has become of it, without names and times that chance gives."""
    reader = world.registry.reader
    pods = Counter(
        (pod["metadata"]["namespace"], pod["metadata"]["ownerReferences"][0]["kind"], pod["status"]["phase"])
        for pod in reader.list("pods")
    )
    return {
        "namespaces": world.names("namespaces", ""),
        "left in the one that went": [
            resource.stored_as
            for resource in world.registry.resources
            if resource.namespaced and resource.persistent and reader.list(resource.stored_as, "going")
        ],
        "pods": dict(sorted(pods.items())),
        "images": sorted(pod["spec"]["containers"][0]["image"] for pod in reader.list("pods", "ns")),
        "deployment": _counts(world.must("deployments.apps", "web")),
        "replicasets": sorted(found["spec"]["replicas"] for found in reader.list("replicasets.apps", "ns")),
        "job": _counts(world.must("jobs.batch", "web")),
        "statefulset": _counts(world.must("statefulsets.apps", "set")),
        "daemonset": _counts(world.must("daemonsets.apps", "ds")),
        "quota": world.must("resourcequotas", "q")["status"]["used"],
        "token": sorted(world.must("secrets", "key")["data"]),
        "configmaps": world.names("configmaps"),
        "endpoints": [
            len(found.get("endpoints") or ()) for found in reader.list("endpointslices.discovery.k8s.io", "ns")
        ],
        "nodes": world.names("nodes", ""),
    }


def _counts(obj: Object) -> Object:
    return {name: value for name, value in obj["status"].items() if isinstance(value, int) and value}


async def lives(folder: Path, seed: int | None) -> tuple[Object, int]:
    """The outcome, and how many processes it took; `seed` None: one that nobody ends."""
    chance = random.Random(seed)
    signer = TokenSigner(keys.generate(), "https://issuer.example.org")
    count = 0
    async with controllers_world(Flags(root_ca_file=str(folder / "ca.crt"))) as world:
        for ask in (wishes, second_wishes):
            await ask(world)
            for number in range(61):
                immortal = seed is None or number == 60
                fate = Fate(None if immortal else chance.randint(1, 60), chance.random() < 0.5)
                process = Process(world, folder / "pods", fate, signer)
                count += 1
                try:
                    await process.run(chance)
                    break
                except Killed:
                    continue
                finally:
                    process.reader.end()
        running = {
            pod["metadata"]["uid"] for pod in world.registry.reader.list("pods") if pod["status"]["phase"] == "Running"
        }
        assert {place.parent.name for place in (folder / "pods").glob("*/pod.json")} == running
        there = {pod["metadata"]["uid"] for pod in world.registry.reader.list("pods")}
        assert {place.name for place in (folder / "pods").iterdir()} <= there
        return outcome(world), count


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Object:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "ca.crt").write_text("PEM")
    found, count = asyncio.run(lives(folder, None))
    assert count == 2
    return found


def test_what_is_asked_for_comes_about(undisturbed: Object) -> None:
    assert undisturbed["namespaces"] == ["ns"]
    assert undisturbed["left in the one that went"] == []
    assert undisturbed["pods"] == {
        ("ns", "DaemonSet", "Running"): 2,
        ("ns", "Job", "Succeeded"): 3,
        ("ns", "ReplicaSet", "Running"): 2,
        ("ns", "StatefulSet", "Running"): 2,
    }
    assert undisturbed["job"]["succeeded"] == 3
    assert undisturbed["token"] == ["ca.crt", "namespace", "token"]
    assert undisturbed["configmaps"] == ["kube-root-ca.crt"]


@pytest.mark.parametrize("seed", range(12))
async def test_controllers_that_are_killed_again_and_again_come_to_the_same(
    undisturbed: Object, tmp_path: Path, seed: int
) -> None:
    (tmp_path / "ca.crt").write_text("PEM")
    found, count = await lives(tmp_path, seed)
    assert count > 10
    assert found == undisturbed
