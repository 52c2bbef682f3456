"""A real kube-controller-manager beside `--controllers=none`: its side of the wire is played here, in its own bytes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from controller_manager_wire import (
    ACCEPT,
    PARTIAL,
    PARTIAL_LIST,
    PROTOBUF,
    Client,
    meta,
    pairs,
    pod_spec,
    pod_template,
    selector,
    time,
    wrapped,
)
from cryptography.hazmat.primitives.serialization import Encoding

from kubegate.pki import certificates, keys
from kubegate.testing.running import ApiError, Kubegate

pytestmark = pytest.mark.kubegate("--controllers=none")
Object = dict[str, Any]
NS = "/api/v1/namespaces"
PODS = f"{NS}/default/pods"
APPS = "/apis/apps/v1/namespaces/default"
LABELS = {"app": "web"}


@pytest.fixture
def admin(kubegate: Kubegate) -> Client:
    return Client(kubegate.url, kubegate.ca)


def controller(kubegate: Kubegate, admin: Client, name: str) -> Client:
    """--use-service-account-credentials: an account in kube-system, and a token for it, as the client builder asks."""
    path = f"{NS}/kube-system/serviceaccounts"
    answer = admin.ask("GET", f"{path}/{name}")
    if answer.status == 404:
        admin.send("POST", path, "v1", "ServiceAccount", ((1, meta(name, "kube-system")),))
    request = ((1, meta()), (2, ((1, []), (4, 3600))), (3, ((1, ""), (2, ()))))
    made = admin.send("POST", f"{path}/{name}/token", "authentication.k8s.io/v1", "TokenRequest", request)
    return Client(kubegate.url, kubegate.ca, made["status"]["token"])


def deployment(kubegate: Kubegate) -> Object:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template}
    return kubegate.create(f"{APPS}/deployments", {"metadata": {"name": "web"}, "spec": spec})


# ---------------------------------------------------------------------- what it asks before it works
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [(ACCEPT, "application/json"), (f"{PROTOBUF},application/json", "application/json"), (PROTOBUF, PROTOBUF)],
)
@pytest.mark.parametrize("path", [f"{NS}/default", NS, f"{NS}?watch=1&timeoutSeconds=1", "/apis/apps/v1"])
def test_protobuf_is_for_those_who_take_nothing_else(admin: Client, path: str, accept: str, content_type: str) -> None:
    answer = admin.ask("GET", path, accept=accept)
    assert answer.status == 200
    assert answer.content_type.partition(";")[0] == content_type


def test_discovery_has_all_groups_at_once(admin: Client) -> None:
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    found = admin.get("/apis", accept=aggregated)
    assert found["kind"] == "APIGroupDiscoveryList"
    assert {"apps", "batch", "coordination.k8s.io"} <= {group["metadata"]["name"] for group in found["items"]}


def test_who_its_own_clients_are(admin: Client) -> None:
    """--authentication-kubeconfig: the authority of client certificates is looked up here."""
    found = admin.get(f"{NS}/kube-system/configmaps/extension-apiserver-authentication")
    assert "BEGIN CERTIFICATE" in found["data"]["client-ca-file"]


def test_its_own_requests_are_reviewed(kubegate: Kubegate, admin: Client) -> None:
    """Delegated authentication and authorization of its own port."""
    token = kubegate.create(f"{NS}/default/serviceaccounts", {"metadata": {"name": "reads"}}) and _token(admin)
    review = admin.send(
        "POST",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        "authentication.k8s.io/v1",
        "TokenReview",
        ((1, meta()), (2, ((1, token),)), (3, ())),
    )
    assert review["status"]["user"]["username"] == "system:serviceaccount:default:reads"
    attributes = ((1, "/metrics"), (2, "get"))
    review = admin.send(
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        "authorization.k8s.io/v1",
        "SubjectAccessReview",
        ((1, meta()), (2, ((2, attributes), (3, "jane")))),
    )
    assert review["status"]["allowed"] is False


def _token(admin: Client) -> str:
    path = f"{NS}/default/serviceaccounts/reads/token"
    request = ((1, meta()), (2, ((4, 600),)))
    made = admin.send("POST", path, "authentication.k8s.io/v1", "TokenRequest", request)
    return str(made["status"]["token"])


def test_it_comes_to_lead(admin: Client) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    name = "kube-controller-manager"
    assert admin.ask("GET", f"{path}/{name}").status == 404

    def spec(renewed: int) -> tuple[Any, ...]:
        return (1, "host_1"), (2, 15), (3, time(1_800_000_000)), (4, ((1, renewed), (2, 5000))), (5, 0)

    lease = ((1, meta(name, "kube-system")), (2, spec(1_800_000_000)))
    made = admin.send("POST", path, "coordination.k8s.io/v1", "Lease", lease)
    assert made["spec"]["renewTime"] == "2027-01-15T08:00:00.000005Z"
    renewed = ((1, meta(of=made)), (2, spec(1_800_000_002)))
    again = admin.send("PUT", f"{path}/{name}", "coordination.k8s.io/v1", "Lease", renewed)
    assert again["spec"]["renewTime"] == "2027-01-15T08:00:02.000005Z"
    assert again["metadata"]["managedFields"][0]["manager"] == "kube-controller-manager"
    late = admin.ask("PUT", f"{path}/{name}", wrapped("coordination.k8s.io/v1", "Lease", renewed))
    assert late.status == 409


# ---------------------------------------------------------------------- informers
def test_an_informer_streams_its_first_list(kubegate: Kubegate, admin: Client) -> None:
    """WatchList: what is there, a bookmark that says so, then changes."""
    kubegate.create(f"{NS}/default/configmaps", {"metadata": {"name": "a"}})
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    events = admin.watch(f"{NS}/default/configmaps?{query}&timeoutSeconds=300")
    first, bookmark = next(events), next(events)
    assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")
    assert (bookmark["type"], bookmark["object"]["kind"]) == ("BOOKMARK", "ConfigMap")
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    kubegate.delete(f"{NS}/default/configmaps/a")
    assert next(events)["type"] == "DELETED"
    events.close()


def test_the_collectors_informer_sees_metadata_alone(kubegate: Kubegate, admin: Client) -> None:
    """The garbage collector watches metadata of everything; its decoder knows no other kind, not even in bookmarks."""
    secret = {"metadata": {"name": "a", "labels": LABELS}, "stringData": {"k": "v"}}
    kubegate.create(f"{NS}/default/secrets", secret)
    listed = admin.get("/api/v1/secrets?limit=500", accept=PARTIAL_LIST)
    assert listed["kind"] == "PartialObjectMetadataList"
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    events = admin.watch(f"/api/v1/secrets?{query}", accept=PARTIAL)
    found = [next(events) for _ in range(2)]
    events.close()
    for event in found:
        assert (event["object"]["kind"], event["object"]["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
        assert "data" not in event["object"]
    assert [event["type"] for event in found] == ["ADDED", "BOOKMARK"]
    assert found[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


# ---------------------------------------------------------------------- its work
def test_a_deployment_becomes_pods(kubegate: Kubegate, admin: Client) -> None:
    owner = deployment(kubegate)
    deployments = controller(kubegate, admin, "deployment-controller")
    labels = {**LABELS, "pod-template-hash": "5d8"}
    replicaset = (
        (1, meta("web-5d8", "default", labels=labels, owner=owner)),
        (2, ((1, 1), (2, selector(labels)), (3, pod_template(labels)), (4, 0))),
        (3, ((1, 0),)),
    )
    rs = deployments.send("POST", f"{APPS}/replicasets", "apps/v1", "ReplicaSet", replicaset)
    assert rs["spec"]["template"]["spec"]["containers"][0]["image"] == "i:1"
    accounts = controller(kubegate, admin, "service-account-controller")
    accounts.send("POST", f"{NS}/default/serviceaccounts", "v1", "ServiceAccount", ((1, meta("default", "default")),))
    replicasets = controller(kubegate, admin, "replicaset-controller")
    pod = ((1, meta("", "default", generate="web-5d8-", labels=labels, owner=rs)), (2, pod_spec()), (3, ()))
    made = replicasets.send("POST", PODS, "v1", "Pod", pod)
    assert made["metadata"]["ownerReferences"][0]["controller"] is True
    condition = ((1, "ReplicaFailure"), (2, "False"), (3, time(1_800_000_000)), (4, "R"), (5, "m"))
    status = (*replicaset[:1], (2, ()), (3, ((1, 1), (2, 1), (3, 1), (4, 0), (6, [condition]))))
    told = replicasets.send("PUT", f"{APPS}/replicasets/web-5d8/status", "apps/v1", "ReplicaSet", status)
    assert told["status"]["fullyLabeledReplicas"] == 1
    assert told["spec"] == rs["spec"]
    told = deployments.send(
        "PUT",
        f"{APPS}/deployments/web/status",
        "apps/v1",
        "Deployment",
        ((1, meta(of=owner)), (2, ()), (3, ((1, 1), (2, 1), (3, 1), (5, 1), (8, 0)))),
    )
    assert told["status"] == {
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "unavailableReplicas": 1, "collisionCount": 0,
    }  # fmt: skip
    name = made["metadata"]["name"]
    gone = wrapped("v1", "DeleteOptions", ((2, ((1, made["metadata"]["uid"]),)), (4, "Background")))
    assert replicasets.ask("DELETE", f"{PODS}/{name}", gone).status == 200
    assert replicasets.ask("GET", f"{PODS}/{name}").status in (403, 404)


def test_a_controller_may_do_its_own_work_alone(kubegate: Kubegate, admin: Client) -> None:
    deployments = controller(kubegate, admin, "deployment-controller")
    refused = deployments.ask("GET", f"{NS}/kube-system/secrets")
    assert (refused.status, refused.json["reason"]) == (403, "Forbidden")
    assert 'User "system:serviceaccount:kube-system:deployment-controller"' in refused.json["message"]


def test_a_job_is_counted(kubegate: Kubegate, admin: Client) -> None:
    kubegate.create(f"{NS}/default/serviceaccounts", {"metadata": {"name": "default"}})
    jobs = controller(kubegate, admin, "job-controller")
    path = "/apis/batch/v1/namespaces/default/jobs"
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    job = kubegate.create(path, {"metadata": {"name": "once"}, "spec": {"template": template}})
    labels = {"batch.kubernetes.io/job-name": "once"}
    finalizers = ["batch.kubernetes.io/job-tracking"]
    pod = (
        (1, meta("", "default", generate="once-", labels=labels, owner=job, finalizers=finalizers)),
        (2, ((2, [((1, "c"), (2, "i"))]), (3, "Never"))),
    )
    made = jobs.send("POST", PODS, "v1", "Pod", pod)
    counted = (
        (1, meta(of=job)),
        (3, ((2, time(1_800_000_000)), (4, 1), (8, ((1, [made["metadata"]["uid"]]),)), (9, 0), (11, 0))),
    )
    told = jobs.send("PUT", f"{path}/once/status", "batch/v1", "Job", counted)
    assert told["status"]["uncountedTerminatedPods"] == {"succeeded": [made["metadata"]["uid"]]}
    name = made["metadata"]["name"]
    freed = jobs.patch(f"{PODS}/{name}", {"metadata": {"$deleteFromPrimitiveList/finalizers": finalizers}})
    assert "finalizers" not in freed["metadata"]


def test_a_namespace_empties(kubegate: Kubegate, admin: Client) -> None:
    kubegate.create(NS, {"metadata": {"name": "team"}})
    kubegate.create(f"{NS}/team/configmaps", {"metadata": {"name": "a"}})
    kubegate.delete(f"{NS}/team")
    namespaces = controller(kubegate, admin, "namespace-controller")
    ending = namespaces.get(f"{NS}/team")
    assert ending["status"]["phase"] == "Terminating"
    options = json.dumps({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}).encode()
    emptied = namespaces.ask(
        "DELETE",
        f"{NS}/team/configmaps",
        options,
        accept=PARTIAL_LIST + ",application/json",
        content_type="application/json",
    )
    assert emptied.status == 200
    assert namespaces.get(f"{NS}/team/configmaps", accept=PARTIAL_LIST)["items"] == []
    condition = ((1, "NamespaceContentRemaining"), (2, "False"), (4, time(1_800_000_000)), (5, "R"), (6, "m"))
    told = namespaces.send(
        "PUT", f"{NS}/team/status", "v1", "Namespace",
        ((1, meta(of=ending)), (2, ((1, ["kubernetes"]),)), (3, ((1, "Terminating"), (2, [condition])))),
    )  # fmt: skip
    assert told["status"]["conditions"][0]["reason"] == "R"
    namespaces.send("PUT", f"{NS}/team/finalize", "v1", "Namespace", ((1, meta(of=told)), (2, ())))
    with pytest.raises(ApiError, match="not found"):
        kubegate.get(f"{NS}/team")


def test_tokens_and_authorities_fill(kubegate: Kubegate, admin: Client) -> None:
    kubegate.create(f"{NS}/default/serviceaccounts", {"metadata": {"name": "robot"}})
    annotations = {"kubernetes.io/service-account.name": "robot"}
    sort = "kubernetes.io/service-account-token"
    secret = kubegate.create(
        f"{NS}/default/secrets", {"metadata": {"name": "key", "annotations": annotations}, "type": sort}
    )
    filled = ((1, meta(of=secret)), *pairs(2, {"token": b"\x01\xff", "namespace": b"default"}), (3, sort))
    tokens = controller(kubegate, admin, "tokens-controller-by-admin")
    assert tokens.ask("PUT", f"{NS}/default/secrets/key", wrapped("v1", "Secret", filled)).status == 403
    told = admin.send("PUT", f"{NS}/default/secrets/key", "v1", "Secret", filled)
    assert base64.b64decode(told["data"]["token"]) == b"\x01\xff"
    publisher = controller(kubegate, admin, "root-ca-cert-publisher")
    authority = ((1, meta("kube-root-ca.crt", "default")), *pairs(2, {"ca.crt": "PEM"}))
    made = publisher.send("POST", f"{NS}/default/configmaps", "v1", "ConfigMap", authority)
    assert made["data"] == {"ca.crt": "PEM"}


def test_endpoints_and_slices(kubegate: Kubegate, admin: Client) -> None:
    service = {"metadata": {"name": "web"}, "spec": {"selector": LABELS, "ports": [{"port": 80}]}}
    owner = kubegate.create(f"{NS}/default/services", service)
    address = ((1, "10.1.0.1"), (2, ((1, "Pod"), (2, "default"), (3, "p"))), (4, "node-1"))
    endpoints = ((1, meta("web", "default")), (2, [((1, [address]), (3, [((1, ""), (2, 80), (3, "TCP"))]))]))
    made = controller(kubegate, admin, "endpoint-controller").send(
        "POST", f"{NS}/default/endpoints", "v1", "Endpoints", endpoints
    )
    assert made["subsets"][0]["addresses"][0]["targetRef"]["name"] == "p"
    endpoint = ((1, ["10.1.0.1"]), (2, ((1, True), (2, True), (3, False))), (6, "node-1"))
    found = (
        (1, meta("", "default", generate="web-", labels={"kubernetes.io/service-name": "web"}, owner=owner)),
        (2, [endpoint]),
        (3, [((1, ""), (2, "TCP"), (3, 8080))]),
        (4, "IPv4"),
    )
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    made = controller(kubegate, admin, "endpointslice-controller").send(
        "POST", path, "discovery.k8s.io/v1", "EndpointSlice", found
    )
    assert made["endpoints"][0]["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert made["ports"][0]["port"] == 8080


def test_events_of_both_groups(kubegate: Kubegate, admin: Client) -> None:
    owner = deployment(kubegate)
    about = ((1, "Deployment"), (2, "default"), (3, "web"), (4, owner["metadata"]["uid"]), (5, "apps/v1"))
    moment = time(1_800_000_000)
    old = (
        (1, meta("web.1", "default")), (2, about), (3, "ScalingReplicaSet"), (4, "Scaled up"),
        (5, ((1, "deployment-controller"),)), (6, moment), (7, moment), (8, 1), (9, "Normal"), (10, ()),
        (12, ""), (14, "deployment-controller"), (15, ""),
    )  # fmt: skip
    made = admin.send("POST", f"{NS}/default/events", "v1", "Event", old)
    assert (made["reason"], made["firstTimestamp"]) == ("ScalingReplicaSet", "2027-01-15T08:00:00Z")
    again = admin.patch(f"{NS}/default/events/web.1", {"count": 2, "lastTimestamp": "2027-01-15T08:00:09Z"})
    assert again["count"] == 2
    new = (
        (1, meta("web.2", "default")), (2, ((1, 1_800_000_000), (2, 1000))), (4, "kubegate.example/x"), (5, "x-1"),
        (6, "Binding"), (7, "Scheduled"), (8, about), (10, "text"), (11, "Normal"),
        (12, ()), (13, ()), (14, ()), (15, 0),
    )  # fmt: skip
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    made = admin.send("POST", path, "events.k8s.io/v1", "Event", new)
    assert (made["regarding"]["name"], made["note"], made["eventTime"]) == (
        "web",
        "text",
        "2027-01-15T08:00:00.000001Z",
    )


def test_a_certificate_is_approved_and_signed(kubegate: Kubegate, admin: Client) -> None:
    request = certificates.new_request(keys.generate(), certificates.Subject("jane", ("dev",)))
    pem = request.public_bytes(Encoding.PEM)
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"],
    }
    asked = kubegate.create(path, {"metadata": {"name": "jane"}, "spec": spec})
    approved = ((1, "Approved"), (2, "R"), (3, "m"), (4, time(1_800_000_000)), (6, "True"))
    told = admin.send(
        "PUT", f"{path}/jane/approval", "certificates.k8s.io/v1", "CertificateSigningRequest",
        ((1, meta(of=asked)), (3, ((1, [approved]),))),
    )  # fmt: skip
    assert told["status"]["conditions"][0]["type"] == "Approved"
    certificate = kubegate.ca.read_bytes()
    signer = controller(kubegate, admin, "certificate-controller")
    told = signer.send(
        "PUT", f"{path}/jane/status", "certificates.k8s.io/v1", "CertificateSigningRequest",
        ((1, meta(of=told)), (3, ((1, [approved]), (2, certificate)))),
    )  # fmt: skip
    assert base64.b64decode(told["status"]["certificate"]) == certificate


def test_other_statuses(kubegate: Kubegate, admin: Client) -> None:
    """Quotas, budgets, autoscalers, claims, nodes, revisions: one write of each kind that is left."""
    quota = kubegate.create(
        f"{NS}/default/resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "9"}}}
    )
    amounts = (*pairs(1, {"pods": ((1, "9"),)}), *pairs(2, {"pods": ((1, "2"),)}))
    told = controller(kubegate, admin, "resourcequota-controller").send(
        "PUT", f"{NS}/default/resourcequotas/q/status", "v1", "ResourceQuota", ((1, meta(of=quota)), (3, amounts))
    )
    assert told["status"] == {"hard": {"pods": "9"}, "used": {"pods": "2"}}

    path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    spec = {"minAvailable": 1, "selector": {"matchLabels": LABELS}}
    budget = kubegate.create(path, {"metadata": {"name": "b"}, "spec": spec})
    status = ((1, 1), *pairs(2, {"p": time(1_800_000_000)}), (3, 1), (4, 2), (5, 1), (6, 2))
    told = controller(kubegate, admin, "disruption-controller").send(
        "PUT", f"{path}/b/status", "policy/v1", "PodDisruptionBudget", ((1, meta(of=budget)), (3, status))
    )
    assert told["status"]["disruptedPods"] == {"p": "2027-01-15T08:00:00Z"}

    path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
    target = {"kind": "Deployment", "name": "web", "apiVersion": "apps/v1"}
    scaler = kubegate.create(path, {"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target}})
    told = controller(kubegate, admin, "horizontal-pod-autoscaler").send(
        "PUT", f"{path}/h/status", "autoscaling/v2", "HorizontalPodAutoscaler",
        ((1, meta(of=scaler)), (3, ((1, 1), (2, time(1_800_000_000)), (3, 1), (4, 2)))),
    )  # fmt: skip
    assert (told["status"]["desiredReplicas"], told["status"]["lastScaleTime"]) == (2, "2027-01-15T08:00:00Z")
    deployment(kubegate)
    scale = ((1, meta("web", "default")), (2, ((1, 2),)))
    told = admin.send("PUT", f"{APPS}/deployments/web/scale", "autoscaling/v1", "Scale", scale)
    assert told["spec"]["replicas"] == 2

    revision = ((1, meta("r", "default")), (2, ((1, b'{"spec":{}}'),)), (3, 1))
    told = controller(kubegate, admin, "daemon-set-controller").send(
        "POST", f"{APPS}/controllerrevisions", "apps/v1", "ControllerRevision", revision
    )
    assert told["data"] == {"spec": {}}

    size = tuple(pairs(1, {"storage": ((1, "1Gi"),)}))
    volume = (
        (1, meta("v")),
        (2, (*size, (2, ((3, ((1, "/data"), (2, ""))),)), (3, ["ReadWriteOnce"]), (5, "Delete"), (6, "fast"))),
    )
    binder = controller(kubegate, admin, "persistent-volume-binder")
    told = binder.send("POST", "/api/v1/persistentvolumes", "v1", "PersistentVolume", volume)
    assert told["spec"]["hostPath"] == {"path": "/data", "type": ""}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "fast"}
    claim = kubegate.create(f"{NS}/default/persistentvolumeclaims", {"metadata": {"name": "c"}, "spec": spec})
    status = ((1, "Bound"), (2, ["ReadWriteOnce"]), *pairs(3, {"storage": ((1, "1Gi"),)}))
    told = binder.send(
        "PUT", f"{NS}/default/persistentvolumeclaims/c/status", "v1", "PersistentVolumeClaim",
        ((1, meta(of=claim)), (3, status)),
    )  # fmt: skip
    assert told["status"]["capacity"] == {"storage": "1Gi"}

    node = kubegate.create("/api/v1/nodes", {"metadata": {"name": "n"}})
    nodes = controller(kubegate, admin, "node-controller")
    taint = ((1, "node.kubernetes.io/unreachable"), (2, ""), (3, "NoExecute"), (4, time(1_800_000_000)))
    told = nodes.send("PUT", "/api/v1/nodes/n", "v1", "Node", ((1, meta(of=node)), (2, ((5, [taint]),))))
    assert told["spec"]["taints"][0]["timeAdded"] == "2027-01-15T08:00:00Z"


def test_statuses_of_workloads(kubegate: Kubegate, admin: Client) -> None:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    sets = {"selector": {"matchLabels": LABELS}, "template": template}
    found = kubegate.create(f"{APPS}/statefulsets", {"metadata": {"name": "s"}, "spec": {"serviceName": "s", **sets}})
    status = ((1, 1), (2, 1), (3, 1), (4, 1), (6, "s-1"), (7, "s-1"), (9, 0), (11, 1))
    told = controller(kubegate, admin, "statefulset-controller").send(
        "PUT", f"{APPS}/statefulsets/s/status", "apps/v1", "StatefulSet", ((1, meta(of=found)), (3, status))
    )
    assert told["status"] == {
        "observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "currentReplicas": 1, "currentRevision": "s-1",
        "updateRevision": "s-1", "collisionCount": 0, "availableReplicas": 1,
    }  # fmt: skip
    found = kubegate.create(f"{APPS}/daemonsets", {"metadata": {"name": "d"}, "spec": sets})
    status = ((1, 2), (2, 0), (3, 2), (4, 1), (5, 1), (6, 2), (7, 1), (8, 1))
    told = controller(kubegate, admin, "daemon-set-controller").send(
        "PUT", f"{APPS}/daemonsets/d/status", "apps/v1", "DaemonSet", ((1, meta(of=found)), (3, status))
    )
    assert (told["status"]["desiredNumberScheduled"], told["status"]["numberMisscheduled"]) == (2, 0)
    path = "/apis/batch/v1/namespaces/default/cronjobs"
    job = {"spec": {"template": {"spec": {**template["spec"], "restartPolicy": "Never"}}}}
    found = kubegate.create(path, {"metadata": {"name": "c"}, "spec": {"schedule": "0 * * * *", "jobTemplate": job}})
    running = ((1, "Job"), (2, "default"), (3, "c-1"), (5, "batch/v1"))
    told = controller(kubegate, admin, "cronjob-controller").send(
        "PUT", f"{path}/c/status", "batch/v1", "CronJob",
        ((1, meta(of=found)), (3, ((1, [running]), (4, time(1_800_000_000))))),
    )  # fmt: skip
    assert told["status"]["active"][0]["name"] == "c-1"
    assert told["status"]["lastScheduleTime"] == "2027-01-15T08:00:00Z"
    path = f"{NS}/default/replicationcontrollers"
    found = kubegate.create(path, {"metadata": {"name": "r"}, "spec": {"selector": LABELS, "template": template}})
    told = controller(kubegate, admin, "replication-controller").send(
        "PUT", f"{path}/r/status", "v1", "ReplicationController", ((1, meta(of=found)), (3, ((1, 1), (3, 1))))
    )
    assert (told["status"]["replicas"], told["status"]["observedGeneration"]) == (1, 1)


def test_a_scheduler_binds(kubegate: Kubegate, admin: Client) -> None:
    """kube-scheduler speaks the same way, as system:kube-scheduler."""
    kubegate.create("/api/v1/nodes", {"metadata": {"name": "n"}})
    kubegate.create(f"{NS}/default/serviceaccounts", {"metadata": {"name": "default"}})
    pod = kubegate.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    target = ((1, "Node"), (3, "n"))
    bound = admin.send("POST", f"{PODS}/p/binding", "v1", "Binding", ((1, meta(of=pod)), (2, target)))
    assert bound["status"] == "Success"
    found = admin.get(f"{PODS}/p")
    assert found["spec"]["nodeName"] == "n"
    unready = ((1, "Ready"), (2, "False"), (3, ()), (4, time(1_800_000_000)), (5, "R"), (6, "m"))
    told = admin.send(
        "PUT", f"{PODS}/p/status", "v1", "Pod",
        ((1, meta(of=found)), (2, ()), (3, ((1, "Running"), (2, [unready]), (5, "10.0.0.9"), (6, "10.1.0.9")))),
    )  # fmt: skip
    assert (told["status"]["phase"], told["status"]["podIPs"]) == ("Running", [{"ip": "10.1.0.9"}])


@pytest.mark.parametrize("body", [b"k8s\x00", b"k8s\x00\x0a\xff", b"k8s\x00" + b"\xff" * 20, b"nonsense"])
def test_what_is_no_protobuf_is_a_bad_request(admin: Client, body: bytes) -> None:
    assert admin.ask("POST", f"{NS}/default/configmaps", body).status == 400
