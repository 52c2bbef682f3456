"""The kubelets of all simulated nodes: pods that are bound to one come to run, to complete, and to go.

A pod of a Job completes at once, any other runs until it is deleted, unless its annotations say otherwise:
`simulated.kubegate/run-seconds` and `simulated.kubegate/exit-code`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from kubegate.api import Object
from kubegate.api.clock import parse_rfc3339, rfc3339
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import controller_of, ending, key_of, pod_phase, split_key, tolerant
from kubegate.controllers.queue import Queue
from kubegate.nodes import Client, World, node_user, podstatus
from kubegate.nodes.addresses import PodAddresses, node_address
from kubegate.nodes.downward import Unavailable
from kubegate.nodes.logs import Logs
from kubegate.nodes.podfolders import PodFolders
from kubegate.nodes.podstatus import EXIT_CODE, RUN_SECONDS, Place
from kubegate.nodes.volumes import references
from kubegate.storage import ObjectEvent

if TYPE_CHECKING:
    from kubegate.nodes.machines import Machines

_KILLED = 143  # ended by SIGTERM
_FIRST_BACKOFF, _LONGEST_BACKOFF = 10, 300
_REFERRED = ("secrets", "configmaps")


class Kubelet:
    """Keys are pods. `folders` has what is in their volumes, `logs` what they wrote."""

    name = "simulated-kubelet"

    def __init__(self, world: World, machines: Machines) -> None:
        self.queue = Queue()
        self._world, self._machines = world, machines
        self.logs = Logs(world.folder, world.clock)
        self.folders = PodFolders(world, self._client)
        self._addresses = PodAddresses()
        self._uids: dict[str, str] = {}
        self._on_node: dict[str, set[str]] = {}
        self._wanted_by: dict[tuple[str, str, str], set[str]] = {}
        self._wants: dict[str, set[tuple[str, str, str]]] = {}
        self._events: dict[str, Recorder] = {}
        self._complaints: dict[str, str] = {}

    def _client(self, node: str) -> Client:
        return self._world.clients(node_user(node), "kubelet")

    def start(self) -> Callable[[], None]:
        """Begin, or begin anew with what is there now; what is returned ends it."""
        reader = self._world.reader
        self._addresses = PodAddresses()
        for known in (self._uids, self._on_node, self._wants, self._wanted_by):
            known.clear()
        ends = [reader.subscribe("pods", self._pod_changed), reader.subscribe("nodes", self._node_changed)]
        for resource in _REFERRED:
            ends.append(reader.subscribe(resource, self._reference_changed(resource)))

        def end() -> None:
            for each in ends:
                each()

        return end

    async def look(self) -> None:
        """Clear away what pods have left that went while nobody looked. Before `start`. Raises OSError."""
        found = self._world.reader.list("pods")
        living = {pod["metadata"]["uid"] for pod in found if self._lives(pod)}
        await asyncio.to_thread(self.folders.look, living, {pod["metadata"]["uid"] for pod in found})

    def _lives(self, pod: Object) -> bool:
        here = self._machines.number(pod["spec"].get("nodeName", ""))
        return bool(here) and pod_phase(pod) not in ("Succeeded", "Failed")

    def _pod_changed(self, event: ObjectEvent, pod: Object, _: Object | None) -> None:
        if not self._machines.number(pod["spec"].get("nodeName", "")):
            return
        address, uid = (pod.get("status") or {}).get("podIP"), pod["metadata"]["uid"]
        if event is not ObjectEvent.DELETED and address and not pod["spec"].get("hostNetwork"):
            self._addresses.keep(uid, address)
        key, node = key_of(pod), pod["spec"]["nodeName"]
        if event is ObjectEvent.DELETED:
            self._on_node.get(node, set()).discard(key)
        else:
            self._on_node.setdefault(node, set()).add(key)
        self._uids.setdefault(key, uid)
        self.queue.add(key)

    def _node_changed(self, event: ObjectEvent, node: Object, _: Object | None) -> None:
        name = node["metadata"]["name"]
        if not self._machines.number(name):
            return
        if event is ObjectEvent.ADDED:
            for key in self._on_node.get(name, ()):
                self.queue.add(key)

    def _reference_changed(self, resource: str) -> Callable[[ObjectEvent, Object, Object | None], None]:
        def changed(event: ObjectEvent, obj: Object, _: Object | None) -> None:
            metadata = obj["metadata"]
            for key in self._wanted_by.get((resource, metadata["namespace"], metadata["name"]), ()):
                self.queue.add(key)

        return changed

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        pod = self._world.reader.get("pods", namespace, name)
        uid, known = (pod or {"metadata": {"uid": ""}})["metadata"]["uid"], self._uids.get(key, "")
        if known and known != uid:
            await self._forget(key, known)
        if pod is None or not self._machines.number(pod["spec"].get("nodeName", "")):
            return
        self._uids[key] = uid
        node = self._world.reader.get("nodes", "", pod["spec"]["nodeName"])
        if node is None:
            return  # the pod garbage collector's work, unless the node comes back
        if ending(pod):
            await self._finish(pod)
        elif pod_phase(pod) in ("Succeeded", "Failed"):
            await self._let_go(key, uid)
        else:
            await self._run(key, pod, node)

    # ------------------------------------------------------------------ the end
    async def _finish(self, pod: Object) -> None:
        """What a kubelet does of a pod that is deleted: end its containers, say so, and let it go."""
        metadata = pod["metadata"]
        if podstatus.is_running(pod):
            for container in pod["spec"]["containers"]:
                await self._event(pod, "Normal", "Killing", f"Stopping container {container['name']}")
        if pod_phase(pod) not in ("Succeeded", "Failed"):
            written = await self._write(pod, podstatus.ended(pod, self._place(pod), _KILLED, self._now()))
            if written is None:
                return
        await self._let_go(key_of(pod), metadata["uid"])
        if metadata.get("deletionGracePeriodSeconds") == 0 and metadata.get("finalizers"):
            return  # it is somebody else's turn
        await self._delete(self._client(pod["spec"]["nodeName"]), pod)

    async def _delete(self, client: Client, pod: Object) -> None:
        metadata = pod["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        deletion = client.delete("pods", metadata["namespace"], metadata["name"], options)
        await tolerant(deletion, "NotFound", "Conflict")

    async def _let_go(self, key: str, uid: str) -> None:
        """The containers have ended: addresses and files are nobody's any more; the log stays as long as the pod."""
        self._addresses.release(uid)
        self._note_wants(key, set())
        if uid in self.folders.known:
            await self.folders.empty(uid)

    async def _forget(self, key: str, uid: str) -> None:
        await self._let_go(key, uid)
        await self.folders.remove(uid)
        self._complaints.pop(uid, None)
        self._uids.pop(key, None)

    # ------------------------------------------------------------------ running
    async def _run(self, key: str, pod: Object, node: Object) -> None:
        metadata = pod["metadata"]
        uid, namespace = metadata["uid"], metadata["namespace"]
        self._note_wants(key, {(resource, namespace, name) for resource, name in references(pod)})
        place = self._place(pod)
        if not place.address:
            await self._wait(pod, place, "ContainerCreating", "", "FailedCreatePodSandBox", "no address is free")
            return
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        seen = {**pod, "status": {**(pod.get("status") or {}), **_addresses(place)}}
        try:
            await self.folders.fill(seen, allocatable)
        except Unavailable as error:
            await self._wait(pod, place, "ContainerCreating", "", "FailedMount", str(error))
            return
        try:
            await self.folders.describe(seen, allocatable)
        except Unavailable as error:
            await self._wait(pod, place, "CreateContainerConfigError", str(error), "Failed", f"Error: {error}")
            return
        self._complaints.pop(uid, None)
        refresh = self.folders.refresh_at(uid)
        if refresh is not None:
            self._again(key, refresh)
        await self._step(key, pod, place)

    async def _step(self, key: str, pod: Object, place: Place) -> None:
        now = self._world.clock.now()
        status = pod.get("status") or {}
        deadline = pod["spec"].get("activeDeadlineSeconds")
        if deadline is not None and status.get("startTime"):
            over = parse_rfc3339(status["startTime"]) + deadline
            if now >= over:
                text = "Pod was active on the node longer than the specified deadline"
                told = podstatus.ended(pod, place, 137, self._now(), reason="DeadlineExceeded", message=text)
                await self._write(pod, told)
                return
            self._again(key, over)
        crashed = podstatus.crashed_at(pod)
        if crashed:
            start = parse_rfc3339(crashed) + _backoff(pod)
            if now < start:
                self._again(key, start)
                return
        started, seconds = podstatus.started_at(pod), _run_seconds(pod)
        if started and seconds is not None:
            over = parse_rfc3339(started) + seconds
            if now >= over:
                await self._complete(pod, place)
                return
            self._again(key, over)
        changed = podstatus.running(pod, place, self._now())
        if changed != status and await self._write(pod, changed) is not None and not started:
            for container in [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]:
                self.logs.begin(pod["metadata"]["uid"], container["name"], _explanation(pod, container))
                await self._event(pod, "Normal", "Created", f"Container created: {container['name']}")
                await self._event(pod, "Normal", "Started", f"Container started: {container['name']}")
        for container in [*pod["spec"]["containers"], *(pod["spec"].get("ephemeralContainers") or ())]:
            self.logs.begin(pod["metadata"]["uid"], container["name"], _explanation(pod, container))

    async def _complete(self, pod: Object, place: Place) -> None:
        policy, code = pod["spec"].get("restartPolicy", "Always"), _exit_code(pod)
        if policy == "Always" or (policy == "OnFailure" and code):
            await self._write(pod, podstatus.crashed(pod, place, code, _backoff(pod), self._now()))
            await self._event(pod, "Warning", "BackOff", "Back-off restarting failed container")
        else:
            await self._write(pod, podstatus.ended(pod, place, code, self._now()))

    async def _wait(self, pod: Object, place: Place, reason: str, message: str, event: str, text: str) -> None:
        changed = podstatus.waiting(pod, place, reason, message, self._now())
        if not podstatus.is_running(pod) and changed != pod.get("status"):
            await self._write(pod, changed)
        uid = pod["metadata"]["uid"]
        if self._complaints.get(uid) != text:
            self._complaints[uid] = text
            await self._event(pod, "Warning", event, text)

    async def _write(self, pod: Object, status: Object) -> Object | None:
        metadata = pod["metadata"]
        writing = self._client(pod["spec"]["nodeName"]).update_status(
            "pods", metadata["namespace"], metadata["name"], {**pod, "status": status}
        )
        return await tolerant(writing)

    async def _event(self, pod: Object, sort: str, reason: str, message: str) -> None:
        node = pod["spec"]["nodeName"]
        recorder = self._events.get(node)
        if recorder is None:
            recorder = self._events[node] = Recorder(self._client(node), "kubelet", self._world.clock)
        await (recorder.normal if sort == "Normal" else recorder.warning)("v1", "Pod", pod, reason, message)

    # ------------------------------------------------------------------ small things
    def _now(self) -> str:
        return rfc3339(self._world.clock.now())

    def _again(self, key: str, at: float) -> None:
        """`at` is in seconds since 1970."""
        clock = self._world.clock
        self.queue.add_at(key, clock.monotonic() + max(at - clock.now(), 0))

    def _place(self, pod: Object) -> Place:
        number = self._machines.number(pod["spec"]["nodeName"])
        node = node_address(number)
        own = pod["spec"].get("hostNetwork")
        return Place(node if own else self._addresses.give(pod["metadata"]["uid"], number), node)

    def _note_wants(self, key: str, wants: set[tuple[str, str, str]]) -> None:
        for gone in self._wants.pop(key, set()) - wants:
            keys = self._wanted_by.get(gone, set())
            keys.discard(key)
            if not keys:
                self._wanted_by.pop(gone, None)
        if wants:
            self._wants[key] = wants
            for each in wants:
                self._wanted_by.setdefault(each, set()).add(key)


def _addresses(place: Place) -> Object:
    found: Object = {"hostIP": place.node_address, "hostIPs": [{"ip": place.node_address}]}
    return {**found, "podIP": place.address, "podIPs": [{"ip": place.address}]}


def _run_seconds(pod: Object) -> float | None:
    """How long the pod runs; None: until it is deleted."""
    annotations = pod["metadata"].get("annotations") or {}
    try:
        return max(float(annotations[RUN_SECONDS]), 0.0)
    except (KeyError, ValueError):
        of_job = (controller_of(pod) or {}).get("kind") == "Job"
        return 0.0 if of_job or EXIT_CODE in annotations else None


def _exit_code(pod: Object) -> int:
    try:
        return int((pod["metadata"].get("annotations") or {})[EXIT_CODE]) & 255
    except (KeyError, ValueError):
        return 0


def _backoff(pod: Object) -> int:
    return int(min(_FIRST_BACKOFF * 2 ** min(podstatus.restarts(pod), 8), _LONGEST_BACKOFF))


def _explanation(pod: Object, container: Object) -> str:
    return (
        f"kubegate simulates this container: nothing of {container['image']} runs on {pod['spec']['nodeName']}. "
        "What commands print that are run here follows."
    )
