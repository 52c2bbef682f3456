"""The status of ValidatingAdmissionPolicies: whether their expressions fit the kinds that they are about."""

from __future__ import annotations

from kubegate.admission import GroupVersionKind
from kubegate.api import Object
from kubegate.api.resources import Resources
from kubegate.api.schema import Schema, schema_for
from kubegate.api.status import StatusError
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.storage import ObjectEvent

_POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"


class PolicyStatus(Loop):
    """Keys are policies' names. A policy is looked at once in each generation."""

    name = "validatingadmissionpolicy-status-controller"
    _resources: Resources

    def start(self, world: World) -> None:
        super().start(world)
        self._resources = world.resources
        world.reader.subscribe(_POLICIES, self._changed)

    def _changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED:
            self.queue.add(obj["metadata"]["name"])

    async def sync(self, key: str) -> None:
        policy = self._reader.get(_POLICIES, "", key)
        if policy is None:
            return
        generation, status = policy["metadata"].get("generation"), policy.get("status") or {}
        if status.get("observedGeneration") == generation:
            return
        from kubegate.admission.policies import typechecking  # most clusters have no policy, and need no CEL

        warnings = typechecking.check(policy.get("spec") or {}, self._resources, self._schema)
        told = {"expressionWarnings": warnings} if warnings else {}
        status = {**status, "observedGeneration": generation, "typeChecking": told}
        try:
            await self._client.update_status(_POLICIES, "", key, {**policy, "status": status})
        except StatusError as error:
            # changed or gone meanwhile: whoever changed it wakes this up again
            if error.reason not in ("Conflict", "NotFound"):
                raise

    def _schema(self, kind: GroupVersionKind) -> Schema | None:
        found = self._resources.by_kind(kind.group, kind.version, kind.kind)
        if found is not None and found.custom is not None:
            schema: Schema | None = found.custom.schema
            return schema
        return schema_for(kind.group, kind.version, kind.kind)


def build() -> PolicyStatus:
    return PolicyStatus()
