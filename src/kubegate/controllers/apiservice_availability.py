"""The Available condition of APIServices: whether what serves them can be reached.

kube-apiserver keeps it itself; see k8s.io/kube-aggregator/pkg/controllers/status. Nothing is proxied here, so that what
another server serves is never available; the condition tells the first thing that is in the way.
"""

from __future__ import annotations

from kubegate.api import Object, clone
from kubegate.api.clock import rfc3339
from kubegate.api.field import quoted
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import condition, tolerant
from kubegate.storage import ObjectEvent

_SERVICES = "apiservices.apiregistration.k8s.io"
_SLICES = "endpointslices.discovery.k8s.io"
_SERVICE_NAME = "kubernetes.io/service-name"
_LOCAL = ("True", "Local", "Local APIServices are always available")


class ApiServiceAvailability(Loop):
    """Keys are APIServices' names."""

    name = "apiservice-availability-controller"

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe(_SERVICES, self._there)
        world.reader.subscribe("services", self._service_changed)
        world.reader.subscribe(_SLICES, self._slice_changed)

    def _service_changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        self._add_those_of(obj["metadata"]["namespace"], obj["metadata"]["name"])

    def _slice_changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        name = (obj["metadata"].get("labels") or {}).get(_SERVICE_NAME)
        if name:
            self._add_those_of(obj["metadata"]["namespace"], name)

    def _add_those_of(self, namespace: str, name: str) -> None:
        for found in self._reader.list(_SERVICES):
            service = found["spec"].get("service") or {}
            if (service.get("namespace"), service.get("name")) == (namespace, name):
                self.queue.add(found["metadata"]["name"])

    async def sync(self, key: str) -> None:
        found = self._reader.get(_SERVICES, "", key)
        if found is None:
            return
        service = found["spec"].get("service")
        value, reason, message = _LOCAL if service is None else self._in_the_way(found["spec"], service)
        before = condition(found, "Available")
        if before is not None and (before["status"], before.get("reason"), before.get("message")) == (
            value,
            reason,
            message,
        ):
            return
        stays = before is not None and before["status"] == value
        since = before["lastTransitionTime"] if stays and before is not None else rfc3339(self._clock.now())
        said = {"type": "Available", "status": value, "lastTransitionTime": since, "reason": reason, "message": message}
        changed = clone(found)
        others = [one for one in (found.get("status") or {}).get("conditions") or () if one["type"] != "Available"]
        changed["status"] = {**(found.get("status") or {}), "conditions": [*others, said]}
        # gone, or changed meanwhile: its own event wakes this up
        await tolerant(self._client.update_status(_SERVICES, "", key, changed), "NotFound", "Conflict")

    def _in_the_way(self, spec: Object, wanted: Object) -> tuple[str, str, str]:
        """Status, reason and message."""
        namespace, name, port = wanted["namespace"], wanted["name"], wanted.get("port", 443)
        what = f"service/{name} in {quoted(namespace)}"
        service = self._reader.get("services", namespace, name)
        if service is None:
            return "False", "ServiceNotFound", f"{what} is not present"
        host = service["spec"].get("externalName") or service["spec"].get("clusterIP") or ""
        if service["spec"].get("type") == "ClusterIP":
            ports = [found for found in service["spec"].get("ports") or () if found["port"] == port]
            if not ports:
                return "False", "ServicePortError", f"{what} is not listening on port {port}"
            slices = [
                found
                for found in self._reader.list(_SLICES, namespace)
                if (found["metadata"].get("labels") or {}).get(_SERVICE_NAME) == name
            ]
            if not slices:
                return "False", "EndpointsNotFound", f"cannot find endpointslices for {what}"
            port_name = ports[0].get("name") or ""
            if not any(_has_endpoint(found, port_name) for found in slices):
                text = f"endpointslices for {what} have no addresses with port name {quoted(port_name)}"
                return "False", "MissingEndpoints", text
        url = f"https://{host}:{port}/apis/{spec.get('group', '')}/{spec['version']}"
        text = f"failing or missing response from {url}: this server does not proxy requests to others"
        return "False", "FailedDiscoveryCheck", text


def _has_endpoint(found: Object, port_name: str) -> bool:
    ready = any((one.get("conditions") or {}).get("ready") is not False for one in found.get("endpoints") or ())
    return ready and any(
        (port.get("name") or "") == port_name and port.get("port") is not None for port in found.get("ports") or ()
    )


def build() -> ApiServiceAvailability:
    return ApiServiceAvailability()
