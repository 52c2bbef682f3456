"""Bootstrap tokens go when their time is over."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.bootstraptokens import NAMESPACE, expires_at, is_token
from kubegate.controllers.objects import tolerant
from kubegate.storage import ObjectEvent


class TokenCleaner(Loop):
    """Keys are names of secrets in kube-system."""

    name = "token-cleaner-controller"
    account = "token-cleaner"

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe("secrets", self._changed)

    def _changed(self, event: ObjectEvent, secret: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED and is_token(secret):
            self.queue.add(secret["metadata"]["name"])

    async def sync(self, key: str) -> None:
        secret = self._reader.get("secrets", NAMESPACE, key)
        if secret is None or not is_token(secret):
            return
        end, now = expires_at(secret), self._clock.now()
        if end is None:
            return
        if end > now:
            self.queue.add_at(key, self._clock.monotonic() + end - now)
            return
        options = {"preconditions": {"uid": secret["metadata"]["uid"]}}
        await tolerant(self._client.delete("secrets", NAMESPACE, key, options), "NotFound", "Conflict")


def build() -> TokenCleaner:
    return TokenCleaner()
