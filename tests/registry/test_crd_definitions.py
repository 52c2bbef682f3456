"""CustomResourceDefinitions: what is refused, which names are accepted, what is served, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crd_world import GROUP, CrdWorld, context, crd, crd_world, properties

from kubegate.api.status import StatusError
from kubegate.registry.apiextensions import definitionschemas
from kubegate.registry.apiextensions.customresourcedefinitions import RULES
from kubegate.registry.apiextensions.definitions import accepted_names, with_status

Object = dict[str, Any]


def causes(error: StatusError) -> list[tuple[str, str]]:
    assert error.code == 422 and error.details is not None
    return [(cause["field"], cause["message"]) for cause in error.details["causes"]]


def wrong(schema: Object, *, has_status: bool = False) -> list[tuple[str, str]]:
    errors = definitionschemas.check({"type": "object", **schema}, "s", has_status=has_status)
    return [(error.field.removeprefix("s.openAPIV3Schema."), error.text) for error in errors]


# ------------------------------------------------------------------ life
async def test_a_definition_is_named_established_and_served() -> None:
    async with crd_world() as world:
        made = await world.define(crd("forms", names={"shortNames": ["fo"], "categories": ["all"]}))
        assert made["spec"]["names"]["listKind"] == "FormList" and made["spec"]["names"]["singular"] == "form"
        assert made["spec"]["conversion"] == {"strategy": "None"}
        assert made["status"] == {
            "conditions": None,
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": ["v1"],
        }
        await world.until(lambda: world.resource("forms"))
        resource = world.resource("forms")
        assert resource is not None
        assert (resource.kind, resource.singular, resource.short_names, resource.list_kind) == (
            "Form",
            "form",
            ("fo",),
            "FormList",
        )
        status = (await world.definition("forms.example.org"))["status"]
        assert [(c["type"], c["status"], c["reason"]) for c in status["conditions"]] == [
            ("NamesAccepted", "True", "NoConflicts"),
            ("Established", "True", "InitialNamesAccepted"),
        ]
        assert status["acceptedNames"]["listKind"] == "FormList"


async def test_names_that_are_taken_are_free_again_when_their_definition_goes() -> None:
    async with crd_world() as world:
        await world.serve(crd("cups", names={"shortNames": ["cc"]}))
        await world.define(crd("mugs", names={"kind": "Cup", "shortNames": ["cc"]}))
        mugs = "mugs.example.org"

        def verdict() -> Any:
            found = world.registry.reader.get("customresourcedefinitions.apiextensions.k8s.io", "", mugs)
            conditions = (found or {"status": {}})["status"].get("conditions") or [{}]
            return conditions[0].get("reason")

        await world.until(lambda: verdict() == "ListKindConflict")
        assert world.resource("mugs") is None
        found = await world.definition(mugs)
        assert found["status"]["conditions"][0]["message"] == '"CupList" is already in use'
        assert found["status"]["acceptedNames"] == {"plural": "mugs", "kind": ""}
        assert world.definitions is not None
        await world.registry.delete(world.definitions, "", "cups.example.org", {}, context())
        await world.until(lambda: verdict() == "NoConflicts")
        await world.until(lambda: world.resource("mugs"))
        assert world.resource("cups") is None


async def test_deleting_a_definition_deletes_its_objects_first() -> None:
    async with crd_world() as world:
        resource = await world.serve(crd("forms"))
        await world.create(resource, {"metadata": {"name": "a", "finalizers": ["example.org/hold"]}})
        assert world.definitions is not None
        deleted = await world.registry.delete(world.definitions, "", "forms.example.org", {}, context())
        meta = deleted.object["metadata"]
        assert not deleted.gone
        assert meta["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
        assert (meta["generation"], "deletionGracePeriodSeconds" in meta) == (1, False)
        assert deleted.object["status"]["conditions"][-1]["reason"] == "InstanceDeletionPending"
        reader = world.registry.reader
        await world.until(lambda: "deletionTimestamp" in reader.list("forms.example.org")[0]["metadata"])
        terminating = world.resource("forms")
        assert terminating is not None and "create" not in terminating.verbs
        error = await world.refusal(world.create(terminating, {"metadata": {"name": "b"}}))
        assert error.message == "create not allowed while custom resource definition is terminating"
        held = reader.list("forms.example.org")[0]
        await world.update(terminating, {**held, "metadata": {**held["metadata"], "finalizers": []}})
        assert reader.list("forms.example.org") == []


async def test_a_definition_goes_though_its_stored_versions_are_none_of_its_own() -> None:
    async with crd_world() as world:
        await world.serve(crd("forms"))
        definition = await world.definition("forms.example.org")
        definition["status"]["storedVersions"] = ["v9", "v1"]
        assert world.definitions is not None
        await world.registry.update(world.definitions, "", "forms.example.org", definition, context(), "status")
        await world.registry.delete(world.definitions, "", "forms.example.org", {}, context())
        reader = world.registry.reader
        await world.until(lambda: not reader.list("customresourcedefinitions.apiextensions.k8s.io"))


async def test_several_versions_are_served_and_one_is_stored() -> None:
    async with crd_world() as world:
        await world.serve(crd("forms", versions=("v1", "v1beta1")))
        first, second = world.resource("forms", "v1"), world.resource("forms", "v1beta1")
        assert first is not None and second is not None
        made = await world.create(second, {"metadata": {"name": "a"}, "spec": {"x": 1}})
        assert made["apiVersion"] == "example.org/v1beta1"
        assert (await world.registry.get(first, "default", "a"))["apiVersion"] == "example.org/v1"


async def test_storing_another_version_remembers_the_old_one() -> None:
    async with crd_world() as world:
        await world.serve(crd("forms", versions=("v1", "v2")))
        found = await world.definition("forms.example.org")
        for version in found["spec"]["versions"]:
            version["storage"] = version["name"] == "v2"
        assert world.definitions is not None
        written = await world.registry.update(world.definitions, "", "forms.example.org", found, context())
        assert written.object["status"]["storedVersions"] == ["v1", "v2"]
        assert written.object["metadata"]["generation"] == 2


async def redefine(world: CrdWorld, change: Callable[[Object], None]) -> None:
    found = await world.definition("forms.example.org")
    change(found)
    assert world.definitions is not None
    before = world.resource("forms")
    await world.registry.update(world.definitions, "", "forms.example.org", found, context())
    await world.until(lambda: world.resource("forms") is not before)


async def test_what_was_stored_before_gets_new_defaults_and_loses_what_is_not_known_any_more() -> None:
    async with crd_world() as world:
        number = {"type": "integer"}
        resource = await world.serve(crd("forms", properties(a=number, b=number)))
        await world.create(resource, {"metadata": {"name": "x"}, "spec": {"a": 1, "b": 2}})
        stored = world.registry.entry(resource, "default", "x")
        assert world.registry.entry(resource, "default", "x") is stored

        def change(definition: Object) -> None:
            schema = properties(a=number, c={"type": "string", "default": "new"})
            definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema

        await redefine(world, change)
        resource = world.resource("forms")
        assert resource is not None
        found = await world.registry.get(resource, "default", "x")
        assert found["spec"] == {"a": 1, "c": "new"}
        assert found["metadata"]["resourceVersion"] == str(stored.revision)
        await world.create(resource, {"metadata": {"name": "y"}, "spec": {}})
        assert (await world.registry.get(resource, "default", "y"))["spec"] == {"c": "new"}


async def test_what_was_stored_in_another_version_is_read_in_the_one_stored_now() -> None:
    async with crd_world() as world:
        resource = await world.serve(crd("forms", versions=("v1", "v2")))
        await world.create(resource, {"metadata": {"name": "x"}, "spec": {"a": 1}})

        def change(definition: Object) -> None:
            for version in definition["spec"]["versions"]:
                version["storage"] = version["name"] == "v2"

        await redefine(world, change)
        for version in ("v1", "v2"):
            resource = world.resource("forms", version)
            assert resource is not None
            assert (await world.registry.get(resource, "default", "x"))["apiVersion"] == f"example.org/{version}"


# ------------------------------------------------------------------ refusals
async def test_what_names_the_object_and_its_storage_cannot_change() -> None:
    async with crd_world() as world:
        await world.serve(crd("forms"))
        found = await world.definition("forms.example.org")
        found["spec"] = {**found["spec"], "scope": "Cluster", "group": "other.org"}
        assert world.definitions is not None
        error = await world.refusal(world.registry.update(world.definitions, "", "forms.example.org", found, context()))
        assert causes(error) == [
            ("spec.scope", 'Invalid value: "Cluster": field is immutable'),
            ("spec.group", 'Invalid value: "other.org": field is immutable'),
        ]


@pytest.mark.parametrize(
    ("change", "where", "text"),
    [
        (
            {"scope": "Everywhere"},
            "spec.scope",
            'Unsupported value: "Everywhere": supported values: "Cluster", "Namespaced"',
        ),
        ({"group": "nodots"}, "spec.group", 'Invalid value: "nodots": should be a domain with at least one dot'),
        (
            {"conversion": {"strategy": "None", "webhook": {"clientConfig": {"url": "https://x"}}}},
            "spec.conversion.webhookClientConfig",
            "Forbidden: should not be set when strategy is not set to Webhook",
        ),
        (
            {
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": {"clientConfig": {}, "conversionReviewVersions": ["v9"]},
                }
            },
            "spec.conversion.webhookClientConfig",
            "Required value: exactly one of url or service is required",
        ),
        (
            {
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": {"clientConfig": {"url": "http://x"}, "conversionReviewVersions": ["v9"]},
                }
            },
            "spec.conversion.conversionReviewVersions",
            'Invalid value: ["v9"]: must include at least one of v1, v1beta1',
        ),
    ],
)
async def test_definitions_are_refused_for_their_parts(change: Object, where: str, text: str) -> None:
    async with crd_world() as world:
        definition = crd("forms")
        definition["spec"].update(change)
        error = await world.refusal(world.define(definition))
        assert (where, text) in causes(error)


@pytest.mark.parametrize(
    ("more", "where", "text"),
    [
        (
            {"subresources": {"scale": {"specReplicasPath": ".status.n", "statusReplicasPath": "n"}}},
            "spec.subresources.scale.specReplicasPath",
            'Invalid value: ".status.n": should be a json path under .spec',
        ),
        (
            {"subresources": {"scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": "n"}}},
            "spec.subresources.scale.statusReplicasPath",
            'Invalid value: "n": must be a simple json path starting with .',
        ),
        (
            {"additionalPrinterColumns": [{"name": "A", "type": "colour", "jsonPath": ".a"}]},
            "spec.additionalPrinterColumns[0].type",
            'Invalid value: "colour": must be one of boolean,date,integer,number,string',
        ),
        (
            {"selectableFields": [{"jsonPath": ".spec.absent"}]},
            "spec.selectableFields[0].jsonPath",
            'Invalid value: ".spec.absent": is an invalid path: does not refer to a valid field',
        ),
        (
            {"deprecationWarning": "old"},
            "spec.versions[0].deprecationWarning",
            'Invalid value: "old": can only be set for deprecated versions',
        ),
    ],
)
async def test_versions_are_refused_for_their_parts(more: Object, where: str, text: str) -> None:
    async with crd_world() as world:
        definition = crd("forms", properties(n={"type": "integer"}), **more)
        assert (where, text) in causes(await world.refusal(world.define(definition)))


@pytest.mark.parametrize("served", [True, False])
@pytest.mark.parametrize("schema", [None, {}])
async def test_every_version_needs_a_schema(schema: Object | None, served: bool) -> None:
    async with crd_world() as world:
        definition = crd("forms")
        definition["spec"]["versions"][0] |= {"schema": schema, "served": served}
        where = "spec.versions[0].schema.openAPIV3Schema"
        assert causes(await world.refusal(world.define(definition))) == [(where, "Required value")]


async def test_a_definition_without_names_is_told_only_that_it_needs_them() -> None:
    async with crd_world() as world:
        definition = crd("forms")
        del definition["metadata"]["name"]
        definition["spec"]["versions"][0]["name"] = ""
        told = dict(causes(await world.refusal(world.define(definition))))
        assert told["metadata.name"] == "Required value: name or generateName is required"
        assert "spec.versions[0].name" in told and "spec.version" not in told


async def test_versions_that_differ_are_named_each_by_its_place() -> None:
    async with crd_world() as world:
        definition = crd("forms", versions=("v1", "v2"))
        definition["spec"]["versions"][1]["schema"] = {"openAPIV3Schema": {"type": "array"}}
        fields = [where for where, _ in causes(await world.refusal(world.define(definition)))]
        assert "spec.versions[1].schema.openAPIV3Schema.type" in fields


async def test_groups_of_kubernetes_itself_need_an_approval() -> None:
    async with crd_world() as world:
        definition = crd("forms")
        definition["spec"]["group"] = "x.k8s.io"
        definition["metadata"]["name"] = "forms.x.k8s.io"
        assert causes(await world.refusal(world.define(definition)))[0][0] == (
            "metadata.annotations[api-approved.kubernetes.io]"
        )
        definition["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, testing"}
        made = await world.define(definition)
        status = with_status(made, [], 0)["status"]["conditions"]
        assert status[-1]["type"] == "KubernetesAPIApprovalPolicyConformant" and status[-1]["status"] == "False"


# ------------------------------------------------------------------ schemas
@pytest.mark.parametrize(
    ("schema", "where", "text"),
    [
        ({"type": ""}, "type", "Required value: must not be empty at the root"),
        ({"type": "string"}, "type", 'Invalid value: "string": must be object at the root'),
        ({"nullable": True}, "nullable", "Forbidden: nullable cannot be true at the root"),
        (
            {"properties": {"a": {}}},
            "properties[a].type",
            "Required value: must not be empty for specified object fields",
        ),
        (
            {"properties": {"b": {"type": "list"}}},
            "properties[b].type",
            'Unsupported value: "list": supported values: "array", "boolean", "integer", "number", "object", "string"',
        ),
        ({"properties": {"a": {"type": "array"}}}, "properties[a].items", "Required value: must be specified"),
        (
            {"properties": {"a": {"type": "array", "items": {}}}},
            "properties[a].items.type",
            "Required value: must not be empty for specified array items",
        ),
        (
            {"properties": {"a": {"type": "integer", "default": "text"}}},
            "properties[a].default",
            'Invalid value: "string":  in body must be of type integer: "string"',
        ),
        (
            {"properties": {"a": {"type": "object", "default": {"x": 1}}}},
            "properties[a].default",
            'Invalid value: {"x":1}: must not have unknown fields',
        ),
        (
            {"properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}},
            "properties[metadata]",
            "Forbidden: must not specify anything other than name and generateName, but metadata is implicitly "
            "specified",
        ),
        (
            {"properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}}},
            "properties[a].anyOf[0].type",
            "Forbidden: must be empty to be structural",
        ),
        (
            {"anyOf": [{"properties": {"x": {"minimum": 1}}}]},
            "properties[x]",
            "Required value: because it is defined in s.openAPIV3Schema.anyOf[0].properties[x]",
        ),
        (
            {"properties": {"a": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}}},
            "properties[a].uniqueItems",
            "Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            {"properties": {"a": {"type": "object", "$ref": "x"}}},
            "properties[a].$ref",
            "Forbidden: $ref is not supported",
        ),
        (
            {
                "properties": {
                    "a": {"type": "object", "properties": {"x": {"type": "string"}}, "additionalProperties": False}
                }
            },
            "properties[a].additionalProperties",
            "Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            {"properties": {"a": {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}}},
            "properties[a].x-kubernetes-list-map-keys",
            "Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            {
                "properties": {
                    "a": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["k"],
                        "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                    }
                }
            },
            "properties[a].items.properties[k].default",
            "Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a "
            "required property",
        ),
        (
            {"properties": {"a": {"x-kubernetes-int-or-string": True, "x-kubernetes-preserve-unknown-fields": True}}},
            "properties[a].x-kubernetes-preserve-unknown-fields",
            "Invalid value: true: must be false if x-kubernetes-int-or-string is true",
        ),
        (
            {"properties": {"a": {"type": "object", "x-kubernetes-embedded-resource": True}}},
            "properties[a].properties",
            "Required value: must not be empty if x-kubernetes-embedded-resource is true without "
            "x-kubernetes-preserve-unknown-fields",
        ),
        (
            {"x-kubernetes-validations": [{"rule": "self.spec.size > 1"}], "properties": {"spec": {"type": "object"}}},
            "x-kubernetes-validations[0].rule",
            "undefined field 'size'",
        ),
        (
            {"x-kubernetes-validations": [{"rule": "1 + 1"}]},
            "x-kubernetes-validations[0].rule",
            "must evaluate to a bool",
        ),
        (
            {"x-kubernetes-validations": [{"rule": "true", "fieldPath": ".absent"}]},
            "x-kubernetes-validations[0].fieldPath",
            'Invalid value: ".absent": must be a valid path',
        ),
        ({"x-kubernetes-validations": [{"rule": " "}]}, "x-kubernetes-validations[0].rule", "rule is not specified"),
        (
            {"x-kubernetes-validations": [{"rule": "true", "optionalOldSelf": True}]},
            "x-kubernetes-validations[0].optionalOldSelf",
            "Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
        (
            {"x-kubernetes-validations": [{"rule": "true", "fieldPath": " "}]},
            "x-kubernetes-validations[0].fieldPath",
            "must be non-empty if specified",
        ),
        (
            {"properties": {"a": {"type": "string", "pattern": "["}}},
            "properties[a].pattern",
            'Invalid value: "[": must be a valid regular expression, but isn\'t: error parsing regexp: '
            "missing closing ]: `[`",
        ),
        (
            {"properties": {"a": {"type": "string", "allOf": [{"pattern": "a{2,1}"}]}}},
            "properties[a].allOf[0].pattern",
            "invalid repeat count: `{2,1}`",
        ),
        (
            {"properties": {"a": {"type": "string", "not": {"x-kubernetes-validations": [{"rule": "true"}]}}}},
            "properties[a].not.x-kubernetes-validations",
            "Forbidden: must be empty to be structural",
        ),
        (
            {
                "properties": {
                    "metadata": {
                        "type": "object",
                        "additionalProperties": {"type": "string", "default": "x"},
                    }
                }
            },
            "properties[metadata].additionalProperties.default",
            "Forbidden: must not be set inside additionalProperties applying to object metadata",
        ),
    ],
)
def test_schemas_that_cannot_be_used_are_told_where(schema: Object, where: str, text: str) -> None:
    found = wrong(schema)
    assert any(field == where and text in message for field, message in found), found


def test_items_of_anything_and_maps_beside_properties_are_told_once_or_not_at_all() -> None:
    listed = wrong({"properties": {"a": {"type": "array", "items": {}}}})
    assert listed == [("properties[a].items.type", "Required value: must not be empty for specified array items")]
    both = {"type": "object", "properties": {"x": {"type": "string"}}, "additionalProperties": True}
    assert wrong({"properties": {"a": both, "b": {"type": "object", "additionalProperties": False}}}) == []


def test_rules_come_after_those_below_them_and_not_at_all_where_the_schema_is_wrong() -> None:
    bad = [{"rule": "1"}]
    inner = {"type": "object", "x-kubernetes-validations": bad}
    found = wrong({"properties": {"a": inner}, "x-kubernetes-validations": bad})
    assert [place for place, _ in found] == [
        "properties[a].x-kubernetes-validations[0].rule",
        "x-kubernetes-validations[0].rule",
    ]
    twice = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    found = wrong({"properties": {"a": inner, "b": twice}, "x-kubernetes-validations": bad})
    assert [place for place, _ in found] == [
        "properties[b].uniqueItems",
        "properties[a].x-kubernetes-validations[0].rule",
    ]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".spec['n']", "is an invalid path: array notation is not allowed"),
        ("spec.n", "is an invalid path: expected [ or . but got: spec"),
        (".spec.", "is an invalid path: unexpected end of JSON path"),
        (".spec", "must point to a field of type string, boolean or integer. Enum string fields and strings with "
         "formats are allowed."),
    ],
)  # fmt: skip
async def test_selectable_fields_are_followed_in_the_schema(path: str, text: str) -> None:
    async with crd_world() as world:
        definition = crd("forms", properties(n={"type": "integer"}), selectableFields=[{"jsonPath": path}])
        found = causes(await world.refusal(world.define(definition)))
        assert found == [("spec.selectableFields[0].jsonPath", f'Invalid value: "{path}": {text}')]


def test_the_two_ways_to_say_integer_or_string_are_allowed() -> None:
    either = [{"type": "integer"}, {"type": "string"}]
    field = {"x-kubernetes-int-or-string": True}
    assert wrong({"properties": {"a": {**field, "anyOf": either}}}) == []
    assert wrong({"properties": {"a": {**field, "allOf": [{"anyOf": either}, {"minimum": 1}]}}}) == []


def test_a_status_subresource_leaves_little_at_the_root() -> None:
    assert wrong({"properties": {}, "required": ["spec"]}, has_status=True) == []
    [(_, message)] = [e for e in wrong({"not": {}, "maxProperties": 3}, has_status=True) if "root" in e[1]]
    assert "fields are allowed at the root of the schema if the status subresource is enabled" in message


def test_rules_about_changes_need_something_to_compare_with() -> None:
    items = {"type": "string", "maxLength": 5, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    found = wrong({"properties": {"a": {"type": "array", "maxItems": 5, "items": items}}})
    assert found[0][1].endswith(
        "oldSelf cannot be used on the uncorrelatable portion of the schema within s.openAPIV3Schema.properties[a]"
    )


def test_formats_that_nothing_checks_are_warned_of() -> None:
    definition = crd(
        "forms", properties(a={"type": "string", "format": "date-tme"}, b={"type": "integer", "format": "x"})
    )
    assert RULES.warnings is not None
    assert RULES.warnings(definition, None) == ['unrecognized format "date-tme"']


def test_names_are_kept_as_far_as_they_are_free() -> None:
    mine = {"spec": {"group": GROUP, "names": {"plural": "as", "singular": "a", "kind": "A", "listKind": "AList"}}}
    other = {"status": {"acceptedNames": {"plural": "bs", "singular": "a", "kind": "B", "listKind": "BList"}}}
    names, verdict = accepted_names(mine, [other])
    assert names == {"plural": "as", "kind": "A", "listKind": "AList"}
    assert verdict == ("False", "SingularConflict", '"a" is already in use')


async def test_versions_are_shown_whole_where_none_is_stored() -> None:
    async with crd_world() as world:
        definition = crd("forms", properties(a={"type": "string"}), subresources={"status": {}})
        first = definition["spec"]["versions"][0]
        first["storage"] = False
        plain = {"openAPIV3Schema": {"type": "object"}}
        definition["spec"]["versions"].append({**first, "name": "v2", "schema": plain, "subresources": None})
        refused = await world.refusal(world.define(definition))
        [told] = [text for name, text in causes(refused) if name == "spec.versions"]
        start = (
            'Invalid value: [{"Name":"v1","Served":true,"Storage":false,"Deprecated":false,"DeprecationWarning":null,'
        )
        assert told.startswith(start + '"Schema":{"OpenAPIV3Schema":{"ID":"","Schema":"","Ref":null,"Description":""')
        assert '"Properties":{"a":{"ID":"","Schema":"","Ref":null,"Description":"","Type":"string","Nullable"' in told
        assert '"XMapType":null,"XValidations":null}},"Subresources":{"Status":{},"Scale":null},' in told
