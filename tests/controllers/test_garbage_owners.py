"""Owners that are not there, or not where they would have to be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_world import NAMESPACE, ControllersWorld, controllers_world

Object = dict[str, Any]


@pytest.fixture
async def world() -> AsyncIterator[ControllersWorld]:
    async with controllers_world() as found:
        found.run("garbage-collector-controller")
        yield found


def owned(by: Object, kind: str = "ConfigMap") -> Object:
    reference = {"apiVersion": "v1", "kind": kind, "name": by["metadata"]["name"], "uid": by["metadata"]["uid"]}
    return {"metadata": {"name": "mine", "ownerReferences": [reference]}}


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "known as an owner"])
async def test_who_names_an_owner_of_another_namespace_is_told_and_goes(world: ControllersWorld, known: bool) -> None:
    owner = await world.create("configmaps", {"metadata": {"name": "owner"}}, "other")
    if known:
        await world.create("secrets", owned(owner), "other")
    made = await world.create("secrets", owned(owner))
    assert world.get("secrets", "mine") is None
    uid = owner["metadata"]["uid"]
    text = f'ownerRef [v1/ConfigMap, namespace: {NAMESPACE}, name: owner, uid: {uid}] does not exist in namespace "ns"'
    assert world.events() == [("OwnerRefInvalidNamespace", text)]
    (event,) = world.registry.reader.list("events")
    about = {"kind": "Secret", "apiVersion": "v1", "name": "mine", "namespace": "ns", "uid": made["metadata"]["uid"]}
    assert event["involvedObject"] == about
    assert (world.get("secrets", "mine", "other") is not None) is known


async def test_of_owners_that_are_nowhere_nothing_is_told(world: ControllersWorld) -> None:
    gone = {"metadata": {"name": "gone", "uid": "00000000-0000-4000-8000-000000000000"}}
    await world.create("secrets", owned(gone))
    node = await world.create("nodes", {"metadata": {"name": "n"}}, "")
    await world.create("configmaps", owned(node, "Node"))
    assert world.get("secrets", "mine") is None and world.get("configmaps", "mine") is not None
    assert world.events() == []
