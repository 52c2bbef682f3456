"""NodeRestriction: what a kubelet may and may not write."""

from __future__ import annotations

import pytest
from admission_world import World, attributes, pod, refusal, run

from kubegate.admission import Operation
from kubegate.authentication import UserInfo

NODE = UserInfo("system:node:a", groups=("system:nodes", "system:authenticated"))
OWNER = {"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "n1", "controller": True}
LEASES = "leases.coordination.k8s.io"
CSRS = "certificatesigningrequests.certificates.k8s.io"


@pytest.fixture
def chain(world: World):
    world.objects.put("nodes", {"metadata": {"name": "a", "uid": "n1"}})
    world.objects.put("pods", bound("mine", "a"))
    world.objects.put("pods", bound("theirs", "b"))
    return world.chain("NodeRestriction")


def bound(name: str, node: str, **spec):
    made = pod(name, nodeName=node, **spec)
    made["metadata"]["uid"] = f"uid-{name}"
    return made


def mirror(name: str = "m", owners=(OWNER,), **spec):
    metadata = {"annotations": {"kubernetes.io/config.mirror": "h"}, "ownerReferences": list(owners)}
    made = pod(name, metadata=metadata, **{"nodeName": "a", **spec})
    del made["spec"]["automountServiceAccountToken"]
    return made


def node(name: str = "a", spec=None, **metadata):
    return {"metadata": {"name": name, **metadata}, "spec": spec or {}}


async def test_who_is_no_node_is_not_looked_at(chain):
    for user in (UserInfo("system:node:a"), UserInfo("alice", groups=("system:nodes",))):
        await run(chain, attributes("pods", pod(), user=user))


async def test_a_node_without_a_name_is_refused(chain):
    nameless = UserInfo("system:node:", groups=("system:nodes",))
    assert "could not determine node from user" in await refusal(chain, attributes("pods", pod(), user=nameless))


async def test_a_node_makes_mirror_pods_of_itself(chain):
    await run(chain, attributes("pods", mirror(), user=NODE))


def secret_volume():
    return [{"name": "v", "secret": {"secretName": "s"}}]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (
            pod(nodeName="a"),
            'pod does not have "kubernetes.io/config.mirror" annotation, node "a" can only create mirror pods',
        ),
        (mirror(nodeName="b"), 'node "a" can only create pods with spec.nodeName set to itself'),
        (mirror(owners=()), 'node "a" can only create pods with an owner reference set to itself'),
        (mirror(owners=(OWNER, OWNER)), 'node "a" can only create pods with a single owner reference set to itself'),
        (
            mirror(owners=({**OWNER, "name": "b"},)),
            'node "a" can only create pods with an owner reference set to itself',
        ),
        (
            mirror(owners=({**OWNER, "controller": False},)),
            'node "a" can only create pods with a controller owner reference set to itself',
        ),
        (
            mirror(owners=({**OWNER, "blockOwnerDeletion": True},)),
            'node "a" must not set blockOwnerDeletion on an owner reference',
        ),
        (mirror(owners=({**OWNER, "uid": "n2"},)), "node a UID mismatch: expected n2 got n1"),
        (mirror(serviceAccountName="default"), 'node "a" can not create pods that reference serviceaccounts'),
        (mirror(volumes=secret_volume()), 'node "a" can not create pods that reference secrets'),
        (
            mirror(volumes=[{"name": "v", "configMap": {"name": "s"}}]),
            'node "a" can not create pods that reference configmaps',
        ),
        (
            mirror(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "s"}}]),
            'node "a" can not create pods that reference persistentvolumeclaims',
        ),
        (
            mirror(volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]),
            'node "a" can not create pods that reference serviceaccounts',
        ),
    ],
)
async def test_a_node_makes_no_other_pods(chain, made, why):
    assert await refusal(chain, attributes("pods", made, user=NODE)) == (
        f'pods "{made["metadata"]["name"]}" is forbidden: {why}'
    )


async def test_a_mirror_pod_claims_no_devices(chain):
    """CVE-2025-4563: dynamic resource allocation by way of mirror pods."""
    made = mirror(resourceClaims=[{"name": "gpu", "resourceClaimName": "taken"}])
    assert "can not create pods that reference resourceclaims" in await refusal(
        chain, attributes("pods", made, user=NODE)
    )


async def test_a_node_deletes_evicts_and_reports_on_its_own_pods_alone(world: World, chain):
    mine, theirs = (world.objects.get("pods", "ns", name) for name in ("mine", "theirs"))
    eviction = {"metadata": {"name": "mine"}}
    await run(chain, attributes("pods", None, mine, user=NODE))
    await run(chain, attributes("pods", eviction, subresource="eviction", user=NODE))
    await run(chain, attributes("pods", mine, mine, subresource="status", user=NODE))
    said = 'pods "theirs" is forbidden: '
    assert await refusal(chain, attributes("pods", None, theirs, user=NODE)) == (
        said + 'node "a" can only delete pods with spec.nodeName set to itself'
    )
    assert await refusal(chain, attributes("pods", theirs, theirs, subresource="status", user=NODE)) == (
        said + 'node "a" can only update pod status for pods with spec.nodeName set to itself'
    )
    assert (
        await refusal(chain, attributes("pods", eviction, subresource="eviction", name="theirs", user=NODE))
        == said + "node a can only evict pods with spec.nodeName set to itself"
    )


async def test_status_is_no_way_to_labels_or_claims(world: World, chain):
    mine = world.objects.get("pods", "ns", "mine")
    labelled = {**mine, "metadata": {**mine["metadata"], "labels": {"a": "b"}}}
    asked = attributes("pods", labelled, mine, subresource="status", user=NODE)
    assert 'node "a" cannot update labels through pod status' in await refusal(chain, asked)
    claimed = {**mine, "status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "taken"}]}}
    asked = attributes("pods", claimed, mine, subresource="status", user=NODE)
    assert 'node "a" cannot update resource claim statues' in await refusal(chain, asked)


async def test_other_subresources_of_pods_are_refused(world: World, chain):
    mine = world.objects.get("pods", "ns", "mine")
    asked = attributes("pods", mine, mine, subresource="ephemeralcontainers", user=NODE)
    assert "unexpected pod subresource \"ephemeralcontainers\", only 'status' and 'eviction' are allowed" in (
        await refusal(chain, asked)
    )


async def test_a_node_changes_itself_and_no_other(chain):
    await run(chain, attributes("nodes", node(labels={"kubernetes.io/hostname": "a", "example.org/x": "1"}), user=NODE))
    assert await refusal(chain, attributes("nodes", node("b"), user=NODE)) == (
        'nodes "b" is forbidden: node "a" is not allowed to modify node "b"'
    )
    tainted = node(spec={"taints": [{"key": "k", "effect": "NoSchedule"}]})
    assert "is not allowed to modify taints" in await refusal(chain, attributes("nodes", tainted, node(), user=NODE))


@pytest.mark.parametrize("subresource", ["", "status"])
async def test_labels_that_steer_workloads_are_not_a_nodes_to_set(chain, subresource):
    """CVE-2021-25735 and its like: the same fields are checked for the node and for its status."""
    steering = {
        "node-restriction.kubernetes.io/x": "1",
        "foo.node-restriction.kubernetes.io/x": "1",
        "kubernetes.io/invented": "1",
        "foo.k8s.io/y": "1",
    }
    assert await refusal(chain, attributes("nodes", node(labels=steering), user=NODE)) == (
        'nodes "a" is forbidden: node "a" is not allowed to set the following labels: foo.k8s.io/y, '
        "foo.node-restriction.kubernetes.io/x, kubernetes.io/invented, node-restriction.kubernetes.io/x"
    )
    asked = attributes("nodes", node(labels=steering), node(), subresource=subresource, user=NODE)
    assert await refusal(chain, asked) == (
        'nodes "a" is forbidden: is not allowed to modify labels: foo.k8s.io/y, '
        "foo.node-restriction.kubernetes.io/x, kubernetes.io/invented, node-restriction.kubernetes.io/x"
    )
    asked = attributes("nodes", node(), node(labels=steering), subresource=subresource, user=NODE)
    assert "is not allowed to modify labels" in await refusal(chain, asked)
    own = {"node.kubernetes.io/own": "x", "x.kubelet.kubernetes.io/y": "x", "topology.kubernetes.io/zone": "z"}
    await run(chain, attributes("nodes", node(labels=own), node(), subresource=subresource, user=NODE))


async def test_a_node_has_no_owner_that_it_did_not_have(chain):
    """CVE-2025-5187: a node that names an owner which is not there is collected, and comes back without its taints."""
    owned = node(ownerReferences=[{"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "x"}])
    asked = attributes("nodes", owned, node(), user=NODE)
    assert await refusal(chain, asked) == 'nodes "a" is forbidden: node "a" is not allowed to modify ownerReferences'


def token(pod_name: str, uid: str = "", audiences=()):
    reference = {"apiVersion": "v1", "kind": "Pod", "name": pod_name, "uid": uid or f"uid-{pod_name}"}
    return {"spec": {"audiences": list(audiences), "boundObjectRef": reference}}


async def refused_token(chain, request):
    asked = attributes("serviceaccounts", request, subresource="token", name="robot", user=NODE)
    return (await refusal(chain, asked)).removeprefix('serviceaccounts "robot" is forbidden: ')


async def test_tokens_are_for_pods_of_the_node(chain):
    assert await refused_token(chain, {"spec": {}}) == "node requested token not bound to a pod"
    assert await refused_token(chain, token("theirs")) == (
        "node requested token bound to a pod scheduled on a different node"
    )
    assert await refused_token(chain, token("mine", "other")) == (
        "the UID in the bound object reference (other) does not match the UID in record. "
        "The object might have been deleted and then recreated"
    )
    assert await refused_token(chain, token("gone")) == 'pod "gone" not found'


async def test_tokens_are_for_audiences_that_the_pod_names(world: World, chain):
    sources = [{"serviceAccountToken": {"audience": "vault", "path": "t"}}]
    volumes = [
        {"name": "v", "projected": {"sources": sources}},
        {"name": "c", "csi": {"driver": "disks.example.org"}},
        {"name": "p", "persistentVolumeClaim": {"claimName": "claim"}},
    ]
    world.objects.put("pods", bound("mine", "a", volumes=volumes))
    world.objects.put(
        "csidrivers.storage.k8s.io",
        {"metadata": {"name": "disks.example.org"}, "spec": {"tokenRequests": [{"audience": "disks"}]}},
    )
    world.objects.put(
        "csidrivers.storage.k8s.io",
        {"metadata": {"name": "nets.example.org"}, "spec": {"tokenRequests": [{"audience": "nets"}]}},
    )
    world.objects.put(
        "persistentvolumeclaims", {"metadata": {"name": "claim", "namespace": "ns"}, "spec": {"volumeName": "pv"}}
    )
    world.objects.put(
        "persistentvolumes", {"metadata": {"name": "pv"}, "spec": {"csi": {"driver": "nets.example.org"}}}
    )
    for audience in ("vault", "disks", "nets"):
        request = token("mine", audiences=[audience])
        await run(chain, attributes("serviceaccounts", request, subresource="token", name="robot", user=NODE))
    assert await refused_token(chain, token("mine", audiences=["bank"])) == (
        'audience "bank" not found in pod spec volume, system:node:a is not authorized to request tokens for this '
        "audience"
    )
    assert await refused_token(chain, token("mine", audiences=["vault", "bank"])) == (
        "node may only request 0 or 1 audiences"
    )
    lost = [{"name": "p", "persistentVolumeClaim": {"claimName": "none"}}, {"name": "c", "csi": {"driver": "lost"}}]
    world.objects.put("pods", bound("mine", "a", volumes=[*volumes, *lost]))
    assert await refused_token(chain, token("mine", audiences=["bank"])) == (
        'error validating audience "bank": [persistentvolumeclaim "none" not found, '
        'csidriver.storage.k8s.io "lost" not found]'
    )
    world.objects.put("pods", bound("mine", "a", volumes=volumes))
    world.allowed.add(("system:node:a", "request-serviceaccounts-token-audience", "bank", "robot"))
    request = token("mine", audiences=["bank"])
    await run(chain, attributes("serviceaccounts", request, subresource="token", name="robot", user=NODE))


async def test_leases_and_csi_nodes_are_the_nodes_own(chain):
    own, other = {"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}
    await run(chain, attributes(LEASES, own, namespace="kube-node-lease", user=NODE))
    assert "can only access node lease with the same name as the requesting node" in await refusal(
        chain, attributes(LEASES, other, namespace="kube-node-lease", user=NODE)
    )
    assert 'can only access leases in the "kube-node-lease" system namespace' in await refusal(
        chain, attributes(LEASES, own, user=NODE)
    )
    assert "can only access CSINode with the same name as the requesting node" in await refusal(
        chain, attributes("csinodes.storage.k8s.io", other, user=NODE)
    )


async def test_of_a_claim_only_what_a_kubelet_measures_may_change(chain):
    old = {"metadata": {"name": "c"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}
    measured = {**old, "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}, "conditions": []}}
    claims = "persistentvolumeclaims"
    await run(chain, attributes(claims, measured, old, subresource="status", user=NODE))
    labelled = {**old, "metadata": {"name": "c", "labels": {"a": "b"}}}
    asked = attributes(claims, labelled, old, subresource="status", user=NODE)
    assert "is not allowed to update fields other than" in await refusal(chain, asked)
    assert "may only update PVC status" in await refusal(chain, attributes(claims, old, old, user=NODE))


async def test_resource_slices_name_the_node_that_makes_them(chain):
    slices = "resourceslices.resource.k8s.io"
    await run(chain, attributes(slices, {"metadata": {"name": "s"}, "spec": {"nodeName": "a"}}, user=NODE))
    other = {"metadata": {"name": "s"}, "spec": {"nodeName": "b"}}
    for asked, verb in (
        (attributes(slices, other, user=NODE), "create"),
        (attributes(slices, None, other, user=NODE), "delete"),
    ):
        assert asked.operation in (Operation.CREATE, Operation.DELETE)
        assert f"can only {verb} ResourceSlice with the same NodeName as the requesting node" in (
            await refusal(chain, asked)
        )


@pytest.mark.parametrize("signer", ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"])
async def test_a_node_asks_for_certificates_of_its_own_name(chain, signer, certificate_request):
    def request(common_name):
        spec = {"signerName": signer, "request": certificate_request(common_name, "system:nodes")}
        return attributes(CSRS, {"metadata": {"name": "r"}, "spec": spec}, user=NODE)

    await run(chain, request("system:node:a"))
    assert "can only create a node CSR with CN=system:node:a" in await refusal(chain, request("system:node:b"))
