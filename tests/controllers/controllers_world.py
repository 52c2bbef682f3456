"""Controllers over a registry of the built-in kinds: nothing runs by itself, time stands until a test moves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from kubegate.admission import Attributes
from kubegate.api.clock import rfc3339
from kubegate.api.resources import Resources
from kubegate.api.status import StatusError
from kubegate.authentication.signing import TokenSigner
from kubegate.authorization import Decision, Verdict
from kubegate.controllers import Controller, Worker, World
from kubegate.controllers.manager import MODULES
from kubegate.pki import keys as pki_keys
from kubegate.registry.codec import ObjectCodec
from kubegate.registry.generic import Registry
from kubegate.registry.internal import Internal
from kubegate.registry.keys import Keys
from kubegate.storage.cache import WatchCache
from kubegate.storage.memory import MemoryStore

Object = dict[str, Any]
NAMESPACE = "ns"
_MOST_STEPS = 2000


class StandingClock:
    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()  # until whoever sleeps is cancelled


@dataclass
class Flags:
    service_cluster_ip_range: str = "10.96.0.0/24"
    service_node_port_range: str = "30000-30063"
    root_ca_file: str = ""
    client_ca_file: str = ""
    service_account_legacy_tokens: bool = False
    legacy_service_account_token_clean_up_period: float = 365 * 86400.0
    cluster_signing_cert_file: str = ""
    cluster_signing_key_file: str = ""


class NoAdmission:
    async def admit(self, attributes: Attributes) -> None:
        pass

    async def validate(self, attributes: Attributes) -> None:
        pass


class Everyone:
    async def authorize(self, attributes: object) -> Decision:
        return Decision(Verdict.ALLOW)


class ControllersWorld:
    def __init__(self, registry: Registry, clock: StandingClock, flags: Flags) -> None:
        self.registry, self.clock, self.flags = registry, clock, flags
        self.client = Internal(registry)
        self._controllers: list[Worker] = []

    def run(self, *names: str) -> None:
        """Start these controllers; `settle` does their work."""
        signer = TokenSigner(pki_keys.generate(), "https://issuer.example.org")
        world = World(
            self.registry.reader,
            lambda name: Internal(self.registry, manager="kube-controller-manager"),
            self.clock,
            self.registry.resources,
            self.flags,
            signer=signer,
        )
        for name in names:
            controller: Controller = import_module(f"kubegate.controllers.{MODULES[name]}").build()
            controller.start(world)
            self._controllers.append(controller)

    def add(self, worker: Worker) -> None:
        """One more, which was started already."""
        self._controllers.append(worker)

    def stop(self) -> None:
        """The process ends: who was started does no more work."""
        self._controllers.clear()

    async def settle(self, most_steps: int = _MOST_STEPS) -> None:
        """Work until no key is due now. What failed is tried again at once, a few times."""
        failed: list[tuple[Worker, str]] = []
        for _ in range(most_steps):
            controller = next((one for one in self._controllers if due(one, self.clock.time)), None)
            if controller is None:
                assert not failed[8:], f"never done: {failed[-1]}"
                return
            key = await controller.queue.get(self.clock)
            try:
                await controller.sync(key)
            except StatusError:
                failed.append((controller, key))
                controller.queue.add(key)
            controller.queue.done(key)
        raise AssertionError("the controllers never come to rest")

    async def advance(self, seconds: float) -> None:
        self.clock.time += seconds
        await self.settle()

    async def create(self, kind: str, obj: Object, namespace: str = NAMESPACE) -> Object:
        made = await self.client.create(kind, namespace, obj)
        await self.settle()
        return made

    async def update(self, kind: str, name: str, change: Any, namespace: str = NAMESPACE) -> None:
        """`change(object)` alters a copy of what is stored."""
        current = await self.client.get(kind, namespace, name)
        assert current is not None
        change(current)
        await self.client.update(kind, namespace, name, current)
        await self.settle()

    async def status(self, kind: str, name: str, status: Object) -> None:
        current = await self.client.get(kind, NAMESPACE, name)
        assert current is not None
        await self.client.update_status(
            kind, NAMESPACE, name, {**current, "status": {**current.get("status", {}), **status}}
        )
        await self.settle()

    async def delete(self, kind: str, name: str, namespace: str = NAMESPACE, **options: Any) -> None:
        await self.client.delete(kind, namespace, name, options)
        await self.settle()

    def get(self, kind: str, name: str, namespace: str = NAMESPACE) -> Object | None:
        return self.registry.reader.get(kind, namespace, name)

    def must(self, kind: str, name: str, namespace: str = NAMESPACE) -> Object:
        found = self.get(kind, name, namespace)
        assert found is not None, f"{kind} {namespace}/{name}"
        return found

    def names(self, kind: str, namespace: str = NAMESPACE) -> list[str]:
        return [obj["metadata"]["name"] for obj in self.registry.reader.list(kind, namespace)]

    def events(self) -> list[tuple[str, str]]:
        """(reason, message) of all, in order of their making."""
        found = sorted(self.registry.reader.list("events"), key=lambda one: int(one["metadata"]["resourceVersion"]))
        return [(event["reason"], event["message"]) for event in found]

    async def ready(self, pod: str, address: str = "10.1.0.1") -> None:
        since = rfc3339(self.clock.time)
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": since}
        await self.status("pods", pod, {"phase": "Running", "podIP": address, "conditions": [condition]})


def due(controller: Worker, now: float) -> bool:
    queue = controller.queue
    return bool(queue._ready) or bool(queue._later and queue._later[0][0] <= now)


@asynccontextmanager
async def controllers_world(flags: Flags | None = None) -> AsyncIterator[ControllersWorld]:
    clock, chosen = StandingClock(), flags or Flags()
    resources = Resources.built_in()
    keys = Keys(resources)
    codec = ObjectCodec(keys)
    store = MemoryStore(clock)
    cache = WatchCache(store, codec, clock=clock)
    await store.start()
    await cache.start()
    registry = Registry(store, cache, resources, keys, clock)
    registry.extensions |= {"codec": codec, "event_ttl": 3600, "options": chosen}
    registry.admission, registry.authorizer = NoAdmission(), Everyone()
    try:
        yield ControllersWorld(registry, clock, chosen)
    finally:
        await cache.close()
        await store.close()


def certificate_files(folder: Path) -> tuple[str, str]:
    """(certificate, key) of a new authority."""
    from kubegate.pki import certificates

    authority = certificates.new_authority("kubernetes")
    certificates.save_pair(authority.certificate, authority.key, folder / "ca")
    return str(folder / "ca.crt"), str(folder / "ca.key")
