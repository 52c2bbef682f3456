"""The Node authorizer: a kubelet reaches what its pods use."""

from __future__ import annotations

from typing import Any

import pytest
from authorization_world import FakeReader, ask, user

from kubegate.authentication import UserInfo
from kubegate.authorization.bootstrap import node_rules
from kubegate.authorization.node import Graph, NodeAuthorizer

NODE = user("system:node:a", "system:nodes")


class World:
    def __init__(self) -> None:
        self.reader, graph = FakeReader(), Graph()
        graph.follow(self.reader)  # type: ignore[arg-type]
        self.authorizer = NodeAuthorizer(graph, node_rules())

    def pod(self, name: str, node: str = "a", annotations: Any = None, status: Any = None, **spec: Any) -> None:
        metadata = {"name": name, "namespace": "ns", "annotations": annotations or {}}
        spec = {"nodeName": node, **spec} if node else spec
        self.reader.put("pods", {"metadata": metadata, "spec": spec, "status": status or {}})

    async def reason(self, verb: str, resource: str, **more: Any) -> str | None:
        """None where it is allowed."""
        more = {"namespace": "ns", "who": NODE} | more
        decision = await self.authorizer.authorize(ask(verb, resource, **more))
        return None if decision.allowed else decision.reason


NO_RELATION = "no relationship found between node 'a' and this object"

USES = {
    "a pull secret": ({"imagePullSecrets": [{"name": "x"}]}, "secrets"),
    "a secret volume": ({"volumes": [{"name": "v", "secret": {"secretName": "x"}}]}, "secrets"),
    "a config map volume": ({"volumes": [{"name": "v", "configMap": {"name": "x"}}]}, "configmaps"),
    "a projected secret": (
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "x"}}]}}]},
        "secrets",
    ),
    "a projected config map": (
        {"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "x"}}]}}]},
        "configmaps",
    ),
    "a CSI volume's secret": ({"volumes": [{"name": "v", "csi": {"nodePublishSecretRef": {"name": "x"}}}]}, "secrets"),
    "an azure file's secret": ({"volumes": [{"name": "v", "azureFile": {"secretName": "x"}}]}, "secrets"),
    "envFrom": ({"containers": [{"envFrom": [{"configMapRef": {"name": "x"}}]}]}, "configmaps"),
    "a variable of an init container": (
        {"initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "x"}}}]}]},
        "secrets",
    ),
    "a variable of an ephemeral container": (
        {"ephemeralContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "x"}}}]}]},
        "configmaps",
    ),
    "a claim": (
        {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]},
        "persistentvolumeclaims",
    ),
    "a resource claim": (
        {"resourceClaims": [{"name": "r", "resourceClaimName": "x"}]},
        "resourceclaims.resource.k8s.io",
    ),
}


@pytest.mark.parametrize("use", USES)
async def test_a_node_may_read_what_its_pods_use(use: str) -> None:
    spec, resource = USES[use]
    world = World()
    assert await world.reason("get", resource, name="x") == NO_RELATION
    world.pod("p", node="", **spec)
    assert await world.reason("get", resource, name="x") == NO_RELATION
    world.pod("other", node="b", **spec)
    assert await world.reason("get", resource, name="x") == NO_RELATION
    world.pod("p", node="a", **spec)
    assert await world.reason("get", resource, name="x") is None
    assert await world.reason("get", resource, name="y") == NO_RELATION
    assert await world.reason("get", resource, name="x", namespace="elsewhere") == NO_RELATION
    world.reader.remove("pods", "ns", "p")
    assert await world.reason("get", resource, name="x") == NO_RELATION


async def test_what_two_pods_use_stays_reachable_until_both_are_gone() -> None:
    world = World()
    volumes = [{"name": "v", "secret": {"secretName": "x"}}]
    world.pod("p", volumes=volumes)
    world.pod("q", volumes=volumes)
    world.reader.remove("pods", "ns", "p")
    assert await world.reason("get", "secrets", name="x") is None
    world.reader.remove("pods", "ns", "q")
    assert await world.reason("get", "secrets", name="x") == NO_RELATION


async def test_a_mirror_pod_brings_nothing_but_itself() -> None:
    world = World()
    world.pod("m", annotations={"kubernetes.io/config.mirror": "h"}, imagePullSecrets=[{"name": "x"}])
    assert await world.reason("get", "secrets", name="x") == NO_RELATION
    assert await world.reason("get", "pods", name="m") is None


async def test_a_volume_and_its_secrets_are_reached_through_the_claim() -> None:
    world = World()
    spec = {
        "claimRef": {"namespace": "ns", "name": "c"},
        "csi": {
            "nodeStageSecretRef": {"namespace": "sec", "name": "stage"},
            "controllerPublishSecretRef": {"namespace": "sec", "name": "controller"},
        },
    }
    world.reader.put("persistentvolumes", {"metadata": {"name": "pv"}, "spec": spec})
    assert await world.reason("get", "persistentvolumes", name="pv", namespace="") == NO_RELATION
    world.pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])
    assert await world.reason("get", "persistentvolumes", name="pv", namespace="") is None
    assert await world.reason("get", "secrets", name="stage", namespace="sec") is None
    assert await world.reason("get", "secrets", name="controller", namespace="sec") == NO_RELATION
    world.reader.put("persistentvolumes", {"metadata": {"name": "pv"}, "spec": {}})
    assert await world.reason("get", "secrets", name="stage", namespace="sec") == NO_RELATION


async def test_an_ephemeral_volume_s_claim_is_named_after_pod_and_volume() -> None:
    world = World()
    world.pod("p", volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}])
    assert await world.reason("get", "persistentvolumeclaims", name="p-v") is None
    assert await world.reason("update", "persistentvolumeclaims/status", name="p-v") is None
    assert await world.reason("update", "persistentvolumeclaims", name="p-v") == (
        "can only get individual resources of this type"
    )


async def test_tokens_only_for_service_accounts_of_its_pods() -> None:
    world = World()
    world.pod("p", serviceAccountName="robot")
    assert await world.reason("create", "serviceaccounts/token", name="robot") is None
    assert await world.reason("create", "serviceaccounts/token", name="other") == NO_RELATION
    assert await world.reason("create", "serviceaccounts/token") == (
        "can only create tokens for individual service accounts"
    )
    assert await world.reason("create", "serviceaccounts/x", name="robot") == (
        "can only create token subresource of serviceaccount"
    )
    assert await world.reason("get", "serviceaccounts", name="robot") is None
    assert await world.reason("get", "serviceaccounts", name="robot", namespace="") == (
        "can only read namespaced object of this type"
    )


async def test_secrets_are_read_one_by_one_and_never_written() -> None:
    world = World()
    assert await world.reason("list", "secrets") == "No Object name found"
    assert await world.reason("delete", "secrets", name="x") == "can only read resources of this type"
    assert await world.reason("get", "secrets/status", name="x") == "cannot read subresource"
    assert await world.reason("list", "secrets", namespace="") == "can only read namespaced object of this type"


async def test_pods_are_listed_by_node_name_only() -> None:
    world = World()
    own = [{"key": "spec.nodeName", "operator": "In", "values": ["a"]}]
    other = [{"key": "spec.nodeName", "operator": "In", "values": ["b"]}]
    text = "can only list/watch pods with spec.nodeName field selector"
    assert await world.reason("list", "pods", namespace="", field_requirements=own) is None
    assert await world.reason("watch", "pods", namespace="", field_requirements=other) == text
    assert await world.reason("watch", "pods", namespace="") == text
    assert await world.reason("list", "pods", name="p") == "no relationship found between node 'a' and this object"
    assert await world.reason("create", "pods/eviction", name="p") is None
    assert await world.reason("patch", "pods/status", name="p") is None
    assert await world.reason("patch", "pods", name="p") == ""
    assert await world.reason("get", "pods/log", name="p") == ""


async def test_only_its_own_node_lease_and_csi_node() -> None:
    world = World()
    assert await world.reason("get", "nodes", name="a", namespace="") is None
    assert await world.reason("get", "nodes", name="b", namespace="") == (
        "node 'a' cannot read 'b', only its own Node object"
    )
    assert await world.reason("list", "nodes", namespace="") == (
        "node 'a' cannot read all nodes, only its own Node object"
    )
    assert await world.reason("delete", "nodes", name="a", namespace="") == ""
    lease = "leases.coordination.k8s.io"
    assert await world.reason("update", lease, name="a", namespace="kube-node-lease") is None
    assert await world.reason("update", lease, name="b", namespace="kube-node-lease") == (
        "can only access node lease with the same name as the requesting node"
    )
    assert await world.reason("update", lease, name="a") == (
        'can only access leases in the "kube-node-lease" system namespace'
    )
    csi = "csinodes.storage.k8s.io"
    assert await world.reason("create", csi, namespace="") is None
    assert await world.reason("get", csi, name="b", namespace="") == (
        "can only access CSINode with the same name as the requesting node"
    )


async def test_a_node_needs_name_and_group() -> None:
    world = World()
    for nobody in (user("system:node:a"), user("a", "system:nodes"), user("alice")):
        assert await world.reason("get", "nodes", name="a", namespace="", who=nobody) == ""
    unnamed: UserInfo = user("system:node:", "system:nodes")
    assert await world.reason("get", "nodes", who=unnamed) == 'unknown node for user "system:node:"'
    rules = await world.authorizer.rules_for(NODE, "ns")
    assert rules.incomplete
    assert rules.error == "node authorizer does not support user rule resolution"
    assert not (await world.authorizer.rules_for(user("alice"), "ns")).incomplete


async def test_other_resources_are_for_every_node_alike() -> None:
    world = World()
    assert await world.reason("list", "services", namespace="") is None
    assert await world.reason("create", "events") is None
    assert await world.reason("create", "tokenreviews.authentication.k8s.io", namespace="") is None
    assert await world.reason("list", "deployments.apps") == ""


async def test_resource_slices_of_the_node_itself() -> None:
    world = World()
    slices = "resourceslices.resource.k8s.io"
    world.reader.put(slices, {"metadata": {"name": "s"}, "spec": {"nodeName": "a"}})
    world.reader.put(slices, {"metadata": {"name": "t"}, "spec": {"nodeName": "b"}})
    assert await world.reason("update", slices, name="s", namespace="") is None
    assert await world.reason("update", slices, name="t", namespace="") == NO_RELATION
    assert await world.reason("create", slices, namespace="") is None
    assert await world.reason("list", slices, namespace="") == (
        "can only list/watch/deletecollection resourceslices with nodeName field selector"
    )
    attachment = {"metadata": {"name": "va"}, "spec": {"nodeName": "a"}}
    world.reader.put("volumeattachments.storage.k8s.io", attachment)
    assert await world.reason("get", "volumeattachments.storage.k8s.io", name="va", namespace="") is None
