"""The Dangling condition of FlowSchemas: whether the priority level that they name exists.

kube-apiserver keeps it itself; see k8s.io/apiserver/pkg/util/flowcontrol (presyncFlowSchemaStatus).
"""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.clock import rfc3339
from kubegate.api.field import quoted
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import condition, tolerant
from kubegate.storage import ObjectEvent

_GROUP = "flowcontrol.apiserver.k8s.io"
_SCHEMAS, _LEVELS = f"flowschemas.{_GROUP}", f"prioritylevelconfigurations.{_GROUP}"
_MANAGER = "api-priority-and-fairness-config-consumer-v1"


class FlowSchemaStatus(Loop):
    """Keys are flow schemas' names."""

    name = "flowschema-status-controller"

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe(_SCHEMAS, self._schema_changed)
        world.reader.subscribe(_LEVELS, self._level_changed)

    def _schema_changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED:
            self.queue.add(obj["metadata"]["name"])

    def _level_changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        if event is ObjectEvent.MODIFIED:
            return
        for schema in self._reader.list(_SCHEMAS):
            if _level_of(schema) == obj["metadata"]["name"]:
                self.queue.add(schema["metadata"]["name"])

    async def sync(self, key: str) -> None:
        schema = self._reader.get(_SCHEMAS, "", key)
        if schema is None:
            return
        level = _level_of(schema)
        told = f"This FlowSchema references the PriorityLevelConfiguration object named {quoted(level)} "
        if self._reader.get(_LEVELS, "", level) is None:
            wanted = {"status": "True", "reason": "NotFound", "message": f"{told}but there is no such object"}
        else:
            wanted = {"status": "False", "reason": "Found", "message": f"{told}and it exists"}
        found = condition(schema, "Dangling") or {}
        if {name: found.get(name) for name in wanted} == wanted:
            return
        dangling = {"type": "Dangling", **wanted, "lastTransitionTime": rfc3339(self._clock.now())}
        applied = {
            "apiVersion": schema["apiVersion"],
            "kind": "FlowSchema",
            "metadata": {"name": key, "uid": schema["metadata"]["uid"]},
            "status": {"conditions": [dangling]},
        }
        # gone, or another of that name: its own event wakes this up
        await tolerant(self._client.apply(_SCHEMAS, "", key, applied, _MANAGER, "status"), "NotFound", "Conflict")


def _level_of(schema: Object) -> str:
    reference = (schema.get("spec") or {}).get("priorityLevelConfiguration") or {}
    return str(reference.get("name") or "")


def build() -> FlowSchemaStatus:
    return FlowSchemaStatus()
