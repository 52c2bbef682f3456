"""What webhooks and mutating policies may make of an object: another version of its kind, and nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kinds_world import kinds_world

from kubegate.admission import GroupVersionKind
from kubegate.api import Object
from kubegate.registry.admissionregistration.objects import RegistryObjects

CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
SCALER = GroupVersionKind("autoscaling", "v1", "HorizontalPodAutoscaler")


@pytest.fixture
async def objects() -> AsyncIterator[RegistryObjects]:
    async with kinds_world() as world:
        yield RegistryObjects(world.registry)


def config_map(**more: object) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, **more}


async def test_what_says_no_kind_is_what_it_was(objects: RegistryObjects) -> None:
    decoded = objects.decode(CONFIG_MAP, {"metadata": {"name": "c"}, "data": {"a": "1"}})
    assert (decoded["apiVersion"], decoded["kind"]) == ("v1", "ConfigMap")


async def test_fields_that_the_kind_does_not_have_are_dropped_or_refused(objects: RegistryObjects) -> None:
    odd = config_map(spec={}, metadata={"name": "c", "lables": {}})
    assert objects.decode(CONFIG_MAP, odd) == config_map()
    with pytest.raises(ValueError, match=r'^strict decoding error: unknown field "metadata\.lables", '):
        objects.decode(CONFIG_MAP, odd, strict=True)


async def test_a_kind_that_there_is_not_is_refused(objects: RegistryObjects) -> None:
    with pytest.raises(ValueError, match=r'^no kind "ConfigMap" is registered for version "v2" in scheme '):
        objects.decode(CONFIG_MAP, config_map(apiVersion="v2"))


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"apiVersion": ["v1"]}, "json: cannot unmarshal array into Go struct field .apiVersion of type string"),
        ({"kind": {}}, "json: cannot unmarshal object into Go struct field .kind of type string"),
        ({"apiVersion": "a/b/c"}, "unexpected GroupVersion string: a/b/c"),
    ],
)
async def test_what_says_no_readable_kind_is_refused(objects: RegistryObjects, said: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(text)}$"):
        objects.decode(CONFIG_MAP, config_map(**said))


async def test_nothing_becomes_an_object_of_another_kind(objects: RegistryObjects) -> None:
    secret = objects.decode(CONFIG_MAP, config_map(kind="Secret"))
    with pytest.raises(ValueError, match=r"^converting \(v1.Secret\) to \(core.ConfigMap\): unknown conversion$"):
        await objects.convert(secret, CONFIG_MAP)


async def test_an_object_may_come_back_in_another_version(objects: RegistryObjects) -> None:
    target = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
    spec = {"maxReplicas": 3, "scaleTargetRef": target}
    newer = {"apiVersion": "autoscaling/v2", "kind": SCALER.kind, "metadata": {"name": "s"}, "spec": spec}
    assert (await objects.convert(objects.decode(SCALER, newer), SCALER))["apiVersion"] == "autoscaling/v1"


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"binaryData": {"a": "x"}}, "error decoding from json: illegal base64 data at input byte 0"),
        (
            {"metadata": {"name": "c", "creationTimestamp": "x"}},
            'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"',
        ),
    ],
)
async def test_what_was_put_together_fits_its_types(objects: RegistryObjects, more: dict[str, Any], text: str) -> None:
    begun = "unable to convert unstructured object to /v1, Kind=ConfigMap: "
    with pytest.raises(ValueError, match=f"^{re.escape(begun + text)}$"):
        objects.defaulted(CONFIG_MAP, config_map(**more))


async def test_numbers_without_a_fraction_are_integers_in_what_was_put_together(objects: RegistryObjects) -> None:
    kind = GroupVersionKind("apps", "v1", "Deployment")
    spec = {"replicas": 2.0, "template": {"spec": {"containers": []}}}
    made = objects.defaulted(kind, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": spec})
    assert repr(made["spec"]["replicas"]) == "2"
    spec["replicas"] = 1.5
    with pytest.raises(ValueError, match=r"cannot convert float64 to int32$"):
        objects.defaulted(kind, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": spec})
