"""Gives each pod without a node one that it fits, the one with the fewest pods, by a Binding as kube-scheduler does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubegate.api import Object
from kubegate.api.clock import rfc3339, rfc3339_micro
from kubegate.api.status import StatusError
from kubegate.controllers.events import event_name
from kubegate.controllers.objects import ending, key_of, pod_phase, reference_to, split_key, tolerant
from kubegate.controllers.queue import Queue
from kubegate.nodes import SCHEDULER, Client, World
from kubegate.nodes.fitting import message, why_not
from kubegate.storage import ObjectEvent

NAME = "default-scheduler"


class Scheduler:
    """Keys are pods. One worker alone: each pod is placed in sight of those before it."""

    name = NAME

    def __init__(self, world: World) -> None:
        self.queue = Queue()
        self._world = world
        self._waiting: set[str] = set()
        self._nodes: dict[str, Object] = {}
        self._on_node: dict[str, dict[str, Object]] = {}
        self._told: dict[str, str] = {}

    def start(self) -> Callable[[], None]:
        reader = self._world.reader
        for known in (self._nodes, self._on_node, self._waiting):
            known.clear()
        ends = [reader.subscribe("pods", self._pod_changed), reader.subscribe("nodes", self._node_changed)]

        def end() -> None:
            for each in ends:
                each()

        return end

    def _pod_changed(self, event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        key, node = key_of(pod), pod["spec"].get("nodeName")
        over = event is ObjectEvent.DELETED or pod_phase(pod) in ("Succeeded", "Failed")
        if node and not over:
            self._on_node.setdefault(node, {})[key] = pod
        elif node and self._on_node.get(node, {}).pop(key, None) is not None:
            self._try_waiting()  # there is room now
        if event is not ObjectEvent.DELETED and _is_ours(pod):
            self.queue.add(key)
        else:
            self._waiting.discard(key)
            self._told.pop(key, None)

    def _node_changed(self, event: ObjectEvent, node: Object, _: Object | None) -> None:
        if event is ObjectEvent.DELETED:
            self._nodes.pop(node["metadata"]["name"], None)
        else:
            self._nodes[node["metadata"]["name"]] = node
        self._try_waiting()

    def _try_waiting(self) -> None:
        for key in self._waiting:
            self.queue.add(key)
        self._waiting.clear()

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        client = self._world.clients(SCHEDULER, "kube-scheduler")
        pod = await client.get("pods", namespace, name)
        if pod is None or not _is_ours(pod):
            return
        reasons = []
        fitting: list[tuple[int, str]] = []
        for where, node in self._nodes.items():
            others = list(self._on_node.get(where, {}).values())
            found = why_not(pod, node, others) if not ending(node) else ["node(s) were unschedulable"]
            if found:
                reasons.append(found)
            else:
                fitting.append((len(others), where))
        if fitting:
            await self._bind(client, pod, min(fitting)[1])
        else:
            self._waiting.add(key)
            await self._refuse(client, pod, message(reasons))

    async def _bind(self, client: Client, pod: Object, node: str) -> None:
        metadata = pod["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": metadata["uid"]},
            "target": target,
        }
        if await tolerant(client.create_subresource("pods", namespace, name, "binding", binding)) is None:
            return
        text = f"Successfully assigned {namespace}/{name} to {node}"
        await self._event(client, pod, "Normal", "Scheduled", "Binding", text)

    async def _refuse(self, client: Client, pod: Object, text: str) -> None:
        """The PodScheduled condition and an event, where they do not say so already."""
        status, now = pod.get("status") or {}, rfc3339(self._world.clock.now())
        conditions: Sequence[Object] = status.get("conditions") or ()
        before: Object = next((one for one in conditions if one["type"] == "PodScheduled"), {})
        if before.get("message") != text:
            since = before["lastTransitionTime"] if before.get("status") == "False" else now
            told = {
                "type": "PodScheduled",
                "status": "False",
                "lastProbeTime": None,
                "lastTransitionTime": since or now,
                "reason": "Unschedulable",
                "message": text,
                "observedGeneration": pod["metadata"].get("generation", 1),
            }
            changed = [one for one in conditions if one["type"] != "PodScheduled"]
            status = {**status, "conditions": [*changed, told]}
            metadata = pod["metadata"]
            await tolerant(
                client.update_status("pods", metadata["namespace"], metadata["name"], {**pod, "status": status})
            )
        if self._told.get(key_of(pod)) != text:
            self._told[key_of(pod)] = text
            await self._event(client, pod, "Warning", "FailedScheduling", "Scheduling", text)

    async def _event(self, client: Client, pod: Object, sort: str, reason: str, action: str, text: str) -> None:
        """As kube-scheduler writes them, by events.k8s.io."""
        metadata, now = pod["metadata"], self._world.clock.now()
        event = {
            "metadata": {"name": event_name(metadata["name"], now), "namespace": metadata["namespace"]},
            "involvedObject": reference_to("v1", "Pod", pod),
            "eventTime": rfc3339_micro(now),
            "reason": reason,
            "action": action,
            "message": text[:1024],
            "type": sort,
            "reportingComponent": NAME,
            "reportingInstance": f"{NAME}-kubegate",
        }
        try:
            await tolerant(client.create("events", metadata["namespace"], event), "AlreadyExists", "NotFound")
        except StatusError as error:
            if error.reason != "Forbidden":  # the namespace is about to end
                raise


def _is_ours(pod: Object) -> bool:
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and spec.get("schedulerName", NAME) == NAME
        and not spec.get("schedulingGates")
        and not ending(pod)
        and pod_phase(pod) not in ("Succeeded", "Failed")
    )
