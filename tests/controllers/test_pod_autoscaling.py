"""HorizontalPodAutoscalers where nobody serves metrics: bounds are kept, and what is lacking is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_world import NAMESPACE, ControllersWorld, controllers_world

Object = dict[str, Any]
_HPAS, _DEPLOYMENTS = "horizontalpodautoscalers.autoscaling", "deployments.apps"
_CPU = (
    "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource "
    "metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
)


@pytest.fixture
async def world() -> AsyncIterator[ControllersWorld]:
    async with controllers_world() as found:
        found.run("horizontal-pod-autoscaler-controller")
        yield found


def autoscaler(name: str = "a", kind: str = "Deployment", target: str = "web", **spec: Any) -> Object:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": target}
    return {
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": reference, "minReplicas": 2, "maxReplicas": 4, **spec},
    }


async def deploy(world: ControllersWorld, replicas: int) -> None:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    await world.create(_DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec})


def conditions(world: ControllersWorld, name: str = "a") -> list[tuple[str, str, str, str]]:
    found = world.must(_HPAS, name)["status"].get("conditions") or []
    return [tuple(one[part] for part in ("type", "status", "reason", "message")) for one in found]


async def test_fifteen_seconds_pass_before_anything_is_done(world: ControllersWorld) -> None:
    await deploy(world, 1)
    await world.create(_HPAS, autoscaler())
    await world.advance(14)
    assert conditions(world) == []
    await world.advance(1)
    assert conditions(world) != []


@pytest.mark.parametrize(
    ("replicas", "wanted", "why"), [(1, 2, "below Spec.MinReplicas"), (9, 4, "above Spec.MaxReplicas")]
)
async def test_a_target_is_kept_within_its_bounds(
    world: ControllersWorld, replicas: int, wanted: int, why: str
) -> None:
    await deploy(world, replicas)
    await world.create(_HPAS, autoscaler())
    await world.advance(15)
    found = world.must(_DEPLOYMENTS, "web")
    assert found["spec"]["replicas"] == wanted
    owners = {(one["manager"], one.get("subresource")) for one in found["metadata"]["managedFields"]}
    assert ("kube-controller-manager", "scale") in owners
    text = f"the HPA controller was able to update the target scale to {wanted}"
    assert conditions(world) == [("AbleToScale", "True", "SucceededRescale", text)]
    status = world.must(_HPAS, "a")["status"]
    assert (status["currentReplicas"], status["desiredReplicas"]) == (replicas, wanted)
    assert status["lastScaleTime"]
    assert world.events() == [("SuccessfulRescale", f"New size: {wanted}; reason: Current number of replicas {why}")]


async def test_within_its_bounds_it_is_told_that_there_are_no_metrics(world: ControllersWorld) -> None:
    await deploy(world, 3)
    await world.create(_HPAS, autoscaler())
    await world.advance(15)
    able = "the HPA controller was able to get the target's current scale"
    assert conditions(world) == [
        ("AbleToScale", "True", "SucceededGetScale", able),
        (
            "ScalingActive",
            "False",
            "FailedGetResourceMetric",
            f"the HPA was unable to compute the replica count: {_CPU}",
        ),
    ]
    assert world.events() == [
        ("FailedGetResourceMetric", _CPU),
        (
            "FailedComputeMetricsReplicas",
            f"invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {_CPU}",
        ),
    ]
    assert world.must(_HPAS, "a")["status"]["currentMetrics"] == [{"type": ""}]
    before = world.must(_HPAS, "a")["metadata"]["resourceVersion"]
    await world.advance(15)
    assert world.must(_HPAS, "a")["metadata"]["resourceVersion"] == before
    assert [one["count"] for one in world.registry.reader.list("events")] == [2, 2]


async def test_a_target_without_replicas_is_left_alone(world: ControllersWorld) -> None:
    await deploy(world, 0)
    await world.create(_HPAS, autoscaler())
    await world.advance(15)
    text = "scaling is disabled since the replica count of the target is zero"
    assert conditions(world)[1] == ("ScalingActive", "False", "ScalingDisabled", text)
    assert world.must(_DEPLOYMENTS, "web")["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Deployment", 'deployments.apps "web" not found'),
        ("Widget", 'no matches for kind "Widget" in group "apps"'),
        ("DaemonSet", "the server could not find the requested resource"),
    ],
)
async def test_what_cannot_be_scaled_is_told(world: ControllersWorld, kind: str, text: str) -> None:
    await world.create(_HPAS, autoscaler(kind=kind))
    await world.advance(15)
    told = f"the HPA controller was unable to get the target's current scale: {text}"
    assert conditions(world) == [("AbleToScale", "False", "FailedGetScale", told)]
    assert world.events() == [("FailedGetScale", text)]


async def test_two_autoscalers_of_the_same_pods_are_told_of_each_other(world: ControllersWorld) -> None:
    await deploy(world, 3)
    pod = {"metadata": {"name": "p", "labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await world.create("pods", pod)
    for name in "ab":
        await world.create(_HPAS, autoscaler(name))
    await world.advance(15)
    await world.advance(15)
    text = f"pods by selector app=web are controlled by multiple HPAs: [{NAMESPACE}/a {NAMESPACE}/b]"
    assert conditions(world)[1] == ("ScalingActive", "False", "AmbiguousSelector", text)
    await world.delete(_HPAS, "b")
    await world.advance(15)
    assert conditions(world)[1][2] == "FailedGetResourceMetric"


async def test_each_sort_of_metric_is_told_in_its_words(world: ControllersWorld) -> None:
    await deploy(world, 3)
    value, average = {"type": "Value", "value": "1"}, {"type": "AverageValue", "averageValue": "1"}
    selector = {"matchLabels": {"q": "a"}}
    described = {"apiVersion": "v1", "kind": "Service", "name": "s"}
    metrics = [
        {"type": "Resource", "resource": {"name": "memory", "target": average}},
        {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": average}},
        {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": average}},
        {"type": "Object", "object": {"metric": {"name": "m"}, "describedObject": described, "target": value}},
        {"type": "External", "external": {"metric": {"name": "m", "selector": selector}, "target": average}},
    ]
    await world.create(_HPAS, autoscaler(metrics=metrics))
    await world.advance(15)
    custom = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
    found = world.events()
    assert [reason for reason, _ in found] == [
        "FailedGetResourceMetric",
        "FailedGetContainerResourceMetric",
        "FailedGetPodsMetric",
        "FailedGetObjectMetric",
        "FailedGetExternalMetric",
        "FailedComputeMetricsReplicas",
    ]
    texts = [text for _, text in found]
    assert texts[0].startswith("failed to get memory usage: unable to get metrics for resource memory: ")
    assert texts[2] == f"unable to get metric m: {custom}"
    assert texts[3] == f"unable to get metric m: Service on {NAMESPACE} s/{custom}"
    assert texts[4] == (
        f"unable to get external metric {NAMESPACE}/m/&LabelSelector{{MatchLabels:map[string]string{{q: a,}},"
        "MatchExpressions:[]LabelSelectorRequirement{},}: unable to fetch metrics from external metrics API: "
        "the server could not find the requested resource (get m.external.metrics.k8s.io)"
    )
    assert texts[5].startswith("invalid metrics (5 invalid out of 5), first error is: failed to get memory resource ")
