"""exec, attach and log of pods on simulated nodes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from kubegate.api import Object, status
from kubegate.api.clock import parse_rfc3339, rfc3339_micro
from kubegate.registry.generic import Registry
from kubegate.server.call import Call
from kubegate.server.responses import Message, Response

if TYPE_CHECKING:
    from kubegate.nodes.logs import Line
    from kubegate.nodes.simulation import Simulation
    from kubegate.server.channels import Channels

log_of_server = logging.getLogger("kubegate.server")
_MOST_SESSIONS = 32


def _simulation(registry: Registry) -> Simulation | None:
    found: Simulation | None = registry.extensions.get("simulation")
    return found


def has(registry: Registry, pod: Object) -> bool:
    """Whether the pod is on a node that this process simulates."""
    found = _simulation(registry)
    return found is not None and found.has(pod)


# ---------------------------------------------------------------------- exec, attach
def session(registry: Registry, call: Call, pod: Object, options: Object) -> Response:
    """What takes the websocket over. Raises 400 where there is none or no container, 405 where exec is not allowed."""
    from kubegate.server import channels

    if not registry.extensions["options"].simulate_nodes_exec:
        text = (
            "nothing is run in pods of simulated nodes: --simulate-nodes-exec lets those who may create pods/exec run "
            "commands on the server's machine"
        )
        raise status.StatusError(405, "MethodNotAllowed", text)
    if call.websocket is None:
        spoken = ", ".join(channels.PROTOCOLS)
        raise status.bad_request(f"unable to upgrade: no websocket was asked for; {spoken} are spoken here, no SPDY")
    _check_origin(call)
    protocol = channels.chosen(call.websocket)
    container = options.get("container") or pod["spec"]["containers"][0]["name"]
    if (pod.get("status") or {}).get("phase") != "Running":
        raise status.bad_request(f'container not found ("{container}")')
    simulation = _simulation(registry)
    assert simulation is not None
    if len(simulation.sessions) >= _MOST_SESSIONS:
        raise status.too_many_requests(f"{_MOST_SESSIONS} commands run in pods already; try again later", 1)
    work = _attach if call.info.subresource == "attach" else _exec

    async def take(receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        mark = object()
        simulation.sessions.add(mark)
        try:
            await work(registry, call, pod, container, options, channels.Channels(receive, send, protocol))
        finally:
            simulation.sessions.discard(mark)

    return Response(101, session=take)


def _check_origin(call: Call) -> None:
    """A page of another place may make a browser open websockets with its user's certificate. Raises 403."""
    origin = call.header("origin")
    if origin and origin.partition("://")[2] != call.header("host"):
        raise status.forbidden(
            "", call.info.resource, call.info.name, f"a page of {origin!r} may not open websockets here"
        )


async def _exec(
    registry: Registry, call: Call, pod: Object, container: str, options: Object, channels: Channels
) -> None:
    from kubegate.nodes import commands
    from kubegate.server import remotecommand

    simulation = _simulation(registry)
    assert simulation is not None
    metadata = pod["metadata"]
    place = f"{metadata['namespace']}/{metadata['name']} ({container})"
    log_of_server.warning("request %s: %r runs a command in pod %s", call.id, call.user.name, place)
    folder = simulation.kubelet.folders.path(metadata["uid"])
    words = list(options.get("command") or ())
    logs = simulation.kubelet.logs

    def prepare() -> commands.Prepared:
        if not words:
            raise commands.NotThere("no command was given")
        return commands.prepare(folder, container, words)

    streams = remotecommand.Streams(*(bool(options.get(name)) for name in ("stdin", "stdout", "stderr", "tty")))
    await remotecommand.run(
        channels, streams, prepare, lambda stream, data: logs.append(metadata["uid"], container, stream, data)
    )


async def _attach(
    registry: Registry, call: Call, pod: Object, container: str, options: Object, channels: Channels
) -> None:
    """What the container writes from now on, until it has ended. It reads nothing."""
    from kubegate.server.channels import STDERR, STDOUT, ended

    simulation = _simulation(registry)
    assert simulation is not None

    logs, uid = simulation.kubelet.logs, pod["metadata"]["uid"]
    _, position = logs.read(uid, container)

    async def listen() -> None:
        while await channels.read() is not None:
            pass

    async def tell() -> None:
        async for line in logs.follow(uid, container, position, _running(registry, pod)):
            if options.get(line.stream):
                await channels.write(STDERR if line.stream == "stderr" else STDOUT, line.text)

    await channels.open(STDOUT)
    listening, telling = asyncio.create_task(listen()), asyncio.create_task(tell())
    try:
        await asyncio.wait({listening, telling}, return_when=asyncio.FIRST_COMPLETED)
        if telling.done():
            await channels.close(ended(0))
    finally:
        for task in (listening, telling):
            task.cancel()
        await asyncio.gather(listening, telling, return_exceptions=True)


# ---------------------------------------------------------------------- log
def log(registry: Registry, pod: Object, options: Object) -> Response:
    """The container's log as text. Raises 400 for a container that has not begun, or did not run before."""
    simulation = _simulation(registry)
    assert simulation is not None
    uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
    container = options.get("container") or pod["spec"]["containers"][0]["name"]
    if options.get("previous"):
        text = f'previous terminated container "{container}" in pod "{name}" not found'
        raise status.bad_request(text)
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    state = next((one.get("state") or {} for one in statuses if one["name"] == container), {})
    if "waiting" in state and state["waiting"].get("reason") != "CrashLoopBackOff":
        reason = state["waiting"].get("reason", "")
        text = f'container "{container}" in pod "{name}" is waiting to start: {reason}'
        raise status.bad_request(text)
    logs = simulation.kubelet.logs
    found, position = logs.read(uid, container)
    lines = _chosen(found, options, registry.clock.now())
    if not options.get("follow"):
        body = b"".join(_shown(line, options) for line in lines)
        return Response(200, body[: options.get("limitBytes", len(body))], b"text/plain")

    async def stream() -> AsyncIterator[bytes]:
        left = options.get("limitBytes", 1 << 62)
        for line in lines:
            text = _shown(line, options)[:left]
            left -= len(text)
            yield text
        async for line in logs.follow(uid, container, position, _running(registry, pod)):
            if left <= 0:
                return
            if _wanted(line, options):
                text = _shown(line, options)[:left]
                left -= len(text)
                yield text

    return Response(200, content_type=b"text/plain", stream=stream())


def _running(registry: Registry, pod: Object) -> Callable[[], bool]:
    """Whether the pod runs still."""
    metadata = pod["metadata"]

    def runs() -> bool:
        found = registry.reader.get("pods", metadata["namespace"], metadata["name"])
        if found is None or found["metadata"]["uid"] != metadata["uid"]:
            return False
        return (found.get("status") or {}).get("phase") in ("Pending", "Running")

    return runs


def _chosen(lines: list[Line], options: Object, now: float) -> list[Line]:
    since = 0.0
    if "sinceSeconds" in options:
        since = now - options["sinceSeconds"]
    elif options.get("sinceTime"):
        try:
            since = parse_rfc3339(options["sinceTime"])
        except ValueError as error:
            raise status.bad_request(str(error)) from None
    found = [line for line in lines if line.at >= since and _wanted(line, options)]
    tail = options.get("tailLines")
    return found if tail is None else found[len(found) - min(tail, len(found)) :]


def _wanted(line: Line, options: Object) -> bool:
    return options.get("stream", "All") in ("All", line.stream.capitalize())


def _shown(line: Line, options: Object) -> bytes:
    return f"{rfc3339_micro(line.at)} ".encode() + line.text if options.get("timestamps") else line.text
