"""Nodes: taints that follow their conditions, silent kubelets, and when nobody is driven away for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_world import ControllersWorld, controllers_world

from kubegate.api.clock import rfc3339, rfc3339_micro

Object = dict[str, Any]
_NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


@pytest.fixture
async def world() -> AsyncIterator[ControllersWorld]:
    async with controllers_world() as found:
        found.run("node-lifecycle-controller")
        await found.settle()
        yield found


def node(name: str = "a", *, ready: str = "", **metadata: Any) -> Object:
    told: Object = {"metadata": {"name": name, **metadata}}
    if ready:
        since = "2026-01-01T00:00:00Z"
        condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": since, "lastTransitionTime": since}
        told["status"] = {"conditions": [condition]}
    return told


def taints(world: ControllersWorld, name: str = "a") -> list[tuple[str, str]]:
    found = world.must("nodes", name, "").get("spec", {}).get("taints") or []
    return [(one["key"].removeprefix("node.kubernetes.io/"), one["effect"]) for one in found]


def ready(world: ControllersWorld, name: str) -> tuple[str, str]:
    conditions = world.must("nodes", name, "")["status"]["conditions"]
    return next((one["status"], one.get("reason", "")) for one in conditions if one["type"] == "Ready")


async def report(world: ControllersWorld, name: str, status: str) -> None:
    """What a kubelet does."""
    found = world.must("nodes", name, "")
    now = rfc3339(world.clock.time)
    told = {"type": "Ready", "status": status, "lastHeartbeatTime": now, "lastTransitionTime": now}
    changed = {**found, "status": {**found["status"], "conditions": [told]}}
    await world.client.update_status("nodes", "", name, changed)
    await world.settle()


async def test_a_node_that_says_nothing_of_itself_has_no_taints_for_it(world: ControllersWorld) -> None:
    mine = {"key": "mine", "effect": "NoSchedule"}
    await world.create("nodes", {**node(), "spec": {"taints": [mine, _NOT_READY]}}, "")
    assert taints(world) == [("mine", "NoSchedule")]
    await world.create("nodes", {**node("b"), "spec": {"taints": [_NOT_READY]}}, "")
    assert "taints" not in world.must("nodes", "b", "")["spec"]


async def test_taints_follow_conditions_and_cordons(world: ControllersWorld) -> None:
    await world.create("nodes", node(ready="False"), "")
    assert taints(world) == [("not-ready", "NoSchedule")]
    assert world.must("nodes", "a", "")["spec"]["taints"][0]["timeAdded"]
    await report(world, "a", "True")
    await world.update("nodes", "a", lambda found: found["spec"].update(unschedulable=True), "")
    assert taints(world) == [("unschedulable", "NoSchedule")]
    await world.update("nodes", "a", lambda found: found["spec"].pop("unschedulable"), "")
    assert taints(world) == []


async def test_old_labels_say_what_new_ones_say(world: ControllersWorld) -> None:
    labels = {"kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "arm", "kubernetes.io/arch": "amd64"}
    await world.create("nodes", node(labels=labels), "")
    found = world.must("nodes", "a", "")["metadata"]["labels"]
    assert (found["beta.kubernetes.io/os"], found["beta.kubernetes.io/arch"]) == ("linux", "amd64")


async def test_nodes_that_come_and_go_are_told_of(world: ControllersWorld) -> None:
    await world.create("nodes", node(), "")
    await world.advance(5)
    await world.delete("nodes", "a", "")
    await world.advance(5)
    assert world.events() == [
        ("RegisteredNode", "Node a event: Registered Node a in Controller"),
        ("RemovingNode", "Node a event: Removing Node a from Controller"),
    ]
    (registered, _) = world.registry.reader.list("events")
    assert registered["source"] == {"component": "node-controller"}
    assert registered["involvedObject"].keys() == {"kind", "name", "uid", "apiVersion"}


async def test_of_a_kubelet_that_never_spoke_all_is_unknown_after_a_minute(world: ControllersWorld) -> None:
    await world.create("nodes", node(), "")
    await world.advance(60)
    assert "conditions" not in world.must("nodes", "a", "")["status"]
    await world.advance(5)
    found = world.must("nodes", "a", "")
    assert [(one["type"], one["status"], one["reason"]) for one in found["status"]["conditions"]] == [
        (sort, "Unknown", "NodeStatusNeverUpdated")
        for sort in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
    ]
    assert found["status"]["conditions"][0]["lastHeartbeatTime"] == found["metadata"]["creationTimestamp"]
    assert taints(world) == [("unreachable", "NoSchedule")]


async def test_a_kubelet_that_falls_silent_takes_its_pods_readiness_along(world: ControllersWorld) -> None:
    await world.create("nodes", node(ready="True"), "")
    await world.advance(5)
    spec = {"nodeName": "a", "containers": [{"name": "c", "image": "i"}]}
    await world.create("pods", {"metadata": {"name": "p"}, "spec": spec})
    await world.ready("p")
    await world.advance(50)
    assert ready(world, "a") == ("True", "")
    await world.advance(5)
    assert ready(world, "a") == ("Unknown", "NodeStatusUnknown")
    assert taints(world) == [("unreachable", "NoSchedule")]
    assert world.must("pods", "p")["status"]["conditions"][0]["status"] == "False"
    assert world.events()[1:] == [
        ("NodeNotReady", "Node a status is now: NodeNotReady"),
        ("NodeNotReady", "Node is not ready"),
    ]


async def test_a_lease_that_is_renewed_is_a_sign_of_life(world: ControllersWorld) -> None:
    await world.create("nodes", node(ready="True"), "")
    lease = {"metadata": {"name": "a"}, "spec": {"renewTime": rfc3339_micro(world.clock.time)}}
    made = await world.client.create("leases.coordination.k8s.io", "kube-node-lease", lease)
    for _ in range(20):
        await world.advance(5)
        spec = {"renewTime": rfc3339_micro(world.clock.time)}
        made = await world.client.update("leases.coordination.k8s.io", "kube-node-lease", "a", {**made, "spec": spec})
    assert ready(world, "a") == ("True", "")
    for _ in range(12):
        await world.advance(5)
    assert ready(world, "a") == ("Unknown", "NodeStatusUnknown")


async def test_pods_are_driven_from_nodes_that_are_not_ready_one_node_in_ten_seconds(world: ControllersWorld) -> None:
    for name in "abcde":
        await world.create("nodes", node(name, ready="True"), "")
    await world.advance(5)
    for name in "ab":
        await report(world, name, "False")
    await world.advance(5)
    assert taints(world, "a") == [("not-ready", "NoSchedule"), ("not-ready", "NoExecute")]
    assert taints(world, "b") == [("not-ready", "NoSchedule")]
    await world.advance(5)
    assert taints(world, "b") == [("not-ready", "NoSchedule")]
    await world.advance(5)
    assert taints(world, "b") == [("not-ready", "NoSchedule"), ("not-ready", "NoExecute")]
    await report(world, "a", "True")
    await world.advance(5)
    assert taints(world, "a") == []


async def test_where_no_node_is_ready_nobody_is_driven_away(world: ControllersWorld) -> None:
    for name in "ab":
        await world.create("nodes", node(name, ready="True"), "")
    await world.advance(5)
    await report(world, "a", "False")
    await world.advance(5)
    assert ("not-ready", "NoExecute") in taints(world, "a")
    await report(world, "b", "False")
    await world.advance(5)
    assert taints(world, "a") == taints(world, "b") == [("not-ready", "NoSchedule")]
    await world.advance(30)
    assert taints(world, "a") == taints(world, "b") == [("not-ready", "NoSchedule")]
    await report(world, "b", "True")
    await world.advance(5)
    await world.advance(10)
    assert ("not-ready", "NoExecute") in taints(world, "a")


async def test_zones_in_which_most_nodes_are_not_ready_are_left_alone(world: ControllersWorld) -> None:
    for name in "abcd":
        await world.create("nodes", node(name, ready="True", labels={"topology.kubernetes.io/zone": "z"}), "")
    await world.create("nodes", node("other", ready="True"), "")
    await world.advance(5)
    for name in "abc":
        await report(world, name, "False")
    await world.advance(5)
    await world.advance(60)
    assert [("not-ready", "NoExecute") in taints(world, name) for name in "abc"] == [False, False, False]
