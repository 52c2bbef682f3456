"""Cluster roles with an aggregationRule hold the rules of those that its selectors pick."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.selectors import SelectorError
from kubegate.authorization.rbac import CLUSTER_ROLES
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.registry.rbac import aggregation
from kubegate.storage import ObjectEvent


class ClusterRoleAggregation(Loop):
    """Keys are names of aggregated roles; a change of any cluster role may concern each of them."""

    name = "clusterrole-aggregation-controller"

    def __init__(self) -> None:
        super().__init__()
        self._aggregated: set[str] = set()

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe(CLUSTER_ROLES, self._role_changed)

    def _role_changed(self, event: ObjectEvent, role: Object, previous: Object | None) -> None:
        name = role["metadata"]["name"]
        if event is not ObjectEvent.DELETED and role.get("aggregationRule") is not None:
            self._aggregated.add(name)
        else:
            self._aggregated.discard(name)
        if previous is None or event is ObjectEvent.DELETED or _picked(role) != _picked(previous):
            for each in self._aggregated:
                self.queue.add(each)

    async def sync(self, key: str) -> None:
        role = self._reader.get(CLUSTER_ROLES, "", key)
        if role is None:
            return
        try:
            rules = aggregation.gathered(role, self._reader.list(CLUSTER_ROLES))
        except SelectorError:
            return  # validation lets none in; one from elsewhere picks nothing
        if rules is None or rules == list(role.get("rules") or ()):
            return
        await self._client.apply(CLUSTER_ROLES, "", key, aggregation.applied(key, rules), aggregation.FIELD_MANAGER)


def _picked(role: Object) -> tuple[object, object, object]:
    """What of a role others, or itself, are made of."""
    return role["metadata"].get("labels"), role.get("rules"), role.get("aggregationRule")


def build() -> ClusterRoleAggregation:
    return ClusterRoleAggregation()
