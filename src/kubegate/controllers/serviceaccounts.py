"""A `default` service account in every namespace that is not about to end."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.status import StatusError
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.storage import ObjectEvent

_NAME = "default"


class ServiceAccounts(Loop):
    """Keys are namespaces."""

    name = "serviceaccount-controller"
    account = "service-account-controller"

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe("namespaces", self._namespace_changed)
        world.reader.subscribe("serviceaccounts", self._account_changed)

    def _namespace_changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED:
            self.queue.add(obj["metadata"]["name"])

    def _account_changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        if event is ObjectEvent.DELETED and obj["metadata"]["name"] == _NAME:
            self.queue.add(obj["metadata"]["namespace"])

    async def sync(self, key: str) -> None:
        namespace = self._reader.get("namespaces", "", key)
        if namespace is None or "deletionTimestamp" in namespace["metadata"]:
            return
        if self._reader.get("serviceaccounts", key, _NAME) is not None:
            return
        account = {"metadata": {"name": _NAME, "namespace": key}}
        try:
            await self._client.create("serviceaccounts", key, account)
        except StatusError as error:
            # Somebody was faster, or the namespace began to end: both are as it should be.
            if error.reason not in ("AlreadyExists", "NotFound", "Forbidden"):
                raise


def build() -> ServiceAccounts:
    return ServiceAccounts()
