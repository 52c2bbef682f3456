"""`kube-root-ca.crt` in every namespace: the CA with which pods check the API server."""

from __future__ import annotations

from pathlib import Path

from kubegate.api import Object
from kubegate.api.status import StatusError
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.storage import ObjectEvent

NAME = "kube-root-ca.crt"
_DESCRIPTION = "kubernetes.io/description"
_TEXT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class RootCa(Loop):
    """Keys are namespaces. The ConfigMap is made again when it is deleted, and put right when it is changed."""

    name = "root-ca-certificate-publisher-controller"
    account = "root-ca-cert-publisher"
    _pem: str

    def start(self, world: World) -> None:
        super().start(world)
        options = world.options
        path = options.root_ca_file or options.client_ca_file
        self._pem = Path(path).read_text() if path else ""
        world.reader.subscribe("namespaces", self._namespace_changed)
        world.reader.subscribe("configmaps", self._map_changed)

    def _namespace_changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED:
            self.queue.add(obj["metadata"]["name"])

    def _map_changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        if obj["metadata"]["name"] == NAME:
            self.queue.add(obj["metadata"]["namespace"])

    async def sync(self, key: str) -> None:
        namespace = self._reader.get("namespaces", "", key)
        if not self._pem or namespace is None or "deletionTimestamp" in namespace["metadata"]:
            return
        current = self._reader.get("configmaps", key, NAME)
        data = {"ca.crt": self._pem}
        try:
            if current is None:
                metadata = {"name": NAME, "namespace": key, "annotations": {_DESCRIPTION: _TEXT}}
                await self._client.create("configmaps", key, {"metadata": metadata, "data": data})
                return
            annotations = current["metadata"].get("annotations") or {}
            if current.get("data") == data and annotations.get(_DESCRIPTION):
                return
            metadata = {**current["metadata"], "annotations": {**annotations, _DESCRIPTION: _TEXT}}
            await self._client.update("configmaps", key, NAME, {**current, "metadata": metadata, "data": data})
        except StatusError as error:
            if error.reason not in ("AlreadyExists", "NotFound", "Forbidden"):
                raise


def build() -> RootCa:
    return RootCa()
