"""What runs beside the API: controllers and simulated nodes, in one process of those that serve the same store."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from kubegate.admission.quota import Reservations
from kubegate.api import metadata
from kubegate.api.clock import Clock
from kubegate.authentication.signing import TokenSigner
from kubegate.controllers import World
from kubegate.registry.generic import Registry
from kubegate.registry.internal import Internal, service_account_user
from kubegate.server.options import Options, UsageError

if TYPE_CHECKING:
    from kubegate.controllers.leader import FileLead, LeaderElection
    from kubegate.nodes.simulation import Simulation
    from kubegate.server.workers import Worker

log = logging.getLogger("kubegate")


def check(options: Options) -> None:
    """Raises UsageError for nodes that cannot be simulated as the flags say."""
    if options.simulate_nodes:
        from kubegate.nodes.addresses import MOST_NODES

        if not 0 <= options.simulate_nodes <= MOST_NODES:
            raise UsageError(f"--simulate-nodes={options.simulate_nodes}: expected 0 to {MOST_NODES}")
    if options.simulate_nodes_exec and not options.simulate_nodes:
        raise UsageError("--simulate-nodes-exec runs commands in pods of simulated nodes: give --simulate-nodes=N too")


class Background(Struct, frozen=True):
    """`worker` None: this process is no worker of several. `address` gives HOST:PORT of this server."""

    registry: Registry
    options: Options
    clock: Clock
    signer: TokenSigner | None
    reservations: Reservations
    worker: Worker | None
    address: Callable[[], str]

    async def run(self, names: Sequence[str]) -> None:
        """The controllers of these names, and the nodes, as long as the server lives.

        They are loaded when it listens already: nobody waits for them.
        """
        from kubegate.controllers.manager import Manager

        simulation = self._simulation()
        if not self.options.aws_iam_cluster_id:
            names = [name for name in names if name != "aws-iam-mapping-controller"]
        if simulation is None and not names:
            return
        registry = self.registry

        def client(name: str) -> Internal:
            if name == "kube-apiserver":  # what no controller manager does
                return Internal(registry)
            return Internal(registry, service_account_user(name), "kube-controller-manager")

        world = World(
            registry.reader,
            client,
            self.clock,
            registry.resources,
            self.options,
            reservations=self.reservations,
            signer=self.signer,
        )

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(Manager(world, names).run())
                if simulation is not None:
                    group.create_task(simulation.run())

        election = self._election(client)
        await (all_of_them() if election is None else election.run(all_of_them))

    def _election(self, client: Callable[[str], Internal]) -> FileLead | LeaderElection | None:
        """Who of several processes runs the controllers; None where this is the only one."""
        if not self.options.etcd_servers and self.worker is None:
            return None
        from kubegate.controllers.leader import FileLead, LeaderElection

        if self.worker is not None and self.worker.kept:
            return FileLead(self.worker.lead, self.clock)
        return LeaderElection(client("leader-election"), self.clock, f"{socket.gethostname()}_{metadata.new_uid()}")

    def _simulation(self) -> Simulation | None:
        """The nodes of --simulate-nodes; every process knows of them, whichever keeps them."""
        options, registry = self.options, self.registry
        if not options.simulate_nodes:
            return None
        from kubegate.nodes import World as NodesWorld
        from kubegate.nodes.simulation import Simulation

        def server() -> tuple[str, int]:
            host, _, port = self.address().rpartition(":")
            return host.strip("[]"), int(port)

        world = NodesWorld(
            registry.reader,
            lambda user, manager: Internal(registry, user, manager),
            self.clock,
            Path(options.data_dir or ".kubegate").resolve() / "pods",
            server,
        )
        simulation = Simulation(world, options.simulate_nodes)
        if options.simulate_nodes_exec:
            log.warning(
                "--simulate-nodes-exec: who may create pods/exec runs commands on this machine as this process's user"
            )
        registry.extensions["simulation"] = simulation
        return simulation
