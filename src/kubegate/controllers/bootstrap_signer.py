"""`cluster-info` in kube-public is signed with every bootstrap token that may: who joins by a token can check it."""

from __future__ import annotations

import base64
import hashlib
import hmac

import orjson

from kubegate.api import Object
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.bootstraptokens import NAMESPACE, is_token, signing_secret
from kubegate.controllers.objects import tolerant
from kubegate.storage import ObjectEvent

_PUBLIC, _NAME = "kube-public", "cluster-info"
_CONTENT, _SIGNATURE = "kubeconfig", "jws-kubeconfig-"


class BootstrapSigner(Loop):
    """There is one key: the ConfigMap's name."""

    name = "bootstrap-signer-controller"
    account = "bootstrap-signer"

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe("configmaps", self._map_changed)
        world.reader.subscribe("secrets", self._secret_changed)

    def _map_changed(self, event: ObjectEvent, found: Object, _: Object | None) -> None:
        metadata = found["metadata"]
        if event is not ObjectEvent.DELETED and (metadata["namespace"], metadata["name"]) == (_PUBLIC, _NAME):
            self.queue.add(_NAME)

    def _secret_changed(self, event: ObjectEvent, secret: Object, _: Object | None) -> None:
        if is_token(secret):
            self.queue.add(_NAME)

    async def sync(self, key: str) -> None:
        found = await self._client.get("configmaps", _PUBLIC, key)
        data = dict((found or {}).get("data") or {})
        if found is None or _CONTENT not in data:
            return
        signed = {name: value for name, value in data.items() if not name.startswith(_SIGNATURE)}
        for secret in self._reader.list("secrets", NAMESPACE):
            token = signing_secret(secret, self._clock.now())
            if token is not None:
                signed[_SIGNATURE + token[0]] = detached(data[_CONTENT], *token)
        if signed != data:
            await tolerant(self._client.update("configmaps", _PUBLIC, key, {**found, "data": signed}))


def detached(content: str, identifier: str, secret: str) -> str:
    """A JWS (HS256) of the content without the content: `HEADER..SIGNATURE`."""
    header = _encoded(orjson.dumps({"alg": "HS256", "kid": identifier}))
    message = f"{header}.{_encoded(content.encode())}".encode()
    return f"{header}..{_encoded(hmac.digest(secret.encode(), message, hashlib.sha256))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def build() -> BootstrapSigner:
    return BootstrapSigner()
