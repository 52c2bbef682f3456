"""IPAddresses of Services, and the ServiceCIDRs that they come from; claims of ephemeral volumes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_world import ControllersWorld, controllers_world

Object = dict[str, Any]
ADDRESSES, CIDRS, CLAIMS = "ipaddresses.networking.k8s.io", "servicecidrs.networking.k8s.io", "persistentvolumeclaims"


@pytest.fixture
async def world() -> AsyncIterator[ControllersWorld]:
    async with controllers_world() as made:
        await made.client.create("namespaces", "", {"metadata": {"name": "ns"}})
        made.run("service-ip-address-controller", "service-cidr-controller", "ephemeral-volume-controller")
        yield made


def service(name: str = "web", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def cidr(text: str) -> Object:
    return {"metadata": {"name": "extra"}, "spec": {"cidrs": [text]}}


def ready(world: ControllersWorld) -> Object:
    [found] = world.must(CIDRS, "extra", "")["status"]["conditions"]
    return dict(found)


async def test_each_cluster_ip_is_an_object(world: ControllersWorld) -> None:
    made = await world.create("services", service())
    [address] = made["spec"]["clusterIPs"]
    found = world.must(ADDRESSES, address, "")
    assert found["spec"]["parentRef"] == {"resource": "services", "namespace": "ns", "name": "web"}
    assert found["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    await world.delete(ADDRESSES, address, "")
    assert world.names(ADDRESSES, "") == [address], "what a Service holds comes back"
    await world.create("services", service("none", clusterIP="None"))
    await world.delete("services", "web")
    assert world.names(ADDRESSES, "") == []


async def test_services_get_addresses_of_another_range(world: ControllersWorld) -> None:
    await world.create(CIDRS, cidr("10.250.0.0/24"), "")
    found = world.must(CIDRS, "extra", "")
    assert found["metadata"]["finalizers"] == ["networking.k8s.io/service-cidr-finalizer"]
    assert (ready(world)["status"], ready(world)["message"]) == ("True", "Kubernetes Service CIDR is ready")
    made = await world.create("services", service(clusterIP="10.250.0.7"))
    assert made["spec"]["clusterIP"] == "10.250.0.7"


async def test_a_range_stays_while_services_have_its_addresses(world: ControllersWorld) -> None:
    await world.create(CIDRS, cidr("10.250.0.0/24"), "")
    await world.create("services", service(clusterIP="10.250.0.7"))
    await world.delete(CIDRS, "extra", "")
    assert (ready(world)["status"], ready(world)["reason"]) == ("False", "Terminating")
    await world.delete("services", "web")
    assert world.names(CIDRS, "") == ["extra"], "whoever allocates is given time to see it"
    await world.advance(11)
    assert world.names(CIDRS, "") == []


async def test_an_ephemeral_volume_has_a_claim_of_the_pods_own(world: ControllersWorld) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
    pod = {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}],
    }
    made = await world.create("pods", {"metadata": {"name": "p"}, "spec": pod})
    found = world.must(CLAIMS, "p-v")
    assert found["metadata"]["labels"] == {"a": "b"}
    assert found["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    await world.create(CLAIMS, {"metadata": {"name": "q-v"}, "spec": spec})
    await world.create("pods", {"metadata": {"name": "q"}, "spec": pod})
    text = "ephemeral volume v: PVC ns/q-v was not created for pod ns/q (pod is not owner)"
    assert ("FailedBinding", text) in world.events()
