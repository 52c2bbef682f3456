"""`node.alpha.kubernetes.io/ttl` on every node: for how many seconds its kubelet may keep Secrets and ConfigMaps."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import ending, tolerant
from kubegate.storage import ObjectEvent

_ANNOTATION = "node.alpha.kubernetes.io/ttl"
# (nodes up to, seconds), as pkg/controller/ttl has them, without its hysteresis.
_STEPS = ((100, 0), (500, 15), (1000, 30), (2000, 60))
_MOST = 300


class NodeTtl(Loop):
    """Keys are nodes."""

    name = "ttl-controller"

    def __init__(self) -> None:
        super().__init__()
        self._nodes: set[str] = set()

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe("nodes", self._changed)

    def _changed(self, event: ObjectEvent, node: Object, _: Object | None) -> None:
        name, before = node["metadata"]["name"], self._seconds()
        if event is ObjectEvent.DELETED:
            self._nodes.discard(name)
        else:
            self._nodes.add(name)
            self.queue.add(name)
        if self._seconds() != before:
            for each in self._nodes:
                self.queue.add(each)

    def _seconds(self) -> int:
        return next((seconds for limit, seconds in _STEPS if len(self._nodes) <= limit), _MOST)

    async def sync(self, key: str) -> None:
        node = await self._client.get("nodes", "", key)
        annotations = dict((node or {"metadata": {}})["metadata"].get("annotations") or {})
        if node is None or ending(node) or annotations.get(_ANNOTATION) == str(self._seconds()):
            return
        annotations[_ANNOTATION] = str(self._seconds())
        metadata = {**node["metadata"], "annotations": annotations}
        await tolerant(self._client.update("nodes", "", key, {**node, "metadata": metadata}))


def build() -> NodeTtl:
    return NodeTtl()
