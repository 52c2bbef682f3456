"""An APIService for each group and version that CustomResourceDefinitions serve.

kube-apiserver keeps them itself; see k8s.io/kubernetes/pkg/controlplane/controller/crdregistration and
k8s.io/kube-aggregator/pkg/controllers/autoregister.
"""

from __future__ import annotations

from kubegate.api import Object
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import tolerant
from kubegate.registry.apiregistration.apiservices import CUSTOM_PRIORITY
from kubegate.storage import ObjectEvent

_DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
_SERVICES = "apiservices.apiregistration.k8s.io"
_MANAGED = "kube-aggregator.kubernetes.io/automanaged"
_VERSION_PRIORITY = 100


class ApiServiceRegistration(Loop):
    """Keys are APIServices' names, VERSION.GROUP."""

    name = "crd-autoregistration-controller"

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe(_DEFINITIONS, self._definition_changed)
        world.reader.subscribe(_SERVICES, self._service_changed)

    def _definition_changed(self, event: ObjectEvent, obj: Object, previous: Object | None) -> None:
        for definition in (obj, previous):
            if definition is not None:
                for version in definition["spec"].get("versions") or ():
                    self.queue.add(f"{version['name']}.{definition['spec']['group']}")

    def _service_changed(self, event: ObjectEvent, obj: Object, previous: Object | None) -> None:
        """Those that are kept here come back as they were."""
        if _is_kept(obj) or (previous is not None and _is_kept(previous)):
            self.queue.add(obj["metadata"]["name"])

    async def sync(self, key: str) -> None:
        version, _, group = key.partition(".")
        there = self._reader.get(_SERVICES, "", key)
        if there is not None and not _is_kept(there):
            return
        if not self._is_served(group, version):
            if there is not None:
                options = {"preconditions": {"uid": there["metadata"]["uid"]}}
                await tolerant(self._client.delete(_SERVICES, "", key, options), "NotFound", "Conflict")
            return
        spec = {
            "group": group,
            "version": version,
            "groupPriorityMinimum": CUSTOM_PRIORITY,
            "versionPriority": _VERSION_PRIORITY,
        }
        if there is None:
            metadata = {"name": key, "labels": {_MANAGED: "true"}}
            await tolerant(self._client.create(_SERVICES, "", {"metadata": metadata, "spec": spec}), "AlreadyExists")
        elif there["spec"] != spec:
            await self._client.update(_SERVICES, "", key, {**there, "spec": spec})

    def _is_served(self, group: str, version: str) -> bool:
        return any(
            found["name"] == version and found.get("served")
            for definition in self._reader.list(_DEFINITIONS)
            if definition["spec"]["group"] == group
            for found in definition["spec"].get("versions") or ()
        )


def _is_kept(service: Object) -> bool:
    return (service["metadata"].get("labels") or {}).get(_MANAGED) == "true"


def build() -> ApiServiceRegistration:
    return ApiServiceRegistration()
