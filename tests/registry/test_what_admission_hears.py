"""What admission is told of a request: names and namespaces as the request has them, and options."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kinds_world import NAMESPACE, KindsWorld, context, kinds_world, meta

from kubegate.admission import Attributes
from kubegate.api.status import StatusError

Heard = tuple[str, str, str, str]


class Listening:
    """Writes down what it is asked, and renames what is called `old`."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.options: list[Any] = []

    async def admit(self, attributes: Attributes) -> None:
        self._write("admit", attributes)
        if attributes.object is not None and attributes.name == "old":
            attributes.object["metadata"]["name"] = "new"

    async def validate(self, attributes: Attributes) -> None:
        self._write("validate", attributes)

    def _write(self, turn: str, attributes: Attributes) -> None:
        self.heard.append((turn, attributes.operation.value, attributes.namespace, attributes.name))
        self.options.append(attributes.options)


@pytest.fixture
async def world() -> AsyncIterator[KindsWorld]:
    async with kinds_world() as made:
        yield made


@pytest.fixture
def listening(world: KindsWorld) -> Listening:
    admission = world.registry.admission = Listening()
    return admission


async def test_a_namespace_is_in_itself(world: KindsWorld, listening: Listening) -> None:
    await world.create("namespaces", meta("shop"))
    await world.patch("namespaces", "shop", {"metadata": {"labels": {"a": "b"}}})
    await world.delete("namespaces", "shop")
    assert {heard[2:] for heard in listening.heard} == {("shop", "shop")}
    assert [heard[1] for heard in listening.heard[::2]] == ["CREATE", "UPDATE", "DELETE"]


async def test_a_generated_name_is_known_when_the_object_is_validated(world: KindsWorld, listening: Listening) -> None:
    created = await world.create("configmaps", {"metadata": {"generateName": "c-"}})
    assert listening.heard == [
        ("admit", "CREATE", NAMESPACE, ""),
        ("validate", "CREATE", NAMESPACE, created["metadata"]["name"]),
    ]


async def test_a_name_that_admission_changed_is_not_told_it(world: KindsWorld, listening: Listening) -> None:
    created = await world.create("configmaps", meta("old"))
    assert created["metadata"]["name"] == "new"
    assert [heard[3] for heard in listening.heard] == ["old", "old"]


async def test_what_is_deleted_with_others_has_no_name(world: KindsWorld, listening: Listening) -> None:
    for name in ("a", "b"):
        await world.create("configmaps", meta(name))
    listening.heard.clear()
    resource = world.resource("configmaps")
    entries = [world.registry.entry(resource, NAMESPACE, name) for name in ("a", "b")]
    await world.registry.delete_collection(resource, entries, {}, context())
    assert listening.heard == [("admit", "DELETE", NAMESPACE, ""), ("validate", "DELETE", NAMESPACE, "")] * 2


async def test_preconditions_are_looked_at_before_admission_is_asked(world: KindsWorld, listening: Listening) -> None:
    await world.create("configmaps", meta("a"))
    listening.heard.clear()
    with pytest.raises(StatusError) as caught:
        await world.delete("configmaps", "a", preconditions={"uid": "another"})
    assert (caught.value.code, listening.heard) == (409, [])


async def test_what_is_created_by_applying_it_has_the_options_of_a_creation(
    world: KindsWorld, listening: Listening
) -> None:
    options = {"kind": "PatchOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me", "force": True}
    applied = {"apiVersion": "v1", "kind": "ConfigMap", **meta("a")}
    resource, asked = world.resource("configmaps"), context(options=options)
    await world.registry.apply(resource, NAMESPACE, "a", applied, asked, force=True)
    assert listening.options[0] == {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"}
