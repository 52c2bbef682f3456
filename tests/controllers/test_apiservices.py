"""APIServices: one for each version that definitions serve, and whether what serves them can be reached."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from controllers_world import NAMESPACE, ControllersWorld, Object, controllers_world

APISERVICES = "apiservices.apiregistration.k8s.io"
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
OPEN = {"openAPIV3Schema": {"type": "object"}}


@pytest.fixture
async def world() -> AsyncIterator[ControllersWorld]:
    async with controllers_world() as made:
        yield made


def definition(plural: str, *versions: str) -> Object:
    served = [{"name": name, "served": True, "storage": n == 0, "schema": OPEN} for n, name in enumerate(versions)]
    names = {"plural": plural, "kind": plural.capitalize()}
    spec = {"group": "example.org", "scope": "Cluster", "names": names, "versions": served}
    return {"metadata": {"name": f"{plural}.example.org"}, "spec": spec}


async def test_what_definitions_serve_is_registered(world: ControllersWorld) -> None:
    world.run("crd-autoregistration-controller")
    await world.create(DEFINITIONS, definition("forms", "v1", "v2"), "")
    made = world.must(APISERVICES, "v1.example.org", "")
    assert made["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "true"}
    assert made["spec"] == {
        "group": "example.org", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100
    }  # fmt: skip
    await world.delete(APISERVICES, "v1.example.org", "")
    assert world.get(APISERVICES, "v1.example.org", "") is not None, "it comes back"
    await world.update(
        DEFINITIONS, "forms.example.org", lambda crd: crd["spec"]["versions"][1].update(served=False), ""
    )
    assert world.get(APISERVICES, "v2.example.org", "") is None


async def test_what_is_registered_by_hand_is_let_alone(world: ControllersWorld) -> None:
    spec = {"group": "example.org", "version": "v1", "groupPriorityMinimum": 5, "versionPriority": 5}
    await world.create(APISERVICES, {"metadata": {"name": "v1.example.org"}, "spec": spec}, "")
    world.run("crd-autoregistration-controller")
    await world.create(DEFINITIONS, definition("forms", "v1"), "")
    assert world.must(APISERVICES, "v1.example.org", "")["spec"]["versionPriority"] == 5


async def test_what_is_in_the_way_of_another_server_is_told(world: ControllersWorld) -> None:
    world.run("apiservice-availability-controller")
    service = {"namespace": NAMESPACE, "name": "s", "port": 443}
    spec = {"group": "other.io", "version": "v1", "groupPriorityMinimum": 5, "versionPriority": 5, "service": service}
    await world.create(APISERVICES, {"metadata": {"name": "v1.other.io"}, "spec": spec}, "")

    def told() -> tuple[str, str, str]:
        [found] = world.must(APISERVICES, "v1.other.io", "")["status"]["conditions"]
        return found["status"], found["reason"], found["message"]

    what = f'service/s in "{NAMESPACE}"'
    assert told() == ("False", "ServiceNotFound", f"{what} is not present")
    await world.create("services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "name": "web"}]}})
    assert told() == ("False", "ServicePortError", f"{what} is not listening on port 443")
    await world.update("services", "s", lambda found: found["spec"]["ports"][0].update(port=443))
    assert told() == ("False", "EndpointsNotFound", f"cannot find endpointslices for {what}")
    labels = {"kubernetes.io/service-name": "s"}
    piece: Object = {"metadata": {"name": "s-1", "labels": labels}, "addressType": "IPv4", "endpoints": []}
    await world.create("endpointslices.discovery.k8s.io", piece)
    text = f'endpointslices for {what} have no addresses with port name "web"'
    assert told() == ("False", "MissingEndpoints", text)
    ready = {"endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"name": "web", "port": 8443}]}
    await world.update("endpointslices.discovery.k8s.io", "s-1", lambda found: found.update(ready))
    assert told()[1] == "FailedDiscoveryCheck"
    await world.update(APISERVICES, "v1.other.io", lambda found: found["spec"].pop("service"), "")
    assert told() == ("True", "Local", "Local APIServices are always available")
