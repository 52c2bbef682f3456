"""What admission may make of a custom resource, whose kind tells its decoder nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from crd_world import GROUP, CrdWorld, Object, context, crd, crd_world, properties

from kubegate.admission import Attributes, GroupVersionKind
from kubegate.api.resources import Resource
from kubegate.registry.admissionregistration.objects import RegistryObjects

WIDGET = GroupVersionKind(GROUP, "v1", "Widget")


class Changing:
    """Admission that does to each object what it is told."""

    def __init__(self, world: CrdWorld, change: Callable[[Object], object]) -> None:
        self._objects, self._change = RegistryObjects(world.registry), change

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.object is not None
        obj: Object = {**attributes.object, "metadata": {**attributes.object["metadata"]}}
        self._change(obj)
        decoded = self._objects.decode(WIDGET, obj)
        self._objects.default(WIDGET, decoded)
        attributes.object = decoded

    async def validate(self, attributes: Attributes) -> None:
        pass


@pytest.fixture
async def world() -> AsyncIterator[CrdWorld]:
    async with crd_world() as world:
        yield world


@pytest.fixture
async def resource(world: CrdWorld) -> Resource:
    return await world.serve(crd("widgets", properties(size={"type": "integer"})))


def widget(**more: object) -> Object:
    return {"metadata": {"name": "w"}, "spec": {"size": 1}, **more}


def change(world: CrdWorld, how: Callable[[Object], object]) -> None:
    world.registry.admission = Changing(world, how)


async def test_a_namespace_that_was_taken_away_is_put_back(world: CrdWorld, resource: Resource) -> None:
    change(world, lambda obj: obj["metadata"].pop("namespace"))
    made = await world.create(resource, widget())
    assert made["metadata"]["namespace"] == "default"
    assert (await world.update(resource, made))["metadata"]["namespace"] == "default"


async def test_another_namespace_is_a_bad_request_on_update_too(world: CrdWorld, resource: Resource) -> None:
    made = await world.create(resource, widget())
    change(world, lambda obj: obj["metadata"].update(namespace="other"))
    for work in (world.create(resource, widget()), world.update(resource, made)):
        refused = await world.refusal(work)
        assert (refused.code, refused.message) == (
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        )


async def test_a_change_of_the_name_is_told_with_the_new_one(world: CrdWorld, resource: Resource) -> None:
    made = await world.create(resource, widget())
    change(world, lambda obj: obj["metadata"].update(name="other"))
    refused = await world.refusal(world.update(resource, made))
    assert refused.message.startswith(f'Widget.{GROUP} "other" is invalid: metadata.name: ')
    assert (refused.details or {})["name"] == "other"


async def test_metadata_that_does_not_fit_is_lost(world: CrdWorld, resource: Resource) -> None:
    odd = {"labels": {"a": 1, "b": "c"}, "managedFields": "x", "colour": "red"}
    change(world, lambda obj: obj["metadata"].update(odd))
    meta = (await world.create(resource, widget()))["metadata"]
    assert meta["name"] == "w"
    assert not {"labels", "managedFields", "colour"} & meta.keys()


async def test_without_metadata_there_is_no_name(world: CrdWorld, resource: Resource) -> None:
    change(world, lambda obj: obj.pop("metadata"))
    refused = await world.refusal(world.create(resource, widget()))
    assert refused.message == f'Widget.{GROUP} "" is invalid: metadata.name: Required value: ' + (
        "name or generateName is required"
    )


async def test_a_null_that_admission_puts_in_is_refused(world: CrdWorld, resource: Resource) -> None:
    change(world, lambda obj: obj.update(spec={"size": None}))
    refused = await world.refusal(world.create(resource, widget()))
    assert refused.message == (
        f'Widget.{GROUP} "w" is invalid: spec.size: Invalid value: "null": '
        'spec.size in body must be of type integer: "null"'
    )


async def test_when_it_was_deleted_may_be_said_by_admission(world: CrdWorld, resource: Resource) -> None:
    change(world, lambda obj: obj["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    assert (await world.create(resource, widget()))["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:00Z"


async def test_what_says_no_kind_cannot_be_decoded(world: CrdWorld, resource: Resource) -> None:
    objects = RegistryObjects(world.registry)
    with pytest.raises(ValueError, match=r"^Object 'Kind' is missing in '{\"apiVersion\":\"b\",\"spec\":{}}'$"):
        objects.decode(WIDGET, {"spec": {}, "apiVersion": "b"})
    unversioned = objects.decode(WIDGET, {"kind": "Widget", "metadata": {"name": "w"}})
    with pytest.raises(ValueError, match=r'^/, Kind=Widget is unstructured and is not suitable for converting to "'):
        await objects.convert(unversioned, WIDGET)


async def test_new_finalizers_without_a_domain_are_warned_of(world: CrdWorld, resource: Resource) -> None:
    rules = world.registry.rules_of(resource)
    assert rules.warnings is not None
    new = widget(metadata={"name": "w", "finalizers": ["orphan", "mine", "a.b", "a/b", "a b"]})
    old = widget(metadata={"name": "w", "finalizers": ["mine", "a b"]})
    accidents = "to avoid accidental conflicts with other finalizer writers"
    dotted = f'metadata.finalizers: "a.b": prefer a domain-qualified finalizer name including a path (/) {accidents}'
    assert rules.warnings(new, old) == [dotted]
    assert rules.warnings(new, None)[-1] == (
        f'metadata.finalizers: "mine": prefer a domain-qualified finalizer name {accidents}'
    )


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"operation": "Odd"}, "operation must be `Apply` or `Update`"),
        (
            {"fieldsV1": {"bad": {}}, "time": "2026-01-02T03:04:05Z"},
            "error decoding versioned set from {test Update example.org/v1 2026-01-02 03:04:05 +0000 UTC FieldsV1 "
            '{"bad":{}} }: error decoding set: parsing key as path element: missing colon: bad',
        ),
    ],
)
async def test_owners_that_nobody_can_read_are_those_from_before(
    world: CrdWorld, resource: Resource, odd: Object, why: str
) -> None:
    change(world, lambda obj: obj["metadata"].update(managedFields=[{**obj["metadata"]["managedFields"][0], **odd}]))
    whole = {"apiVersion": resource.api_version, "kind": resource.kind, **widget()}
    asked = context()
    made = await world.registry.create(resource, "default", whole, asked)
    assert made["metadata"]["managedFields"][0]["fieldsV1"] == {"f:spec": {".": {}, "f:size": {}}}
    assert made["metadata"]["managedFields"][0]["operation"] == "Update"
    assert list(asked.trace.warnings) == [
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating"
        f" admission controller; please fix your requests: {why}"
    ]
