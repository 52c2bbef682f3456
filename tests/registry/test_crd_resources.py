"""Custom resources: decoded, defaulted, checked, and kept by the rules of their definition."""

from __future__ import annotations

from typing import Any

import pytest
from crd_world import context, crd, crd_world, properties

from kubegate.admission import Attributes, GroupVersionKind
from kubegate.api import patch
from kubegate.api.normalize import TypeMismatch
from kubegate.api.resources import Resource
from kubegate.api.status import StatusError
from kubegate.registry import scale
from kubegate.registry.admissionregistration.objects import RegistryObjects
from kubegate.registry.apiextensions import customresources

Object = dict[str, Any]
NUMBER = {"type": "integer"}


def causes(error: StatusError) -> list[tuple[str, str]]:
    assert error.code == 422 and error.details is not None
    return [(cause["field"], cause["message"]) for cause in error.details["causes"]]


async def test_objects_are_pruned_defaulted_and_counted() -> None:
    async with crd_world() as world:
        schema = properties(size=NUMBER, mode={"type": "string", "default": "slow"})
        resource = await world.serve(crd("forms", schema))
        made = await world.create(resource, {"metadata": {"name": "a"}, "spec": {"size": 1, "extra": 2}, "other": 3})
        assert made["spec"] == {"size": 1, "mode": "slow"} and "other" not in made
        assert made["metadata"]["generation"] == 1
        assert made["metadata"]["managedFields"][0]["fieldsV1"] == {"f:spec": {".": {}, "f:mode": {}, "f:size": {}}}
        changed = await world.update(resource, {**made, "spec": {"size": 2}})
        assert (changed["spec"], changed["metadata"]["generation"]) == ({"size": 2, "mode": "slow"}, 2)


class Adding:
    """Admission that gives every object a field that its schema does not know."""

    def __init__(self) -> None:
        self.validated: list[Any] = []

    async def admit(self, attributes: Attributes) -> None:
        old = attributes.object or {}
        attributes.object = {**old, "spec": {**old["spec"], "unknown": "x"}}

    async def validate(self, attributes: Attributes) -> None:
        self.validated.append(attributes.object and dict(attributes.object["spec"]))


async def test_what_admission_adds_is_pruned_after_it_was_validated() -> None:
    async with crd_world() as world:
        resource = await world.serve(crd("forms", properties(size=NUMBER)))
        admission = world.registry.admission = Adding()
        made = await world.create(resource, {"metadata": {"name": "a"}, "spec": {"size": 1}})
        changed = await world.update(resource, {**made, "spec": {"size": 2}})
        assert (made["spec"], changed["spec"]) == ({"size": 1}, {"size": 2})
        assert (await world.registry.get(resource, "default", "a"))["spec"] == {"size": 2}
        assert admission.validated == [{"size": 1, "unknown": "x"}, {"size": 2, "unknown": "x"}]


async def test_admission_may_give_back_another_version_and_no_other_group() -> None:
    async with crd_world() as world:
        await world.serve(crd("forms", properties(size=NUMBER), versions=("v1", "v2")))
        objects, kind = RegistryObjects(world.registry), GroupVersionKind("example.org", "v1", "Form")

        async def back(api_version: str) -> Object:
            return await objects.convert({"apiVersion": api_version, "kind": "Form", "metadata": {"name": "a"}}, kind)

        assert (await back("example.org/v2"))["apiVersion"] == "example.org/v1"
        with pytest.raises(ValueError, match=r"^request to convert CR from an invalid group/version: "):
            await back("example.org/v3")
        with pytest.raises(ValueError, match=r"^/v1, Kind=Form is unstructured and is not "):
            await back("v1")


async def test_another_version_shows_what_it_knows() -> None:
    async with crd_world() as world:
        definition = crd("forms", properties(a=NUMBER, b={"type": "integer", "default": 5}), versions=("v1", "v2"))
        definition["spec"]["versions"][1]["schema"] = {"openAPIV3Schema": properties(b=NUMBER, c=NUMBER)}
        first = await world.serve(definition)
        second = world.resource("forms", "v2")
        assert second is not None
        await world.create(first, {"metadata": {"name": "x"}, "spec": {"a": 1}})
        assert (await world.registry.get(second, "default", "x"))["spec"] == {"b": 5}
        made = await world.create(second, {"metadata": {"name": "y"}, "spec": {"b": 1, "c": 2}})
        assert made["apiVersion"] == "example.org/v2"
        assert (await world.registry.get(first, "default", "y"))["spec"] == {"b": 1}


async def test_values_are_checked_and_an_update_must_say_what_it_changes() -> None:
    async with crd_world() as world:
        schema = properties(size={"type": "integer", "maximum": 5})
        resource = await world.serve(crd("forms", schema))
        error = await world.refusal(world.create(resource, {"metadata": {"name": "a"}, "spec": {"size": 9}}))
        assert causes(error) == [("spec.size", "Invalid value: 9: spec.size in body should be less than or equal to 5")]
        await world.create(resource, {"metadata": {"name": "a"}, "spec": {"size": 1}})
        error = await world.refusal(world.update(resource, {"metadata": {"name": "a"}, "spec": {"size": 2}}))
        assert causes(error) == [("metadata.resourceVersion", "Invalid value: 0: must be specified for an update")]


async def test_an_object_of_another_kind_is_refused_under_its_own_name() -> None:
    async with crd_world() as world:
        resource = await world.serve(crd("forms"))
        error = await world.refusal(world.create(resource, {"kind": "Firm", "metadata": {"name": "b"}}))
        assert error.message == 'Firm.example.org "b" is invalid: kind: Invalid value: "Firm": must be Form'


async def test_metadata_must_be_metadata() -> None:
    async with crd_world() as world:
        resource = await world.serve(crd("forms"))
        with pytest.raises(TypeMismatch, match="cannot unmarshal number into Go struct field ObjectMeta"):
            await world.create(resource, {"metadata": {"name": "b", "labels": {"a": 1}}})


async def test_status_is_written_through_its_own_endpoint_alone() -> None:
    async with crd_world() as world:
        schema = properties(size=NUMBER)
        schema["properties"]["status"] = properties(ready=NUMBER)["properties"]["spec"]
        resource = await world.serve(crd("forms", schema, subresources={"status": {}}))
        obj = {"metadata": {"name": "a"}, "spec": {"size": 1}, "status": {"ready": 1}}
        made = await world.create(resource, obj)
        assert "status" not in made
        told = {
            **made,
            "metadata": {**made["metadata"], "labels": {"l": "1"}},
            "spec": {"size": 7},
            "status": {"ready": 2},
        }
        written = await world.update(resource, told, "status")
        assert (written["spec"], written["status"]) == ({"size": 1}, {"ready": 2})
        assert "labels" not in written["metadata"] and written["metadata"]["generation"] == 1


async def test_without_a_status_endpoint_status_counts_like_the_rest() -> None:
    async with crd_world() as world:
        resource = await world.serve(crd("forms"))
        made = await world.create(resource, {"metadata": {"name": "a"}, "status": {"ready": 1}})
        changed = await world.update(resource, {**made, "status": {"ready": 2}})
        assert (changed["status"], changed["metadata"]["generation"]) == ({"ready": 2}, 2)


async def test_replicas_are_scaled_where_the_definition_says_they_are() -> None:
    async with crd_world() as world:
        paths = {"specReplicasPath": ".spec.count", "statusReplicasPath": ".status.count"}
        resource = await world.serve(crd("fleets", properties(count=NUMBER), subresources={"scale": paths}))
        await world.create(resource, {"metadata": {"name": "f"}, "spec": {"count": 2}})
        assert scale.of(resource, (await world.registry.get(resource, "default", "f")))["spec"] == {"replicas": 2}

        def to(replicas: int) -> scale.ScaleChange:
            return scale.ScaleChange(lambda current: {**current, "spec": {"replicas": replicas}})

        written = await scale.write(world.registry, resource, "default", "f", to(5), context())
        assert written["spec"] == {"replicas": 5}
        stored = await world.registry.get(resource, "default", "f")
        assert (stored["spec"], stored["metadata"]["generation"]) == ({"count": 5}, 2)
        owners = stored["metadata"]["managedFields"]
        assert [(one.get("subresource"), one["fieldsV1"]) for one in owners] == [
            ("scale", {"f:spec": {"f:count": {}}}),
            (None, {"f:spec": {}}),
        ]
        error = await world.refusal(scale.write(world.registry, resource, "default", "f", to(-1), context()))
        assert causes(error) == [(".spec.count", "Invalid value: -1: should be a non-negative integer")]


async def test_fields_may_be_selected_that_the_definition_names() -> None:
    async with crd_world() as world:
        more = {"selectableFields": [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}]}
        schema = properties(color={"type": "string"}, size=NUMBER)
        resource = await world.serve(crd("shirts", schema, **more))
        rules = world.registry.rules_of(resource)
        assert rules.field_labels == ("spec.color", "spec.size")
        assert rules.fields is not None
        assert rules.fields({"spec": {"color": "blue", "size": 5}}) == {"spec.color": "blue", "spec.size": "5"}
        assert rules.fields({}) == {"spec.color": "", "spec.size": ""}


async def test_apply_keeps_each_managers_own_fields() -> None:
    async with crd_world() as world:
        resource = await world.serve(crd("forms", properties(a=NUMBER, b=NUMBER)))
        base = {"apiVersion": "example.org/v1", "kind": "Form", "metadata": {"name": "x"}}

        async def apply(manager: str, spec: Object, *, force: bool = False) -> Object:
            who = context()
            who.field_manager = manager
            obj = {**base, "spec": spec}
            return (await world.registry.apply(resource, "default", "x", obj, who, force=force)).object

        await apply("one", {"a": 1})
        both = await apply("two", {"b": 2})
        assert both["spec"] == {"a": 1, "b": 2}
        error = await world.refusal(apply("two", {"a": 2, "b": 2}))
        assert error.message == 'Apply failed with 1 conflict: conflict with "one": .spec.a'
        error = await world.refusal(apply("two", {"a": "x"}))
        assert error.message.endswith(".spec.a: expected numeric (int or float), got string")


async def test_what_is_applied_empty_or_null_is_kept_or_refused() -> None:
    async with crd_world() as world:
        resource = await world.serve(crd("forms", properties(a=NUMBER)))
        base = {"apiVersion": "example.org/v1", "kind": "Form"}

        async def apply(spec: Object, **meta: Any) -> Object:
            obj = {**base, "metadata": {"name": "x", **meta}, "spec": spec}
            return (await world.registry.apply(resource, "default", "x", obj, context(), force=False)).object

        made = await apply({"a": 1}, labels={}, finalizers=[])
        assert not {"labels", "finalizers"} & made["metadata"].keys()
        await apply({"a": 1}, creationTimestamp="never")  # the server's own, whatever is sent
        text = 'Invalid value: "null": spec.a in body must be of type integer: "null"'
        assert causes(await world.refusal(apply({"a": None}))) == [("spec.a", text)]


async def test_the_status_belongs_to_its_owners_in_the_version_that_is_written() -> None:
    async with crd_world() as world:
        schema = properties(a=NUMBER)
        schema["properties"]["status"] = {"type": "object", "properties": {"ready": NUMBER}}
        definition = crd("forms", schema, subresources={"status": {}})
        first = definition["spec"]["versions"][0]
        definition["spec"]["versions"].append({**first, "name": "v2", "storage": False})
        resource = await world.serve(definition)
        [older] = [v for v in world.registry.resources.versions_of("example.org", "forms") if v.version == "v2"]
        await world.create(resource, {"metadata": {"name": "a"}, "spec": {"a": 1}})
        told = await world.registry.get(resource, "default", "a")
        await world.update(resource, {**told, "status": {"ready": 2}}, "status")

        async def owners_after(version: Resource) -> list[str | None]:
            now = await world.registry.get(version, "default", "a")
            changed = {name: value for name, value in now.items() if name != "status"}
            written = await world.registry.update(version, "default", "a", changed, context())
            return [one.get("subresource") for one in written.object["metadata"]["managedFields"]]

        assert "status" in await owners_after(resource)
        assert "status" not in await owners_after(older)


# ------------------------------------------------------------------ rules in CEL
async def test_rules_refuse_with_their_message_at_their_place() -> None:
    async with crd_world() as world:
        schema = properties(low=NUMBER, high=NUMBER)
        schema["properties"]["spec"]["x-kubernetes-validations"] = [
            {"rule": "self.low <= self.high", "message": "low must not be above high"},
            {"rule": "self.high < 100", "messageExpression": "'high is %d'.format([self.high])", "fieldPath": ".high"},
            {"rule": "self.low != 13", "reason": "FieldValueForbidden"},
        ]
        resource = await world.serve(crd("ranges", schema))
        await world.create(resource, {"metadata": {"name": "ok"}, "spec": {"low": 1, "high": 2}})
        bad = {"metadata": {"name": "bad"}, "spec": {"low": 200, "high": 150}}
        assert causes(await world.refusal(world.create(resource, bad))) == [
            ("spec", "Invalid value: low must not be above high"),
            ("spec.high", "Invalid value: high is 150"),
        ]
        unlucky = {"metadata": {"name": "bad"}, "spec": {"low": 13, "high": 20}}
        assert causes(await world.refusal(world.create(resource, unlucky))) == [
            ("spec", "Forbidden: failed rule: self.low != 13")
        ]
        partial = {"metadata": {"name": "bad"}, "spec": {"low": 1}}
        assert ("spec", 'Invalid value: "object": no such key: high evaluating rule: low must not be above high') in (
            causes(await world.refusal(world.create(resource, partial)))
        )


async def test_rules_wait_until_the_rest_is_in_order() -> None:
    async with crd_world() as world:
        schema = properties(size={**NUMBER, "x-kubernetes-validations": [{"rule": "self > 1"}]})
        resource = await world.serve(crd("forms", schema))
        error = await world.refusal(world.create(resource, {"metadata": {"name": "a"}, "spec": {"size": "x"}}))
        assert causes(error)[-1] == (
            "<nil>",
            "Invalid value: null: some validation rules were not checked because the object was invalid; "
            "correct the existing errors to complete validation",
        )


async def test_rules_about_changes_look_at_updates_and_old_wrongs_are_let_be() -> None:
    async with crd_world() as world:
        schema = properties(
            fixed={"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "fixed"}]},
            size=NUMBER,
        )
        resource = await world.serve(crd("forms", schema))
        made = await world.create(resource, {"metadata": {"name": "a"}, "spec": {"fixed": "x", "size": 1}})
        error = await world.refusal(world.update(resource, {**made, "spec": {"fixed": "y"}}))
        assert causes(error) == [("spec.fixed", 'Invalid value: "y": fixed')]
        changed = await world.update(resource, {**made, "spec": {"fixed": "x", "size": 2}})
        assert changed["spec"]["size"] == 2


async def test_what_rules_say_against_parts_that_stay_is_a_warning() -> None:
    async with crd_world() as world:
        item = {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'bad'"}]}
        small = {**NUMBER, "x-kubernetes-validations": [{"rule": "self > 1"}]}
        schema = properties(list={"type": "array", "items": item}, size=small, other={"type": "string"})
        loose = crd("forms", properties(list={"type": "array", "items": {"type": "string"}}, size=NUMBER))
        resource = await world.serve(loose)
        made = await world.create(resource, {"metadata": {"name": "a"}, "spec": {"list": ["bad"], "size": 1}})
        found = await world.definition("forms.example.org")
        found["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
        assert world.definitions is not None
        await world.registry.update(world.definitions, "", "forms.example.org", found, context())
        await world.until(lambda: world.resource("forms") is not resource)
        resource = world.resource("forms")
        assert resource is not None
        ctx = context()
        changed = {**made, "spec": {**made["spec"], "other": "x"}}
        await world.registry.update(resource, "default", "a", changed, ctx)
        assert ctx.trace.warnings == [
            "spec.list[0]: Invalid value: \"bad\": failed rule: self != 'bad'",
            "spec.size: Invalid value: 1: failed rule: self > 1",
        ]
        longer = {"metadata": {"name": "a"}, "spec": {"list": ["bad", "x"], "size": 1}}
        stored = await world.registry.get(resource, "default", "a")
        longer["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
        error = await world.refusal(world.update(resource, longer))
        assert causes(error) == [("spec.list[0]", "Invalid value: \"bad\": failed rule: self != 'bad'")]


async def test_names_that_cel_cannot_say_are_escaped_and_formats_are_types() -> None:
    async with crd_world() as world:
        schema = properties(
            **{
                "a-b.c": NUMBER,
                "namespace": {"type": "string"},
                "when": {"type": "string", "format": "date-time"},
                "raw": {"type": "string", "format": "byte"},
            }
        )
        schema["x-kubernetes-validations"] = [
            {"rule": "self.spec.a__dash__b__dot__c == 1 && self.spec.__namespace__ == 'n'"},
            {"rule": "self.spec.when < timestamp('2027-01-01T00:00:00Z') && self.spec.raw == b'a'"},
            {"rule": "self.metadata.name.startsWith('ok')", "message": "another name"},
        ]
        resource = await world.serve(crd("forms", schema))
        spec = {"a-b.c": 1, "namespace": "n", "when": "2026-01-01T00:00:00Z", "raw": "YQ=="}
        await world.create(resource, {"metadata": {"name": "ok"}, "spec": spec})
        error = await world.refusal(world.create(resource, {"metadata": {"name": "no"}, "spec": spec}))
        assert causes(error) == [("<nil>", "Invalid value: another name")]


async def test_a_patch_of_a_custom_resource_is_a_merge_patch() -> None:
    async with crd_world() as world:
        resource = await world.serve(crd("forms", properties(size=NUMBER)))
        await world.create(resource, {"metadata": {"name": "a"}, "spec": {"size": 1}})
        written = await world.registry.patch(
            resource, "default", "a", lambda obj: patch.merge_patch(obj, b'{"spec":{"size":4}}'), context()
        )
        assert written.object["spec"] == {"size": 4}


@pytest.mark.parametrize(
    ("meta", "text"),
    [
        ("x", "json: cannot unmarshal string into Go value of type v1.ObjectMeta"),
        ([], "json: cannot unmarshal array into Go value of type v1.ObjectMeta"),
        ({"labels": {"a": 5}}, "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"),
        (
            {"ownerReferences": [{"uid": 1}]},
            "json: cannot unmarshal number into Go struct field OwnerReference.ownerReferences.uid of type types.UID",
        ),
    ],
)
async def test_metadata_that_is_none_is_told_as_it_is_decoded(meta: Any, text: str) -> None:
    async with crd_world() as world:
        resource = await world.serve(crd("forms"))
        with pytest.raises(TypeMismatch) as caught:
            customresources.normalize({"metadata": meta}, resource)
        assert str(caught.value) == text


async def test_a_custom_resource_is_told_in_the_order_of_its_names() -> None:
    nested = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    async with crd_world() as world:
        resource = await world.serve(crd("widgets", properties(b={"type": "integer"}, a=nested)))
        spec = {"b": 1, "a": {"y": [{"d": 1, "c": 2}], "x": 1}}
        made = await world.create(resource, {"spec": spec, "metadata": {"name": "w", "labels": {"z": "1", "y": "2"}}})
    assert str(made["spec"]) == "{'a': {'x': 1, 'y': [{'c': 2, 'd': 1}]}, 'b': 1}"
    assert list(made["metadata"]["labels"]) == ["y", "z"]
