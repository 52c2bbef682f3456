"""Tokens, certificates, bootstrap, quotas, budgets, namespaces, endpoints: the controllers round access."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from controllers_world import ControllersWorld, Flags, certificate_files, controllers_world

from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes, Decision, Verdict
from kubegate.controllers.bootstrap_signer import detached
from kubegate.controllers.manager import MODULES, chosen
from kubegate.controllers.serviceendpoints import LAST_TRIGGER
from kubegate.pki import certificates, keys
from kubegate.registry.internal import Internal

Object = dict[str, Any]
_TOKEN = "kubernetes.io/service-account-token"
_ACCOUNT = "kubernetes.io/service-account.name"


@pytest.fixture
async def world() -> AsyncIterator[ControllersWorld]:
    async with controllers_world() as found:
        yield found


def token_secret(account: str) -> Object:
    return {"metadata": {"name": "key", "annotations": {_ACCOUNT: account}}, "type": _TOKEN}


def bootstrap_token(**data: str) -> Object:
    values = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true", **data}
    return {
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in values.items()},
    }


def pod(name: str = "p", **metadata: Any) -> Object:
    return {"metadata": {"name": name, **metadata}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


async def test_a_token_secret_is_filled_and_goes_with_its_account(world: ControllersWorld) -> None:
    world.run("serviceaccount-token-controller")
    await world.create("serviceaccounts", {"metadata": {"name": "robot"}})
    await world.create("secrets", token_secret("robot"))
    data = world.must("secrets", "key")["data"]
    assert base64.b64decode(data["namespace"]) == b"ns"
    assert base64.b64decode(data["token"]).count(b".") == 2
    await world.delete("serviceaccounts", "robot")
    assert world.names("secrets") == []


async def test_a_token_secret_of_nobody_goes(world: ControllersWorld) -> None:
    world.run("serviceaccount-token-controller")
    await world.create("secrets", token_secret("nobody"))
    assert world.names("secrets") == []


async def test_a_token_secret_that_is_gone_goes_from_its_account_s_list(world: ControllersWorld) -> None:
    world.run("serviceaccount-token-controller")
    await world.create("serviceaccounts", {"metadata": {"name": "robot"}, "secrets": [{"name": "key"}, {"name": "x"}]})
    await world.create("secrets", token_secret("robot"))
    await world.delete("secrets", "key")
    assert world.must("serviceaccounts", "robot")["secrets"] == [{"name": "x"}]


async def test_before_1_24_every_account_had_a_secret_in_its_list() -> None:
    async with controllers_world(Flags(service_account_legacy_tokens=True)) as world:
        world.run("serviceaccount-token-controller")
        await world.create("serviceaccounts", {"metadata": {"name": "robot"}})
        [name] = world.names("secrets")
        assert world.must("serviceaccounts", "robot")["secrets"] == [{"name": name}]
        await world.delete("secrets", name)
        [again] = world.names("secrets")
        assert {"name": again} in world.must("serviceaccounts", "robot")["secrets"]


async def test_a_quota_says_what_is_used_and_hears_of_what_goes(world: ControllersWorld) -> None:
    world.run("resourcequota-controller")
    await world.create("configmaps", {"metadata": {"name": "a"}})
    await world.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": "2"}}})
    status = world.must("resourcequotas", "q")["status"]
    assert status == {"hard": {"count/configmaps": "2"}, "used": {"count/configmaps": "1"}}
    await world.delete("configmaps", "a")
    assert world.must("resourcequotas", "q")["status"]["used"] == {"count/configmaps": "0"}


async def test_a_quota_of_what_is_not_served_is_followed_once_it_is(world: ControllersWorld) -> None:
    world.run("resourcequota-controller")
    listeners = world.registry.cache._subscribers
    before = sum(map(len, listeners.values()))
    hard = {"count/configmaps": "2"} | {f"count/things{number}.example.org": "1" for number in range(100)}
    await world.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    assert world.must("resourcequotas", "q")["status"]["used"] == {"count/configmaps": "0"}
    assert sum(map(len, listeners.values())) == before + 1


async def test_cluster_info_is_signed_by_the_tokens_that_may(world: ControllersWorld) -> None:
    world.run("bootstrap-signer-controller", "token-cleaner-controller")
    info = {"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "text"}}
    await world.create("configmaps", info, "kube-public")
    await world.create("secrets", bootstrap_token(), "kube-system")
    data = world.must("configmaps", "cluster-info", "kube-public")["data"]
    assert data["jws-kubeconfig-abcdef"] == detached("text", "abcdef", "0123456789abcdef")
    await world.delete("secrets", "bootstrap-token-abcdef", "kube-system")
    assert world.must("configmaps", "cluster-info", "kube-public")["data"] == {"kubeconfig": "text"}


async def test_a_bootstrap_token_ends_when_its_time_is_over(world: ControllersWorld) -> None:
    world.run("token-cleaner-controller")
    # the clock stands at 2027-01-15T08:00:00Z
    await world.create("secrets", bootstrap_token(expiration="2027-01-15T08:01:00Z"), "kube-system")
    await world.advance(59)
    assert world.names("secrets", "kube-system") == ["bootstrap-token-abcdef"]
    await world.advance(2)
    assert world.names("secrets", "kube-system") == []


async def test_an_approved_request_is_signed_and_an_old_one_goes(tmp_path: Path) -> None:
    certificate, key = certificate_files(tmp_path)
    async with controllers_world(Flags(client_ca_file=certificate)) as world:
        assert key == certificate.replace(".crt", ".key")
        world.run("certificatesigningrequest-signing-controller", "certificatesigningrequest-cleaner-controller")
        asked = certificates.new_request(keys.generate(), certificates.Subject("jane", ("dev",)))
        spec = {
            "request": base64.b64encode(certificates.request_pem(asked)).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        }
        kind = "certificatesigningrequests.certificates.k8s.io"
        await world.create(kind, {"metadata": {"name": "jane"}, "spec": spec}, "")
        current = world.must(kind, "jane", "")
        assert "certificate" not in current.get("status", {})
        approved = {"type": "Approved", "status": "True", "reason": "Test", "message": ""}
        changed = {**current, "status": {"conditions": [approved]}}
        await world.client.update_subresource(kind, "", "jane", "approval", changed)
        await world.settle()
        pem = base64.b64decode(world.must(kind, "jane", "")["status"]["certificate"])
        [signed] = certificates.parse_certificates(pem)
        assert certificates.subject_of(signed).common_name == "jane"
        await world.advance(3600)  # when requests are looked at: this one was decided just now
        assert world.get(kind, "jane", "") is not None
        await world.advance(3600)
        assert world.get(kind, "jane", "") is None


class Kubelets:
    """An authorizer that allows what nodes may create of certificatesigningrequests."""

    def __init__(self) -> None:
        self.allowed: set[str] = set()

    async def authorize(self, attributes: Attributes) -> Decision:
        asked = (attributes.user.name, attributes.verb, attributes.resource)
        assert asked == ("system:node:n", "create", "certificatesigningrequests")
        return Decision(Verdict.ALLOW if attributes.subresource in self.allowed else Verdict.NO_OPINION)


def node_request(node: str, signer: str = "kubernetes.io/kube-apiserver-client-kubelet") -> Object:
    asked = certificates.new_request(keys.generate(), certificates.Subject(f"system:node:{node}", ("system:nodes",)))
    request = base64.b64encode(certificates.request_pem(asked)).decode()
    return {
        "metadata": {"name": node},
        "spec": {"request": request, "signerName": signer, "usages": ["client auth", "digital signature"]},
    }


@pytest.mark.parametrize(
    ("node", "right", "approved"),
    [("n", "selfnodeclient", True), ("other", "selfnodeclient", False), ("other", "nodeclient", True)],
)
async def test_a_kubelet_s_request_is_approved_once_it_may_be(
    world: ControllersWorld, node: str, right: str, approved: bool
) -> None:
    world.run("certificatesigningrequest-approving-controller")
    world.registry.authorizer = rights = Kubelets()
    kind = "certificatesigningrequests.certificates.k8s.io"
    kubelet = Internal(world.registry, UserInfo("system:node:n", groups=("system:nodes",)))
    await kubelet.create(kind, "", node_request(node))
    await kubelet.create(kind, "", node_request("none", "example.org/hand"))
    await world.settle()
    assert not world.must(kind, node, "").get("status")
    rights.allowed.add(right)
    await world.advance(0.2)
    found = [dict(condition) for condition in (world.must(kind, node, "").get("status") or {}).get("conditions") or ()]
    for condition in found:
        assert condition.pop("lastUpdateTime") == condition.pop("lastTransitionTime")
    whose = "self kubelet" if right == "selfnodeclient" else "kubelet"
    message = f"Auto approving {whose} client certificate after SubjectAccessReview."
    wanted = {"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}
    assert found == ([wanted] if approved else [])
    assert not world.must(kind, "none", "").get("status")


@pytest.mark.parametrize(
    ("conditions", "hours"),
    [
        ([], 25),
        ([{"type": "Denied", "status": "True", "lastUpdateTime": "2020-01-01T00:00:00Z"}], 1),
        ([{"type": "Failed", "status": "True", "lastUpdateTime": "2020-01-01T00:00:00Z"}], 1),
        ([{"type": "Denied", "status": "True"}], 2),
        ([{"type": "Approved", "status": "True", "lastUpdateTime": "2020-01-01T00:00:00Z"}], None),
        ([{"type": "Thoughtful", "status": "True", "lastUpdateTime": "2020-01-01T00:00:00Z"}], None),
    ],
)
async def test_requests_are_looked_at_every_hour(
    world: ControllersWorld, conditions: list[Object], hours: int | None
) -> None:
    world.run("certificatesigningrequest-cleaner-controller")
    kind = "certificatesigningrequests.certificates.k8s.io"
    asked = certificates.new_request(keys.generate(), certificates.Subject("jane"))
    request = base64.b64encode(certificates.request_pem(asked)).decode()
    spec = {"request": request, "signerName": "example.org/hand", "usages": ["client auth"]}
    await world.create(kind, {"metadata": {"name": "jane"}, "spec": spec}, "")
    changed = {**world.must(kind, "jane", ""), "status": {"conditions": conditions}}
    await world.client.update_subresource(kind, "", "jane", "approval", changed)
    stayed = 0
    while stayed < 30 and world.get(kind, "jane", "") is not None:
        stayed += 1
        await world.advance(3600)
    assert stayed == (30 if hours is None else hours)


async def test_a_flow_schema_tells_whether_its_priority_level_exists(world: ControllersWorld) -> None:
    world.run("flowschema-status-controller")
    group = "flowcontrol.apiserver.k8s.io"
    schemas, levels = f"flowschemas.{group}", f"prioritylevelconfigurations.{group}"
    spec = {"priorityLevelConfiguration": {"name": "mine"}, "matchingPrecedence": 50}
    await world.create(schemas, {"metadata": {"name": "s"}, "spec": spec}, "")
    [dangling] = world.must(schemas, "s", "")["status"]["conditions"]
    dangling.pop("lastTransitionTime")
    named = 'This FlowSchema references the PriorityLevelConfiguration object named "mine" '
    assert dangling == {
        "type": "Dangling", "status": "True", "reason": "NotFound", "message": f"{named}but there is no such object"
    }  # fmt: skip
    reject = {"limitResponse": {"type": "Reject"}}
    await world.create(levels, {"metadata": {"name": "mine"}, "spec": {"type": "Limited", "limited": reject}}, "")
    assert world.must(levels, "mine", "")["spec"]["limited"]["nominalConcurrencyShares"] == 30
    found = world.must(schemas, "s", "")
    [dangling] = found["status"]["conditions"]
    assert (dangling["status"], dangling["message"]) == ("False", f"{named}and it exists")
    [entry] = [entry for entry in found["metadata"]["managedFields"] if entry.get("subresource") == "status"]
    assert (entry["manager"], entry["operation"]) == ("api-priority-and-fairness-config-consumer-v1", "Apply")
    await world.delete(levels, "mine", "")
    assert world.must(schemas, "s", "")["status"]["conditions"][0]["status"] == "True"


async def test_a_budget_allows_what_is_more_than_it_wants(world: ControllersWorld) -> None:
    world.run("disruption-controller")
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}
    await world.create("poddisruptionbudgets.policy", {"metadata": {"name": "b"}, "spec": budget})
    for name in ("p", "q"):
        await world.create("pods", pod(name, labels={"app": "x"}))
    await world.ready("p")
    status = world.must("poddisruptionbudgets.policy", "b")["status"]
    assert (status["disruptionsAllowed"], status["currentHealthy"], status["expectedPods"]) == (0, 1, 2)
    await world.ready("q")
    status = world.must("poddisruptionbudgets.policy", "b")["status"]
    assert status["disruptionsAllowed"] == 1
    assert status["conditions"][0]["reason"] == "SufficientPods"


async def test_a_budget_says_what_is_odd_about_its_pods(world: ControllersWorld) -> None:
    world.run("disruption-controller")
    selector = {"matchLabels": {"app": "web"}}
    budget = {"metadata": {"name": "b"}, "spec": {"maxUnavailable": "50%", "selector": selector}}
    await world.create("poddisruptionbudgets.policy", budget)
    assert world.events() == [("NoPods", "No matching pods found")]
    await world.create("pods", pod("web-1", labels={"app": "web"}))
    reason, message = world.events()[-1]
    assert reason == "UnmanagedPods"
    assert message.startswith("Pods selected by this PodDisruptionBudget (selector: app=web) were found to be")


def placed(found: Object, node: str) -> Object:
    return {**found, "spec": {**found["spec"], "nodeName": node}}


async def test_endpoints_with_the_same_addresses_stand_together_in_the_order_of_kubernetes(
    world: ControllersWorld,
) -> None:
    world.run("endpoints-controller")
    ports = [
        {"name": "http", "port": 80, "targetPort": "web"},
        {"name": "https", "port": 443},
        {"name": "m", "port": 9090},
    ]
    await world.create("services", {"metadata": {"name": "s"}, "spec": {"selector": {"app": "x"}, "ports": ports}})
    for name, number in (("p", 8080), ("q", 8081)):
        made = pod(name, labels={"app": "x"})
        offered = [{"name": "web", "containerPort": number}]
        made["spec"]["containers"] = [{**made["spec"]["containers"][0], "ports": offered}]
        await world.create("pods", made)
        await world.ready(name, f"10.1.2.{number - 8079}")
    subsets = world.must("endpoints", "s")["subsets"]
    told = {tuple(one["ip"] for one in each["addresses"]): [port["port"] for port in each["ports"]] for each in subsets}
    assert told == {("10.1.2.1",): [8080], ("10.1.2.2",): [8081], ("10.1.2.1", "10.1.2.2"): [9090, 443]}


async def test_pods_whose_node_is_not_there_are_left_out_of_slices_until_it_is(world: ControllersWorld) -> None:
    world.run("endpointslice-controller")
    spec = {"selector": {"app": "x"}, "ports": [{"port": 80}]}
    await world.create("services", {"metadata": {"name": "s"}, "spec": spec})
    await world.create("pods", placed(pod(labels={"app": "x"}), "n"))
    await world.ready("p", "10.1.2.3")
    [name] = world.names("endpointslices.discovery.k8s.io")
    assert not world.must("endpointslices.discovery.k8s.io", name).get("endpoints")
    text = "Error updating Endpoint Slices for Service ns/s: skipping Pod p for Service ns/s: Node n Not Found"
    assert ("FailedToUpdateEndpointSlices", text) in world.events()
    await world.create("nodes", {"metadata": {"name": "n"}}, "")
    [name] = world.names("endpointslices.discovery.k8s.io")
    assert len(world.must("endpointslices.discovery.k8s.io", name)["endpoints"]) == 1


async def test_a_services_endpoints_are_its_ready_pods(world: ControllersWorld) -> None:
    world.run("endpoints-controller", "endpointslice-controller", "endpointslice-mirroring-controller")
    spec = {"selector": {"app": "x"}, "ports": [{"port": 80, "targetPort": 8080}], "clusterIP": "None"}
    await world.create("services", {"metadata": {"name": "s"}, "spec": spec})
    assert len(world.names("endpointslices.discovery.k8s.io")) == 1
    created = world.must("services", "s")["metadata"]["creationTimestamp"]
    assert world.must("endpoints", "s")["metadata"]["annotations"] == {LAST_TRIGGER: created}
    await world.create("nodes", {"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}}, "")
    await world.create("pods", placed(pod(labels={"app": "x"}), "n"))
    await world.advance(5)
    await world.ready("p", "10.1.2.3")
    [subset] = world.must("endpoints", "s")["subsets"]
    assert subset["addresses"][0]["ip"] == "10.1.2.3"
    assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]
    [name] = world.names("endpointslices.discovery.k8s.io")
    [endpoint] = world.must("endpointslices.discovery.k8s.io", name)["endpoints"]
    assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert (endpoint["nodeName"], endpoint["zone"]) == ("n", "z")
    [ready] = [one for one in world.must("pods", "p")["status"]["conditions"] if one["type"] == "Ready"]
    annotations = world.must("endpointslices.discovery.k8s.io", name)["metadata"]["annotations"]
    assert annotations == {LAST_TRIGGER: ready["lastTransitionTime"]}
    await world.delete("services", "s")
    assert world.names("endpoints") == world.names("endpointslices.discovery.k8s.io") == []


async def test_a_claim_stays_until_no_pod_mounts_it(world: ControllersWorld) -> None:
    world.run("persistentvolumeclaim-protection-controller")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    await world.create("persistentvolumeclaims", {"metadata": {"name": "data"}, "spec": spec})
    using = pod()
    using["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    await world.create("pods", using)
    await world.delete("persistentvolumeclaims", "data")
    assert world.names("persistentvolumeclaims") == ["data"]
    await world.delete("pods", "p")
    assert world.names("persistentvolumeclaims") == []


async def test_a_namespace_ends_as_soon_as_what_held_it_goes(world: ControllersWorld) -> None:
    world.run("namespace-controller")
    await world.create("namespaces", {"metadata": {"name": "n"}}, "")
    held = {"metadata": {"name": "held", "finalizers": ["example.org/hold"]}}
    await world.create("configmaps", held, "n")
    await world.delete("namespaces", "n", "")
    conditions = {one["type"]: one["status"] for one in world.must("namespaces", "n", "")["status"]["conditions"]}
    assert conditions["NamespaceFinalizersRemaining"] == "True"
    await world.update("configmaps", "held", lambda found: found["metadata"].update(finalizers=[]), "n")
    assert world.get("namespaces", "n", "") is None


async def test_what_guards_pods_outlives_them_in_a_namespace_that_ends(world: ControllersWorld) -> None:
    """CVE-2024-7598: without its NetworkPolicy a pod that was slow to end could be reached."""
    world.run("namespace-controller")
    await world.create("namespaces", {"metadata": {"name": "n"}}, "")
    spec = {"containers": [{"name": "c", "image": "x"}]}
    await world.create("pods", {"metadata": {"name": "slow", "finalizers": ["example.org/hold"]}, "spec": spec}, "n")
    await world.create(
        "networkpolicies.networking.k8s.io", {"metadata": {"name": "guard"}, "spec": {"podSelector": {}}}, "n"
    )
    await world.delete("namespaces", "n", "")
    assert world.must("networkpolicies.networking.k8s.io", "guard", "n")["metadata"].get("deletionTimestamp") is None
    conditions = {one["type"]: one for one in world.must("namespaces", "n", "")["status"]["conditions"]}
    told = "Some resources are remaining: pods. has 1 resource instances"
    assert conditions["NamespaceContentRemaining"]["message"] == told
    await world.update("pods", "slow", lambda found: found["metadata"].update(finalizers=[]), "n")
    assert world.get("networkpolicies.networking.k8s.io", "guard", "n") is None
    assert world.get("namespaces", "n", "") is None


async def test_nodes_are_told_how_long_to_keep_what_they_read(world: ControllersWorld) -> None:
    world.run("ttl-controller")
    await world.create("nodes", {"metadata": {"name": "a"}}, "")
    assert world.must("nodes", "a", "")["metadata"]["annotations"] == {"node.alpha.kubernetes.io/ttl": "0"}


def test_controllers_are_chosen_by_name_and_star() -> None:
    assert chosen(["none"]) == []
    assert set(chosen(["*"])) == set(MODULES)
    assert "job-controller" not in chosen(["*", "-job-controller"])
    assert chosen(["job-controller"]) == ["job-controller"]
    with pytest.raises(ValueError, match="no controller"):
        chosen(["invented"])
