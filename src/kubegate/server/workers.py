"""`--workers N`: several processes serve one port on one store of one machine.

    supervisor ─┬─ keeper     has the SQLite file; the workers write and follow it through a Unix socket
                ├─ worker 1   a whole API server each; the one that has the lock of a file runs the controllers
                └─ worker N

On etcd there is no keeper: each worker is a process like any other of the cluster. One that dies is started again.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import importlib
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
from msgspec.structs import replace

from kubegate.admission.pod_resources import Resources, amounts, texts
from kubegate.admission.quota import Reservations
from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.registry.together import CHOOSING
from kubegate.server.options import Options, UsageError
from kubegate.server.preparation import prepare_keys, storage_options
from kubegate.server.process import Server, serve
from kubegate.storage import StoreUnavailable
from kubegate.storage.build import open_store
from kubegate.storage.filelock import MachineLock
from kubegate.storage.keeper import Keeper
from kubegate.storage.keeper_wire import Head, Place
from kubegate.storage.kept import KeptStore
from kubegate.transport import CannotListen, listen, reserve
from kubegate.transport.metrics import Shared
from kubegate.transport.supervisor import Failed, Parent, Supervisor, told_to_end

log = logging.getLogger("kubegate")

MOST = 64


@dataclass(slots=True)
class Worker:
    """One of `count` processes; `folder` is what they share, `port` where all of them serve."""

    number: int
    count: int
    folder: Path
    port: int
    kept: bool
    _listening: socket.socket | None = None

    @property
    def keeper(self) -> str:
        """The keeper's folder; empty on etcd."""
        return str(self.folder / "store") if self.kept else ""

    @property
    def lead(self) -> Path:
        return self.folder / "lead"

    @property
    def audit_lock(self) -> Path:
        return self.folder / "audit"

    @property
    def traces_lock(self) -> Path:
        return self.folder / "traces"

    def metrics(self) -> Shared:
        """The counts of all workers, with those of the one whose place this one took."""
        folder = self.folder / "metrics"
        folder.mkdir(exist_ok=True)
        return Shared(folder, f"worker-{self.number}")

    def locks(self, clock: Clock) -> dict[str, MachineLock]:
        """What lets one process at a time choose what no two objects may have."""
        return {name: MachineLock(self.folder / f"alone-{name}", clock) for name in CHOOSING}

    def listen(self, address: str) -> int:
        """This process's own socket on the port; connections come as soon as it is there. Raises CannotListen."""
        self._listening = listen(address, self.port, shared=True)
        return self._listening.fileno()

    def close(self) -> None:
        """Let go of the socket; who has a descriptor of his own still listens."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None


def supervise(options: Options, ready: Callable[[Server], None]) -> int:
    """Serve until told to end; the exit code. Raises UsageError.

    `ready` is called once, when all workers serve, with a Server that is not started: its `url` and `pki` are theirs.
    """
    _check(options)
    folder = Path(tempfile.mkdtemp(prefix="kubegate-workers-"))
    held = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(held, fcntl.LOCK_SH)  # systemd-tmpfiles, which tidies /tmp, leaves what is locked alone
    try:
        pki = prepare_keys(options)
        with reserve(options.bind_address, options.secure_port) as reserved:
            port = reserved.getsockname()[1]
            url = f"https://{options.advertise_address or options.bind_address}:{port}"
            return _supervise(options, folder, port, lambda: ready(Server(options, url=url, pki=pki)))
    except CannotListen as error:
        raise UsageError(f"--secure-port: {error}") from error
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    finally:
        os.close(held)
        shutil.rmtree(folder, ignore_errors=True)


def share(store: KeptStore, reservations: Reservations) -> None:
    """Tell the other workers what is charged against quotas here, and hear what is charged there."""

    def tell(resource: str, object: Object, usage: Resources) -> None:
        store.note(["charged", resource, texts(usage)], orjson.dumps(object))

    def heard(head: Head, body: bytes) -> None:
        if head[0] == "charged":
            reservations.take(head[1], orjson.loads(body), amounts(head[2]))

    reservations.tell = tell
    store.hear_notes(heard)


def _check(options: Options) -> None:
    if not 1 <= options.workers <= MOST:
        raise UsageError(f"--workers={options.workers}: expected a number from 1 to {MOST}")
    if options.storage == "memory":
        raise UsageError(
            "--workers: --storage=memory lives in one process and cannot be shared; leave --storage out (SQLite), "
            "or give --etcd-servers"
        )


def _supervise(options: Options, folder: Path, port: int, ready: Callable[[], None]) -> int:
    kept = not options.etcd_servers
    shared = replace(
        options,
        secure_port=port,
        max_requests_inflight=_part(options.max_requests_inflight, options.workers),
        max_mutating_requests_inflight=_part(options.max_mutating_requests_inflight, options.workers),
        max_connections=_part(options.max_connections, options.workers),
    )

    def work(number: int) -> Callable[[Parent], None]:
        worker = Worker(number, options.workers, folder, port, kept)
        return lambda parent: _serve(shared, worker, parent)

    importlib.import_module("kubegate.authentication.chains")  # which each would load for itself
    gc.freeze()  # the children share what was loaded until now
    place = Place(folder / "store")
    with place.listen() as listening, Supervisor() as supervisor:
        try:
            if kept:
                supervisor.start("the keeper", lambda parent: _keep(options, place, listening, parent), last=True)
                supervisor.wait_ready()
            # The first one makes what a new server has; the others find it.
            for number in range(1, options.workers + 1):
                supervisor.start(f"worker {number}", work(number))
                if number == 1:
                    supervisor.wait_ready()
            if supervisor.wait_ready():
                ready()
        except Failed:
            return 1
        return supervisor.run()


def _part(bound: int, count: int) -> int:
    """A worker's part of a bound on all of them; 0 is none."""
    return max(bound // count, 1) if bound else 0


def _serve(options: Options, worker: Worker, parent: Parent) -> None:
    _name_in_log(f"worker {worker.number}")

    def ready(server: Server) -> None:
        gc.freeze()
        gc.enable()
        parent.ready()

    try:
        serve(Server(options, worker=worker), ready, parent)
    except UsageError as error:
        _fail(error)


def _keep(options: Options, place: Place, listening: socket.socket, parent: Parent) -> None:
    import uvloop

    _name_in_log("keeper")

    async def keep() -> None:
        told = asyncio.Event()
        with told_to_end(parent, told.set, interrupted=False):
            keeper = Keeper(open_store(storage_options(options)), place, listening)
            await keeper.start()
            try:
                gc.enable()
                parent.ready()
                await told.wait()
                await keeper.left_alone()
            finally:
                await keeper.close()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(keep())
    except (StoreUnavailable, ValueError) as error:
        _fail(error)


def _fail(error: Exception) -> None:
    print("kubegate:", " ".join(str(error).split()), file=sys.stderr)
    raise SystemExit(1)


def _name_in_log(name: str) -> None:
    form = f"%(asctime)s %(levelname).1s {name} %(name)s: %(message)s"
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(form))
