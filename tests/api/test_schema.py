"""Schemas of built-in kinds, and those that definitions bring."""

import pytest

from kubegate.api.resources import Resources
from kubegate.api.schema import from_openapi, named, object_meta, schema_for


def test_every_stored_resource_has_a_schema() -> None:
    missing = [r for r in Resources.built_in() if r.persistent and schema_for(r.group, r.version, r.kind) is None]
    assert missing == []


def test_a_kind_that_does_not_exist_has_none() -> None:
    assert schema_for("apps", "v1", "Pod") is None


def test_lists_say_how_their_elements_are_told_apart() -> None:
    pod = schema_for("", "v1", "Pod")
    assert pod is not None
    containers = pod.properties["spec"].properties["containers"]
    assert (containers.list_type, containers.list_map_keys) == ("map", ("name",))
    assert (containers.merge_key, containers.merge_strategy) == ("name", frozenset({"merge"}))
    volumes = pod.properties["spec"].properties["volumes"]
    assert volumes.merge_strategy == {"merge", "retainKeys"}


def test_a_named_type_is_one_object_wherever_it_is_used() -> None:
    pod, deployment = schema_for("", "v1", "Pod"), schema_for("apps", "v1", "Deployment")
    assert pod is not None and deployment is not None
    template = deployment.properties["spec"].properties["template"]
    assert template.properties["spec"].properties is pod.properties["spec"].properties


def test_what_a_place_says_of_a_type_is_said_there_only() -> None:
    strategy = named("io.k8s.api.apps.v1.DeploymentSpec").properties["strategy"]
    assert strategy.merge_strategy == {"retainKeys"}
    assert named("io.k8s.api.apps.v1.DeploymentStrategy").merge_strategy == frozenset()


def test_recursive_types_refer_to_themselves() -> None:
    props = named("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
    assert props.properties["not"] is props
    assert props.properties["properties"].additional is props


def test_defaults_of_keys_are_known() -> None:
    port = named("io.k8s.api.core.v1.ServicePort")
    assert port.properties["protocol"].default == "TCP"


def test_a_definitions_schema_is_read_with_its_extensions() -> None:
    schema = from_openapi(
        {
            "type": "object",
            "properties": {
                "meta": {"$ref": object_meta().name},
                "ports": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port"],
                    "items": {"type": "object", "properties": {"port": {"type": "integer"}}},
                },
                "open": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {"inner": {"type": "object", "properties": {"a": {"type": "string"}}}},
                },
            },
        }
    )
    assert schema.properties["ports"].list_map_keys == ("port",)
    assert schema.properties["meta"].properties is object_meta().properties
    opened = schema.properties["open"]
    assert opened.preserve_unknown and opened.properties["inner"].open
    assert not opened.properties["inner"].preserve_unknown


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        named("io.k8s.api.core.v1.Nothing")
