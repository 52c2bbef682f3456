"""The parts of the simulation put together, and run."""

from __future__ import annotations

import asyncio
import logging

from kubegate import KUBERNETES_VERSION
from kubegate.api import Object
from kubegate.controllers.manager import work
from kubegate.nodes import World
from kubegate.nodes.kubelet import Kubelet
from kubegate.nodes.machines import Machines
from kubegate.nodes.scheduler import Scheduler

log = logging.getLogger("kubegate.nodes")
_KUBELET_WORKERS = 4


class Simulation:
    """`count` nodes. `run` until cancelled; what was started is left as it is, and found again by the next start.

    `sessions` are those that run a command in a pod, or read what it writes, now.
    """

    def __init__(self, world: World, count: int) -> None:
        self._world = world
        self.sessions: set[object] = set()
        self.machines = Machines(world, count, f"v{KUBERNETES_VERSION.removeprefix('v')}")
        self.scheduler = Scheduler(world)
        self.kubelet = Kubelet(world, self.machines)

    def has(self, pod: Object) -> bool:
        """Whether the pod's node is one of these."""
        return bool(self.machines.number(pod["spec"].get("nodeName", "")))

    async def run(self) -> None:
        try:
            await self.kubelet.look()
        except OSError as error:
            log.error("no node is simulated, for the folder of pods cannot be used: %s", error)
            return
        parts = (self.machines, self.scheduler, self.kubelet)
        ends = [part.start() for part in parts]
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    for _ in range(_KUBELET_WORKERS if part is self.kubelet else 1):
                        group.create_task(work(part, self._world.clock), name=part.name)
        finally:
            for end in ends:
                end()
