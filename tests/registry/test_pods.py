"""Pods: what is filled in, what is refused, and what may change later."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kinds_world import KindsWorld, kinds_world, meta, pod

from kubegate.registry import goshape

QUALIFIED = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)

C = {"name": "c", "image": "i"}


@pytest.fixture
async def w() -> AsyncIterator[KindsWorld]:
    async with kinds_world() as found:
        yield found


async def test_a_pod_gets_the_defaults_of_its_kind(w: KindsWorld) -> None:
    made = await w.create("pods", pod(containers=[{"name": "c", "image": "example.org/web:1"}]))
    assert made["spec"] == {
        "containers": [
            {
                "name": "c",
                "image": "example.org/web:1",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent",
            }
        ],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert made["metadata"]["generation"] == 1


async def test_the_status_that_a_new_pod_brings_is_left_aside(w: KindsWorld) -> None:
    made = await w.create("pods", pod() | {"status": {"phase": "Running"}})
    assert made["status"]["phase"] == "Pending"


@pytest.mark.parametrize(
    ("image", "policy"), [("i", "Always"), ("i:latest", "Always"), ("i:1", "IfNotPresent"), ("h:5000/i", "Always")]
)
async def test_images_are_pulled_always_only_where_their_tag_moves(w: KindsWorld, image: str, policy: str) -> None:
    made = await w.create("pods", pod(containers=[{"name": "c", "image": image}]))
    assert made["spec"]["containers"][0]["imagePullPolicy"] == policy


async def test_limits_stand_for_requests_and_make_the_quality_of_service(w: KindsWorld) -> None:
    limits = {"cpu": "1", "memory": "1Gi"}
    made = await w.create("pods", pod(containers=[{"name": "c", "image": "i", "resources": {"limits": limits}}]))
    assert made["spec"]["containers"][0]["resources"]["requests"] == limits
    assert made["status"]["qosClass"] == "Guaranteed"


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}, "Burstable"),
        ({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}, "Burstable"),
    ],
)
async def test_resources_of_the_whole_pod_make_its_quality_of_service(
    w: KindsWorld, resources: dict[str, Any], quality: str
) -> None:
    made = await w.create("pods", pod(resources=resources))
    assert made["status"]["qosClass"] == quality


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        ({"containers": [{"image": "i"}]}, ["spec.containers[0].name: Required value"]),
        (
            {"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]},
            ['spec.containers[1].name: Duplicate value: "c"'],
        ),
        ({"restartPolicy": "Sometimes"},
         ['spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"']),
        (
            {"containers": [{**C, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]},
            ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
        ),
        (
            {"containers": [{**C, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]},
            ['spec.containers[0].volumeMounts[0].name: Not found: "v"'],
        ),
        (
            {"containers": [{**C, "ports": [{"containerPort": 70000}]}]},
            ["spec.containers[0].ports[0].containerPort: "
             "Invalid value: 70000: must be between 1 and 65535, inclusive"],
        ),
        ({"nodeSelector": {"x y": "z"}}, [f'spec.nodeSelector: Invalid value: "x y": {QUALIFIED}']),
    ],
)  # fmt: skip
async def test_what_a_pod_may_not_say(w: KindsWorld, spec: Any, texts: list[str]) -> None:
    assert await w.wrong(w.create("pods", pod(**spec))) == texts


async def test_a_running_pods_spec_may_hardly_change(w: KindsWorld) -> None:
    await w.create("pods", pod())
    changed = await w.patch("pods", "p", {"spec": {"containers": [{"name": "c", "image": "j"}]}})
    assert changed["metadata"]["generation"] == 2
    [text] = await w.wrong(w.patch("pods", "p", {"spec": {"hostname": "h"}}))
    assert text.startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
        "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
    )
    assert '\n- "Hostname": "",\n+ "Hostname": "h",\n' in text


async def test_only_the_status_subresource_changes_the_status(w: KindsWorld) -> None:
    await w.create("pods", pod())
    plain = await w.patch("pods", "p", {"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Running"}})
    assert plain["status"]["phase"] == "Pending"
    assert plain["metadata"]["generation"] == 1
    changed = await w.patch("pods", "p", {"spec": {"hostname": "h"}, "status": {"phase": "Running"}}, "status")
    assert changed["status"]["phase"] == "Running"
    assert "hostname" not in changed["spec"]


async def test_ephemeral_containers_are_added_but_not_taken_away(w: KindsWorld) -> None:
    await w.create("pods", pod())
    extra = {"name": "e", "image": "i"}
    added = await w.patch("pods", "p", {"spec": {"ephemeralContainers": [extra]}}, "ephemeralcontainers")
    assert [one["name"] for one in added["spec"]["ephemeralContainers"]] == ["e"]
    texts = await w.wrong(w.patch("pods", "p", {"spec": {"ephemeralContainers": []}}, "ephemeralcontainers"))
    assert texts == ['spec.ephemeralContainers: Forbidden: existing ephemeral containers "e" may not be removed\n']


async def test_a_resize_changes_resources_and_nothing_else(w: KindsWorld) -> None:
    def container(cpu: str, image: str = "i") -> list[Any]:
        return [{"name": "c", "image": image, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": "1"}}}]

    await w.create("pods", pod(containers=container("100m")))
    resized = await w.patch("pods", "p", {"spec": {"containers": container("200m", "other")}}, "resize")
    [found] = resized["spec"]["containers"]
    assert (found["image"], found["resources"]["requests"]) == ("i", {"cpu": "200m"})
    text = 'Invalid value: "2": must be less than or equal to cpu limit of 1'
    too_much = w.patch("pods", "p", {"spec": {"containers": container("2")}}, "resize")
    assert await w.wrong(too_much) == [f"spec.containers[0].resources.requests: {text}"]


async def test_init_containers_are_resized_too_unless_that_restarts_them(w: KindsWorld) -> None:
    def init(cpu: str, **more: Any) -> dict[str, Any]:
        amounts = {"requests": {"cpu": cpu}, "limits": {"cpu": "1"}}
        return {"spec": {"initContainers": [{"name": "i", "image": "i", "resources": amounts, **more}]}}

    await w.create("pods", pod(**init("100m")["spec"]))
    resized = await w.patch("pods", "p", init("200m"), "resize")
    assert resized["spec"]["initContainers"][0]["resources"]["requests"] == {"cpu": "200m"}
    restarting = init("300m", resizePolicy=[{"resourceName": "cpu", "restartPolicy": "RestartContainer"}])
    assert await w.wrong(w.patch("pods", "p", restarting, "resize")) == [
        'spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid value: "RestartContainer": '
        "must not be set to 'RestartContainer' for non-sidecar initContainers",
        "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer "
        "cannot be resized",
    ]


async def test_a_pods_own_amounts_are_resized_but_not_taken_away(w: KindsWorld) -> None:
    await w.create("pods", pod(resources={"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}))
    resized = await w.patch("pods", "p", {"spec": {"resources": {"limits": {"cpu": "3"}}}}, "resize")
    assert resized["spec"]["resources"]["limits"]["cpu"] == "3"
    assert await w.wrong(w.patch("pods", "p", {"spec": {"resources": {"limits": {"memory": None}}}}, "resize")) == [
        "spec.resources.limits: Forbidden: pod-level resource limits cannot be removed"
    ]


async def test_the_quality_of_service_goes_by_the_pods_own_amounts_first(w: KindsWorld) -> None:
    made = await w.create("pods", pod(resources={"limits": {"cpu": "2", "memory": "1Gi"}}))
    assert made["status"]["qosClass"] == "Guaranteed"
    containers = [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "500m"}}}]
    made = await w.create("pods", pod("q", containers, resources={"limits": {"cpu": "2", "memory": "1Gi"}}))
    assert made["status"]["qosClass"] == "Burstable"


async def test_a_rule_may_restart_the_whole_pod(w: KindsWorld) -> None:
    def restarting(action: str) -> list[Any]:
        rule = {"action": action, "exitCodes": {"operator": "In", "values": [1]}}
        return [{"name": "c", "image": "i", "restartPolicy": "Never", "restartPolicyRules": [rule]}]

    await w.create("pods", pod("p", restarting("RestartAllContainers")))
    assert await w.wrong(w.create("pods", pod("q", restarting("Reboot")))) == [
        'spec.containers[0].restartPolicyRules[0].action: Unsupported value: "Reboot": '
        'supported values: "Restart", "RestartAllContainers"'
    ]


async def test_a_binding_sets_the_node_once(w: KindsWorld) -> None:
    await w.create("pods", pod())
    labels = {"topology.kubernetes.io/zone": "z"}
    binding = {"metadata": {"name": "p", "labels": labels}, "target": {"kind": "Node", "name": "n"}}
    assert (await w.post("pods", "p", "binding", binding))["code"] == 201
    bound = w.get("pods", "p")
    assert bound["spec"]["nodeName"] == "n"
    assert bound["metadata"]["labels"].items() >= labels.items()
    assert [(one["type"], one["status"]) for one in bound["status"]["conditions"]] == [("PodScheduled", "True")]
    assert bound["metadata"]["generation"] == 1
    again = await w.refusal(w.post("pods", "p", "binding", binding))
    assert (again.code, again.reason) == (409, "Conflict")
    assert again.message == ('Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n"')


async def test_a_binding_is_for_the_pod_that_it_means_and_brings_its_labels(w: KindsWorld) -> None:
    await w.create("pods", pod())
    target = {"kind": "Node", "name": "n"}
    for wanted in ({"uid": "other"}, {"resourceVersion": "1"}):
        refused = await w.refusal(
            w.post("pods", "p", "binding", {"metadata": {"name": "p", **wanted}, "target": target})
        )
        assert refused.code == 409
        assert refused.message.startswith('Operation cannot be fulfilled on pods "p": StorageError: invalid object, ')
    said = {"name": "p", "labels": {"zone": "a"}, "annotations": {"by": "me"}}
    await w.post("pods", "p", "binding", {"metadata": said, "target": target})
    bound = w.get("pods", "p")["metadata"]
    assert (bound["labels"]["zone"], bound["annotations"]["by"]) == ("a", "me")


async def test_a_scheduled_pod_is_given_time_to_end(w: KindsWorld) -> None:
    await w.create("pods", pod(nodeName="n"))
    deleted = await w.delete("pods", "p")
    assert not deleted.gone
    marked = w.get("pods", "p")["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 30
    assert marked["deletionTimestamp"] > marked["creationTimestamp"]
    assert (await w.delete("pods", "p", gracePeriodSeconds=0)).gone


async def test_a_pod_that_runs_nowhere_goes_at_once(w: KindsWorld) -> None:
    await w.create("pods", pod())
    assert (await w.delete("pods", "p")).gone


async def test_a_finalizer_without_a_domain_is_refused(w: KindsWorld) -> None:
    obj = {**pod(), **meta("p", finalizers=["mine"])}
    text = 'Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified'
    assert await w.wrong(w.create("pods", obj)) == [f"metadata.finalizers[0]: {text}"]


async def test_warnings_tell_what_will_not_do_what_was_meant(w: KindsWorld) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    found = await w.warnings("pods", pod(containers=[{"name": "c", "image": "i", "env": env}]))
    assert found == [
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'
    ]


async def test_a_volume_from_a_repository_is_told_to_be_of_no_use(w: KindsWorld) -> None:
    found = await w.warnings("pods", pod(volumes=[{"name": "v", "gitRepo": {"repository": "r"}}]))
    assert found == ["spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"]


async def test_warnings_tell_of_paths_names_and_selectors_that_clash_or_are_missing(w: KindsWorld) -> None:
    items = [{"key": "a", "path": "a"}, {"key": "b", "path": "a/b/"}]
    names = {"downwardAPI": {"items": [{"path": "t", "fieldRef": {"fieldPath": "metadata.name"}}]}}
    secret = {"secret": {"name": "s", "items": [{"key": "k", "path": "t/u"}]}}
    ports = [{"name": "http", "containerPort": 1}]
    term = {"topologyKey": "zone"}
    unlike = {"key": "k", "operator": "In", "values": ["a b"]}
    required, preferred = (f"{one}DuringSchedulingIgnoredDuringExecution" for one in ("required", "preferred"))
    obj = pod(
        volumes=[
            {"name": "v", "configMap": {"name": "c", "items": items}},
            {"name": "w", "projected": {"sources": [names, secret]}},
        ],
        containers=[
            {"name": "a", "image": "i", "ports": ports},
            {"name": "b", "image": "i", "ports": [{"name": "http", "containerPort": 2}]},
        ],
        affinity={
            "nodeAffinity": {preferred: [{"weight": 1, "preference": {"matchExpressions": [unlike]}}]},
            "podAffinity": {required: [term], preferred: [{"weight": 1, "podAffinityTerm": term}]},
        },
        hostAliases=[{"ip": "fd00:0::1", "hostnames": ["h"]}],
    )
    found = await w.warnings("pods", obj)
    label, rest = found[0].split(" is invalid, ")
    assert rest.startswith("a valid label must be an empty string or consist of")
    nothing = "a null labelSelector results in matching no pod"
    first = "spec.containers[0].ports[0]"
    assert [label, *found[1:]] == [
        f"spec.affinity.nodeAffinity.{preferred}[0].preference.matchExpressions[0].values[0]: a b",
        'volume "v" (ConfigMap "c"): overlapping paths: "a/b" with "a"',
        'volume "w" (Projected): overlapping paths: "t/u" (Secret "s") with "t" (DownwardAPI)',
        f'spec.containers[1].ports[0]: duplicate port name "http" with {first}, '
        f"services and probes that select ports by name will use {first}",
        f"spec.affinity.podAffinity.{required}[0].labelSelector: {nothing}",
        f"spec.affinity.podAffinity.{preferred}[0].podAffinityTerm.labelSelector: {nothing}",
        'spec.hostAliases[0].ip: IPv6 address "fd00:0::1" should be in RFC 5952 canonical format ("fd00::1")',
    ]


async def test_a_probe_by_grpc_names_the_service_that_is_asked(w: KindsWorld) -> None:
    probe = {"grpc": {"port": 1}}
    made = await w.create("pods", pod(containers=[{"name": "c", "image": "i", "readinessProbe": probe}]))
    assert made["spec"]["containers"][0]["readinessProbe"]["grpc"] == {"port": 1, "service": ""}


@pytest.mark.parametrize("changed", [0, 2, 4])
def test_a_change_in_one_place_is_told_alike_however_large_the_spec_is(
    monkeypatch: pytest.MonkeyPatch, changed: int
) -> None:
    """In one that is too large to look for the shortest difference, too."""
    before = {"hostAliases": [{"ip": f"10.0.0.{number}"} for number in range(5)]}
    after = {"hostAliases": [*before["hostAliases"]]}
    after["hostAliases"][changed] = {"ip": "10.9.9.9"}
    told = goshape.diff(before, after, "PodSpec")
    assert told.startswith("@@ -") and told.count("\n-") == told.count("\n+") == 1
    monkeypatch.setattr(goshape, "_MOST_COMPARED", 0)
    assert goshape.diff(before, after, "PodSpec") == told
    assert goshape.diff(before, before, "PodSpec") == ""
