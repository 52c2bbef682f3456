"""Several webhook servers on one socket, and the process that watches over them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from kubegate.transport import listen
from kubegate.transport.supervisor import Failed, Parent, Supervisor
from kubegate.webhooks.process import Options, WebhookServer, serve


def supervise(options: Options, ready: Callable[[str], None], workers: int) -> int:
    """Until SIGTERM or SIGINT, which all workers are sent as well. Raises CannotListen, and what a first worker would.

    The workers are forked before anything of the event loop is loaded.
    """
    from kubegate.webhooks.policyfile import load

    load(options.policies)  # what is wrong with it is told once, before anything is started
    options.certificate.current()
    host = "127.0.0.1" if options.address in ("", "0.0.0.0", "::") else options.address
    with (
        listen(options.address, options.port) as listening,
        tempfile.TemporaryDirectory(prefix="kubegate-webhook-metrics-") as folder,
    ):

        def work(parent: Parent) -> None:
            server = WebhookServer(options, listening=listening, shared=Path(folder))
            serve(server, lambda started: parent.ready(), parent)

        with Supervisor() as supervisor:
            for number in range(workers):
                supervisor.start(f"worker {number + 1}", work)
            try:
                if supervisor.wait_ready():
                    ready(f"https://{host}:{listening.getsockname()[1]}")
            except Failed:
                return 1
            return supervisor.run()
