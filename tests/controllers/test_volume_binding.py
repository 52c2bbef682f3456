"""Claims and volumes find each other, and part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_world import ControllersWorld, controllers_world

Object = dict[str, Any]
CLAIMS, VOLUMES, CLASSES = "persistentvolumeclaims", "persistentvolumes", "storageclasses.storage.k8s.io"


@pytest.fixture
async def world() -> AsyncIterator[ControllersWorld]:
    async with controllers_world() as made:
        await made.client.create("namespaces", "", {"metadata": {"name": "ns"}})
        made.run("persistentvolume-binder-controller", "volumeattributesclass-protection-controller")
        yield made


def volume(name: str, size: str = "1Gi", **spec: Any) -> Object:
    usual = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"}}
    return {"metadata": {"name": name}, "spec": {**usual, "storageClassName": "manual", **spec}}


def claim(name: str = "c", size: str = "1Gi", **spec: Any) -> Object:
    usual = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"metadata": {"name": name}, "spec": {**usual, "storageClassName": "manual", **spec}}


def storage_class(name: str, provisioner: str, mode: str = "Immediate", **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}, "provisioner": provisioner, "volumeBindingMode": mode}


def phases(world: ControllersWorld) -> dict[str, str]:
    found = [*world.registry.reader.list(VOLUMES), *world.registry.reader.list(CLAIMS)]
    return {one["metadata"]["name"]: one["status"]["phase"] for one in found}


async def test_a_claim_gets_the_smallest_volume_that_is_enough(world: ControllersWorld) -> None:
    for name, size in (("large", "10Gi"), ("small", "1Gi"), ("fits", "2Gi")):
        await world.create(VOLUMES, volume(name, size), "")
    await world.create(CLAIMS, claim(size="2Gi"))
    assert phases(world) == {"large": "Available", "small": "Available", "fits": "Bound", "c": "Bound"}
    found, got = world.must(CLAIMS, "c"), world.must(VOLUMES, "fits", "")
    assert found["spec"]["volumeName"] == "fits"
    assert found["metadata"]["annotations"] == {
        "pv.kubernetes.io/bind-completed": "yes",
        "pv.kubernetes.io/bound-by-controller": "yes",
    }
    assert (found["status"]["accessModes"], found["status"]["capacity"]) == (["ReadWriteOnce"], {"storage": "2Gi"})
    assert got["spec"]["claimRef"]["uid"] == found["metadata"]["uid"]
    assert got["metadata"]["annotations"] == {"pv.kubernetes.io/bound-by-controller": "yes"}


async def test_a_claim_waits_until_there_is_a_volume(world: ControllersWorld) -> None:
    await world.create(CLAIMS, claim(storageClassName=""))
    text = "no persistent volumes available for this claim and no storage class is set"
    assert world.events() == [("FailedBinding", text)]
    await world.create(VOLUMES, volume("v", storageClassName=""), "")
    assert phases(world) == {"v": "Bound", "c": "Bound"}


async def test_what_a_class_provisions_is_asked_for(world: ControllersWorld) -> None:
    await world.create(CLASSES, storage_class("csi", "csi.example.org"), "")
    await world.create(CLAIMS, claim(storageClassName="csi"))
    annotations = world.must(CLAIMS, "c")["metadata"]["annotations"]
    assert annotations["volume.kubernetes.io/storage-provisioner"] == "csi.example.org"
    assert world.events()[0][0] == "ExternalProvisioning"
    await world.create(CLAIMS, claim("d", storageClassName="none"))
    assert ("ProvisioningFailed", 'storageclass.storage.k8s.io "none" not found') in world.events()


async def test_a_claim_that_names_no_class_gets_the_default_when_there_is_one(world: ControllersWorld) -> None:
    made = claim()
    del made["spec"]["storageClassName"]
    await world.create(CLAIMS, made)
    usual = {"storageclass.kubernetes.io/is-default-class": "true"}
    await world.create(CLASSES, storage_class("usual", "csi.example.org", annotations=usual), "")
    await world.create(VOLUMES, volume("other"), "")  # whatever happens to volumes is looked at again
    assert world.must(CLAIMS, "c")["spec"]["storageClassName"] == "usual"


async def test_some_classes_wait_for_the_pod(world: ControllersWorld) -> None:
    await world.create(CLASSES, storage_class("manual", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"), "")
    await world.create(VOLUMES, volume("v"), "")
    await world.create(CLAIMS, claim())
    assert phases(world) == {"v": "Available", "c": "Pending"}
    assert world.events() == [("WaitForFirstConsumer", "waiting for first consumer to be created before binding")]


async def test_a_volume_that_was_made_for_a_claim_is_its_own(world: ControllersWorld) -> None:
    await world.create(VOLUMES, volume("v", claimRef={"namespace": "ns", "name": "c"}), "")
    await world.create(CLAIMS, claim("other"))
    assert phases(world)["other"] == "Pending"
    await world.create(CLAIMS, claim())
    assert phases(world) == {"v": "Bound", "other": "Pending", "c": "Bound"}
    assert "annotations" not in world.must(VOLUMES, "v", "")["metadata"]


async def test_a_volume_for_a_claim_without_a_name_is_nobodys(world: ControllersWorld) -> None:
    await world.create(VOLUMES, volume("v", claimRef={"kind": "PersistentVolumeClaim"}), "")
    await world.create(VOLUMES, volume("w", claimRef={"uid": "u"}), "")
    await world.create(CLAIMS, claim())
    assert phases(world) == {"v": "Available", "w": "Released", "c": "Pending"}


async def test_a_claim_may_name_its_volume_if_that_fits(world: ControllersWorld) -> None:
    await world.create(VOLUMES, volume("v"), "")
    await world.create(CLAIMS, claim("big", "5Gi", volumeName="v"))
    assert ("VolumeMismatch", 'Cannot bind to requested volume "v": requested PV is too small') in world.events()
    await world.create(CLAIMS, claim(volumeName="v"))
    assert phases(world) == {"v": "Bound", "big": "Pending", "c": "Bound"}
    annotations = world.must(CLAIMS, "c")["metadata"]["annotations"]
    assert annotations == {"pv.kubernetes.io/bind-completed": "yes"}


@pytest.mark.parametrize(("policy", "phase"), [("Retain", "Released"), ("Delete", "Failed")])
async def test_a_volume_outlives_its_claim(world: ControllersWorld, policy: str, phase: str) -> None:
    await world.create(VOLUMES, volume("v", persistentVolumeReclaimPolicy=policy), "")
    await world.create(CLAIMS, claim())
    await world.delete(CLAIMS, "c")
    assert phases(world) == {"v": phase}
    await world.create(CLAIMS, claim())
    assert phases(world)["c"] == "Pending"
    await world.update(VOLUMES, "v", lambda found: found["spec"].pop("claimRef"), "")
    assert phases(world) == {"v": "Bound", "c": "Bound"}


async def test_a_claim_that_lost_its_volume_says_so(world: ControllersWorld) -> None:
    await world.create(VOLUMES, volume("v"), "")
    await world.create(CLAIMS, claim())
    await world.delete(VOLUMES, "v", "")
    assert phases(world) == {"c": "Lost"}
    assert world.events()[-1][0] == "ClaimLost"


async def test_a_class_of_attributes_stays_while_a_claim_has_it(world: ControllersWorld) -> None:
    classes = "volumeattributesclasses.storage.k8s.io"
    for name in ("gold", "silver"):
        made = {"metadata": {"name": name}, "driverName": "csi.example.org", "parameters": {"iops": "9"}}
        await world.create(classes, made, "")
        assert world.must(classes, name, "")["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
    await world.create(CLAIMS, claim(volumeAttributesClassName="gold"))
    for name in ("gold", "silver"):
        await world.delete(classes, name, "")
    assert world.names(classes, "") == ["gold"]
    await world.delete(CLAIMS, "c")
    assert world.names(classes, "") == []
