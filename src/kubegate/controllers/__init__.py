"""Loops that keep objects true: each a module that reads alone, driven by watches, with retry and back-off.

A controller has a `name` (kube-controller-manager's, for --controllers), `start(world)` where it subscribes to what
concerns it and puts keys into its queue, and `sync(key)`, which makes one thing as it should be and may be run again at
any time. `manager.Manager` runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from kubegate.admission.quota import Reservations
from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.api.resources import Resources
from kubegate.authentication.signing import TokenSigner
from kubegate.controllers.queue import Queue
from kubegate.storage import Reader


class Client(Protocol):
    """Writes as the controller's own user; `registry.internal.Internal` is one. Raises StatusError."""

    async def get(self, resource: str, namespace: str, name: str) -> Object | None: ...

    async def create(self, resource: str, namespace: str, object: Object) -> Object: ...

    async def update(self, resource: str, namespace: str, name: str, object: Object) -> Object: ...

    async def update_status(self, resource: str, namespace: str, name: str, object: Object) -> Object: ...

    async def update_subresource(
        self, resource: str, namespace: str, name: str, subresource: str, object: Object
    ) -> Object: ...

    async def scale(self, resource: str, namespace: str, name: str, replicas: int) -> None:
        """Set the replicas through the scale subresource."""
        ...

    async def apply(
        self, resource: str, namespace: str, name: str, object: Object, manager: str, subresource: str = ""
    ) -> Object:
        """Server-side apply as this field manager, forced."""
        ...

    async def delete(self, resource: str, namespace: str, name: str, options: Object | None = None) -> None: ...


class World(Struct, frozen=True):
    """What a controller works with. `options` are the server's flags; `clients(NAME)` writes as the named controller.

    `reservations` are what quotas were charged for objects that are not stored yet; `signer` makes service account
    tokens (None: there is no key for it).
    """

    reader: Reader
    clients: Callable[[str], Client]
    clock: Clock
    resources: Resources
    options: Any
    reservations: Reservations | None = None
    signer: TokenSigner | None = None


class Worker(Protocol):
    name: str
    queue: Queue

    async def sync(self, key: str) -> None:
        """Make what `key` names as it should be. An exception means: try again later."""
        ...


class Controller(Worker, Protocol):
    def start(self, world: World) -> None:
        """Subscribe; called once, on the event loop."""
        ...
