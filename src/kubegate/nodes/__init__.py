"""Simulated nodes: machines that are not there, a scheduler that gives them pods, and kubelets that run nothing.

Pods become Running, Jobs complete, deletions end; what a pod would find in its volumes is written to a folder. Each
part is a loop as `kubegate.controllers` has them; `simulation.Simulation` puts them together. They act as the users
that the real ones are (`system:node:NAME`, `system:kube-scheduler`), so that admission sees what it would see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kubegate import controllers
from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.authentication import AUTHENTICATED_GROUP, UserInfo
from kubegate.storage import Reader

LEASES = "kube-node-lease"
SCHEDULER = UserInfo("system:kube-scheduler", groups=(AUTHENTICATED_GROUP,))
RUNTIME = "simulated"
"""What stands for a container runtime: `simulated://…` in container ids and in nodes' information."""


class Client(controllers.Client, Protocol):
    async def create_subresource(
        self, resource: str, namespace: str, name: str, subresource: str, object: Object
    ) -> Object:
        """POST to a subresource that does something: `binding`, `token`."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """What the parts work with.

    `clients(USER, MANAGER)` writes as a user with this field manager. `folder` has a folder for each pod (mode 0700).
    `server` gives host and port at which commands in pods find the API server.
    """

    reader: Reader
    clients: Callable[[UserInfo, str], Client]
    clock: Clock
    folder: Path
    server: Callable[[], tuple[str, int]]


def node_user(name: str) -> UserInfo:
    """Who the kubelet of a node is."""
    return UserInfo(f"system:node:{name}", groups=("system:nodes", AUTHENTICATED_GROUP))
