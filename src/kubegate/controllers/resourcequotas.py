"""The status of ResourceQuotas: what they allow, and how much of that stored objects use.

Requests are charged by the admission plugin. Here a quota is counted when it is new or its spec changed, when objects
go or use less, and every five minutes, as pkg/controller/resourcequota of Kubernetes v1.36 does.
"""

from __future__ import annotations

from kubegate.admission.quota import QUOTAS, Evaluators, Reservations, used
from kubegate.api import Object
from kubegate.api.resources import Resources
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import key_of, split_key, tolerant
from kubegate.storage import ObjectEvent

_RESYNC_SECONDS = 300.0
_TOLD_SECONDS = 0.05


class ResourceQuotas(Loop):
    """Keys are `NAMESPACE/NAME` of quotas."""

    name = "resourcequota-controller"
    _evaluators: Evaluators
    _reservations: Reservations | None
    _resources: Resources

    def __init__(self) -> None:
        super().__init__()
        self._by_namespace: dict[str, set[str]] = {}
        self._followed: set[str] = set()
        self._resync: set[str] = set()
        self._uncounted: set[str] = set()

    def start(self, world: World) -> None:
        super().start(world)
        self._reservations = world.reservations
        self._evaluators = Evaluators(world.clock)
        self._resources = world.resources
        self._resources.on_change(self._served_changed)
        world.reader.subscribe(QUOTAS, self._quota_changed)

    def _quota_changed(self, event: ObjectEvent, quota: Object, previous: Object | None) -> None:
        key, namespace = key_of(quota), quota["metadata"]["namespace"]
        if event is ObjectEvent.DELETED:
            quotas = self._by_namespace.get(namespace, set())
            quotas.discard(key)
            if not quotas:
                self._by_namespace.pop(namespace, None)
            return
        self._by_namespace.setdefault(namespace, set()).add(key)
        # what changed its status was either this controller or admission, which is right already
        if previous is None or previous.get("spec") != quota.get("spec"):
            self.queue.add(key)

    def _served_changed(self) -> None:
        """What could not be counted may have come to be."""
        for key in self._uncounted:
            self.queue.add(key)

    def _follow(self, resource: str) -> None:
        """Hear of objects that go, or use something else than before; for as long as the server runs."""
        evaluator = self._evaluators.of(resource)
        if resource in self._followed or evaluator is None or self._resources.by_group_resource(resource) is None:
            return
        self._followed.add(resource)

        def changed(event: ObjectEvent, obj: Object, previous: Object | None) -> None:
            quotas = self._by_namespace.get(obj["metadata"].get("namespace", ""))
            if not quotas or event is ObjectEvent.ADDED:
                return
            if event is ObjectEvent.DELETED or previous is None or evaluator.usage(previous) != evaluator.usage(obj):
                for key in quotas:
                    self.queue.add(key)

        self._reader.subscribe(resource, changed)

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        self._resync.discard(key)
        quota = await self._client.get(QUOTAS, namespace, name)
        if quota is None:
            self._uncounted.discard(key)
            return
        if self._reservations is not None and self._reservations.tell is not None:
            # Other processes charge and tell of it a moment later; whoever charges from now on makes the write fail.
            await self._clock.sleep(_TOLD_SECONDS)
        if key not in self._resync:
            self._resync.add(key)
            self.queue.add_at(key, self._clock.monotonic() + _RESYNC_SECONDS)
        hard = dict((quota.get("spec") or {}).get("hard") or {})
        for resource in self._evaluators.counting(hard):
            self._follow(resource)
        counted = used(quota, self._reader, self._clock, self._resources, self._reservations)
        if counted.keys() == hard.keys():
            self._uncounted.discard(key)
        else:
            self._uncounted.add(key)
        status = {"hard": hard, "used": counted}
        before = quota.get("status") or {}
        if before.get("hard", {}) != hard or before.get("used", {}) != status["used"]:
            # a conflict means that admission charged meanwhile: count again
            await tolerant(self._client.update_status(QUOTAS, namespace, name, {**quota, "status": status}))


def build() -> ResourceQuotas:
    return ResourceQuotas()
