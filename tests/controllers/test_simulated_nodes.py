"""Simulated nodes over a registry where time stands: what is bound, runs, completes and goes, and what pods find."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from controllers_world import ControllersWorld, controllers_world
from hypothesis import given
from hypothesis import strategies as st

from kubegate.authentication.signing import TokenSigner
from kubegate.nodes import World, folders
from kubegate.nodes.simulation import Simulation
from kubegate.pki import keys
from kubegate.registry.internal import Internal

Object = dict[str, Any]


class Nodes:
    def __init__(self, world: ControllersWorld, folder: Path) -> None:
        self.world, self.folder = world, folder
        registry = world.registry
        options = SimpleNamespace(service_account_max_token_expiration=0, service_account_extend_token_expiration=True)
        signer = TokenSigner(keys.generate(), "https://issuer.example.org")
        registry.extensions["authentication"] = SimpleNamespace(
            signer=signer, api_audiences=("https://issuer.example.org",), options=options
        )
        self.nodes = World(
            registry.reader,
            lambda user, manager: Internal(registry, user, manager),
            world.clock,
            folder,
            lambda: ("127.0.0.1", 6443),
        )

    async def start(self, count: int = 2) -> Simulation:
        simulation = Simulation(self.nodes, count)
        await simulation.kubelet.look()
        for part in (simulation.machines, simulation.scheduler, simulation.kubelet):
            part.start()
            self.world.add(part)
        await self.world.settle()
        return simulation

    def volume(self, pod: str, volume: str) -> dict[str, bytes]:
        """The visible files of a volume."""
        folder = self.folder / self.world.must("pods", pod)["metadata"]["uid"] / "volumes" / volume
        paths = [Path(place, name) for place, _, names in os.walk(folder, followlinks=True) for name in names]
        found = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
        return {path: content for path, content in found.items() if not path.startswith("..")}


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with controllers_world() as world:
        yield Nodes(world, tmp_path / "pods")


def pod(name: str = "p", annotations: Object | None = None, **spec: Any) -> Object:
    metadata: Object = {"name": name}
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec}}


def conditions(obj: Object) -> dict[str, str]:
    return {one["type"]: one["status"] for one in obj["status"]["conditions"]}


def phase(found: Object) -> str:
    return str(found["status"]["phase"])


async def test_a_pod_is_bound_and_runs(nodes: Nodes) -> None:
    await nodes.start()
    world = nodes.world
    await world.create("pods", pod(initContainers=[{"name": "first", "image": "i:1"}]))
    found = world.must("pods", "p")
    assert found["spec"]["nodeName"] == "node-1"
    status = found["status"]
    assert (status["phase"], status["podIP"], status["hostIP"]) == ("Running", "10.128.1.2", "10.64.0.1")
    names = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    assert conditions(found) == dict.fromkeys(names, "True")
    assert status["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    assert status["containerStatuses"][0]["ready"]
    assert ("Scheduled", "Successfully assigned ns/p to node-1") in world.events()


async def test_nodes_are_ready_and_renew_their_leases(nodes: Nodes) -> None:
    await nodes.start(3)
    world = nodes.world
    assert world.names("nodes", "") == ["node-1", "node-2", "node-3"]
    lease = world.must("leases.coordination.k8s.io", "node-2", "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == "node-2"
    await world.advance(10)
    later = world.must("leases.coordination.k8s.io", "node-2", "kube-node-lease")
    assert later["spec"]["renewTime"] > lease["spec"]["renewTime"]
    assert conditions(world.must("nodes", "node-2", ""))["Ready"] == "True"


async def test_nodes_of_an_earlier_start_go_where_fewer_are_asked_for(tmp_path: Path) -> None:
    async with controllers_world() as world:
        before = Nodes(world, tmp_path / "pods")
        await before.start(3)
        await world.create("nodes", {"metadata": {"name": "real"}}, "")
        for name in ("a", "b", "c"):
            await world.create("pods", pod(name))
        world.stop()
        world.run("pod-garbage-collector-controller")
        again = Nodes(world, tmp_path / "pods")
        await again.start(1)
        assert world.names("nodes", "") == ["node-1", "real"]
        await world.advance(40)
        assert world.names("pods") == ["a"]
        assert [place.parent.name for place in (tmp_path / "pods").glob("*/pod.json")] == [
            world.must("pods", "a")["metadata"]["uid"]
        ]


async def test_a_pod_of_a_node_that_never_was_goes_too(nodes: Nodes) -> None:
    nodes.world.run("pod-garbage-collector-controller")
    await nodes.world.create("pods", pod(nodeName="nowhere"))
    await nodes.world.advance(39)
    assert nodes.world.names("pods") == ["p"]
    await nodes.world.advance(1)
    assert nodes.world.names("pods") == []


async def test_where_no_node_fits_the_pod_waits_and_says_why(nodes: Nodes) -> None:
    await nodes.start()
    world = nodes.world

    def taint(node: Object) -> None:
        node["spec"]["taints"] = [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]

    def cordon(node: Object) -> None:
        node["spec"]["unschedulable"] = True

    await world.update("nodes", "node-1", taint, "")
    await world.update("nodes", "node-2", cordon, "")
    await world.create("pods", pod())
    told = next(one for one in world.must("pods", "p")["status"]["conditions"] if one["type"] == "PodScheduled")
    assert (told["status"], told["reason"]) == ("False", "Unschedulable")
    assert told["message"] == (
        "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to "
        "deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    assert ("FailedScheduling", told["message"]) in world.events()
    await world.create("pods", pod("bears", tolerations=[{"key": "gpu", "operator": "Exists"}]))
    assert world.must("pods", "bears")["spec"]["nodeName"] == "node-1"
    await world.update("nodes", "node-2", lambda node: node["spec"].pop("unschedulable"), "")
    assert phase(world.must("pods", "p")) == "Running"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, "1 node(s) didn't match Pod's node affinity/selector"),
        ({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "9"}}}]}, "1 Insufficient cpu"),
    ],
)
async def test_selectors_and_requests_are_looked_at(nodes: Nodes, spec: Object, message: str) -> None:
    await nodes.start(1)
    await nodes.world.create("pods", pod(**spec))
    assert any(message in text for reason, text in nodes.world.events() if reason == "FailedScheduling")
    assert phase(nodes.world.must("pods", "p")) == "Pending"


async def test_pods_of_other_schedulers_and_behind_gates_are_left_alone(nodes: Nodes) -> None:
    await nodes.start()
    await nodes.world.create("pods", pod("other", schedulerName="mine"))
    await nodes.world.create("pods", pod("gated", schedulingGates=[{"name": "example.org/wait"}]))
    for name in ("other", "gated"):
        assert "nodeName" not in nodes.world.must("pods", name)["spec"]


async def test_a_job_completes_and_a_failing_one_fails(nodes: Nodes) -> None:
    world = nodes.world
    world.run("job-controller")
    await nodes.start()
    for name, notes in (("good", {}), ("bad", {"simulated.kubegate/exit-code": "3"})):
        template = pod(restartPolicy="Never")["spec"]
        spec = {"template": {"metadata": {"annotations": notes}, "spec": template}, "backoffLimit": 0}
        await world.create("jobs.batch", {"metadata": {"name": name}, "spec": spec})
    good, bad = world.must("jobs.batch", "good"), world.must("jobs.batch", "bad")
    assert (good["status"]["succeeded"], conditions(good)["Complete"]) == (1, "True")
    assert (bad["status"]["failed"], conditions(bad)["Failed"]) == (1, "True")
    codes = {
        found["metadata"]["labels"]["job-name"]: found["status"]["containerStatuses"][0]["state"]["terminated"]
        for found in world.registry.reader.list("pods", "ns")
    }
    assert (codes["good"]["exitCode"], codes["bad"]["exitCode"]) == (0, 3)


async def test_a_pod_that_crashes_is_started_again_later_each_time(nodes: Nodes) -> None:
    await nodes.start()
    world = nodes.world
    await world.create("pods", pod(annotations={"simulated.kubegate/exit-code": "1"}))
    status = world.must("pods", "p")["status"]["containerStatuses"][0]
    assert (status["state"]["waiting"]["reason"], status["restartCount"]) == ("CrashLoopBackOff", 0)
    await world.advance(9)
    assert world.must("pods", "p")["status"]["containerStatuses"][0]["restartCount"] == 0
    await world.advance(1)
    status = world.must("pods", "p")["status"]["containerStatuses"][0]
    assert (status["state"]["waiting"]["reason"], status["restartCount"]) == ("CrashLoopBackOff", 1)
    assert status["lastState"]["terminated"]["exitCode"] == 1


async def test_a_deleted_pod_ends_and_its_folder_with_it(nodes: Nodes) -> None:
    await nodes.start()
    world = nodes.world
    await world.create("pods", pod())
    folder = nodes.folder / world.must("pods", "p")["metadata"]["uid"]
    assert (folder / "pod.json").is_file()
    await world.delete("pods", "p")
    assert world.get("pods", "p") is None
    assert not folder.exists()
    assert ("Killing", "Stopping container c") in world.events()
    await world.create("pods", pod("next"))
    assert world.must("pods", "next")["status"]["podIP"] == "10.128.1.2"


async def test_a_finalizer_keeps_a_deleted_pod_that_has_ended(nodes: Nodes) -> None:
    await nodes.start()
    world = nodes.world
    kept = pod()
    kept["metadata"]["finalizers"] = ["example.org/keep"]
    await world.create("pods", kept)
    await world.delete("pods", "p")
    assert phase(world.must("pods", "p")) == "Failed"
    await world.update("pods", "p", lambda found: found["metadata"].pop("finalizers"))
    assert world.get("pods", "p") is None


async def test_a_deadline_ends_a_pod(nodes: Nodes) -> None:
    await nodes.start()
    await nodes.world.create("pods", pod(activeDeadlineSeconds=30))
    await nodes.world.advance(29)
    assert phase(nodes.world.must("pods", "p")) == "Running"
    await nodes.world.advance(1)
    assert nodes.world.must("pods", "p")["status"]["reason"] == "DeadlineExceeded"


async def test_daemonsets_and_rollouts_finish(nodes: Nodes) -> None:
    world = nodes.world
    world.run("deployment-controller", "replicaset-controller", "daemonset-controller")
    await nodes.start(3)
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod()["spec"]}
    selector = {"matchLabels": {"app": "web"}}
    meta = {"metadata": {"name": "web"}}
    await world.create(
        "deployments.apps", {**meta, "spec": {"replicas": 4, "selector": selector, "template": template}}
    )
    assert world.must("deployments.apps", "web")["status"]["availableReplicas"] == 4

    def newer(found: Object) -> None:
        found["spec"]["template"]["spec"]["containers"][0]["image"] = "i:2"

    await world.update("deployments.apps", "web", newer)
    status = world.must("deployments.apps", "web")["status"]
    assert (status["updatedReplicas"], status["availableReplicas"], status["replicas"]) == (4, 4, 4)
    await world.create("daemonsets.apps", {**meta, "spec": {"selector": selector, "template": template}})
    assert world.must("daemonsets.apps", "web")["status"]["numberAvailable"] == 3


async def test_pods_leave_a_node_whose_taint_they_do_not_bear(nodes: Nodes) -> None:
    world = nodes.world
    world.run("taint-eviction-controller")
    await nodes.start(1)
    bears = {"key": "broken", "operator": "Exists", "effect": "NoExecute"}
    await world.create("pods", pod("never"))
    await world.create("pods", pod("always", tolerations=[bears]))
    await world.create("pods", pod("a-while", tolerations=[{**bears, "tolerationSeconds": 60}]))

    def taint(node: Object) -> None:
        node["spec"]["taints"] = [{"key": "broken", "effect": "NoExecute"}]

    await world.update("nodes", "node-1", taint, "")
    assert world.names("pods") == ["a-while", "always"]
    assert ("TaintManagerEviction", "Marking for deletion Pod ns/never") in world.events()
    await world.advance(59)
    assert world.names("pods") == ["a-while", "always"]
    await world.advance(1)
    assert world.names("pods") == ["always"]


async def test_a_taint_that_is_taken_away_in_time_drives_nobody_away(nodes: Nodes) -> None:
    world = nodes.world
    world.run("taint-eviction-controller")
    await nodes.start(1)
    bears = {"key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}
    await world.create("pods", pod(tolerations=[bears]))

    def taint(node: Object) -> None:
        node["spec"]["taints"] = [{"key": "broken", "effect": "NoExecute"}]

    await world.update("nodes", "node-1", taint, "")
    await world.advance(59)
    await world.update("nodes", "node-1", lambda node: node["spec"].pop("taints"), "")
    assert ("TaintManagerEviction", "Cancelling deletion of Pod ns/p") in world.events()
    await world.advance(100)
    assert phase(world.must("pods", "p")) == "Running"


async def test_pods_of_a_node_that_is_gone_go_after_a_while(nodes: Nodes) -> None:
    world = nodes.world
    world.run("pod-garbage-collector-controller")
    await nodes.start(2)
    await world.create("pods", pod())
    where = world.must("pods", "p")["spec"]["nodeName"]
    await world.delete("nodes", where, "")
    folder = nodes.folder / world.must("pods", "p")["metadata"]["uid"]
    await world.advance(39)
    assert world.names("pods") == ["p"]
    await world.advance(1)
    assert world.names("pods") == []
    assert not folder.exists()
    assert world.names("nodes", "") == ["node-2"]  # it does not come back by itself


# ---------------------------------------------------------------------- volumes
def projected(audience: str = "", seconds: int = 3607) -> Object:
    token: Object = {"path": "token", "expirationSeconds": seconds}
    if audience:
        token["audience"] = audience
    sources = [
        {"serviceAccountToken": token},
        {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "trust/ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    return {"name": "all", "projected": {"sources": sources}}


def claims(token: bytes) -> Object:
    body = token.split(b".")[1]
    found: Object = json.loads(base64.urlsafe_b64decode(body + b"=="))
    return found


async def test_a_pod_finds_its_token_authority_and_labels(nodes: Nodes) -> None:
    await nodes.start()
    world = nodes.world
    await world.create("serviceaccounts", {"metadata": {"name": "builder"}})
    await world.create("configmaps", {"metadata": {"name": "ca"}, "data": {"ca.crt": "PEM"}})
    asked = pod(serviceAccountName="builder", volumes=[projected("vault")])
    asked["metadata"]["labels"] = {"app": "web", "tier": "b"}
    await world.create("pods", asked)
    found = nodes.volume("p", "all")
    assert found["labels"] == b'app="web"\ntier="b"'
    assert found["trust/ca.crt"] == b"PEM"
    said = claims(found["token"])
    assert (said["aud"], said["sub"]) == (["vault"], "system:serviceaccount:ns:builder")
    uid = world.must("pods", "p")["metadata"]["uid"]
    assert said["kubernetes.io"]["pod"] == {"name": "p", "uid": uid}
    assert said["kubernetes.io"]["node"]["name"] == "node-1"
    for path in [nodes.folder / uid, *(nodes.folder / uid).rglob("*")]:
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path


async def test_a_token_is_written_anew_before_it_ends(nodes: Nodes) -> None:
    await nodes.start()
    world = nodes.world
    await world.create("serviceaccounts", {"metadata": {"name": "default"}})
    await world.create("configmaps", {"metadata": {"name": "ca"}, "data": {"ca.crt": "PEM"}})
    await world.create("pods", pod(serviceAccountName="default", volumes=[projected("vault", 600)]))
    first = nodes.volume("p", "all")["token"]
    await world.advance(479)
    assert nodes.volume("p", "all")["token"] == first
    await world.advance(1)
    second = nodes.volume("p", "all")["token"]
    assert claims(second)["exp"] == claims(first)["exp"] + 480


async def test_secrets_and_configmaps_are_awaited_and_followed(nodes: Nodes) -> None:
    await nodes.start()
    world = nodes.world
    volumes = [{"name": "s", "secret": {"secretName": "keys"}}, {"name": "scratch", "emptyDir": {}}]
    await world.create("pods", pod(volumes=volumes))
    waiting = world.must("pods", "p")["status"]
    assert waiting["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    assert ("FailedMount", 'MountVolume.SetUp failed for volume "s" : secret "keys" not found') in world.events()
    data = {"a": base64.b64encode(b"1").decode(), "b": base64.b64encode(b"2").decode()}
    await world.create("secrets", {"metadata": {"name": "keys"}, "data": data})
    assert phase(world.must("pods", "p")) == "Running"
    assert nodes.volume("p", "s") == {"a": b"1", "b": b"2"}
    scratch = nodes.folder / world.must("pods", "p")["metadata"]["uid"] / "volumes" / "scratch"
    (scratch / "mine").write_text("kept")
    await world.update("secrets", "keys", lambda found: found.update(data={"a": base64.b64encode(b"3").decode()}))
    assert nodes.volume("p", "s") == {"a": b"3"}
    assert (scratch / "mine").read_text() == "kept"


async def test_variables_are_resolved(nodes: Nodes) -> None:
    await nodes.start()
    world = nodes.world
    env = [
        {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "colour"}}},
        {"name": "TEXT", "value": "$(COLOUR) on $(WHERE) for $$(X) $(NOBODY)"},
    ]
    container = {"name": "c", "image": "i", "env": env, "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}]}
    await world.create("pods", pod(containers=[container]))
    state = world.must("pods", "p")["status"]["containerStatuses"][0]["state"]
    assert state["waiting"] == {"reason": "CreateContainerConfigError", "message": 'configmap "c" not found'}
    await world.create("configmaps", {"metadata": {"name": "c"}, "data": {"colour": "red"}})
    told = json.loads((nodes.folder / world.must("pods", "p")["metadata"]["uid"] / "pod.json").read_bytes())
    assert told["containers"]["c"]["env"] == {
        "P_colour": "red",
        "WHERE": "node-1",
        "CPUS": "8",
        "COLOUR": "red",
        "TEXT": "red on node-1 for $(X) $(NOBODY)",
    }


async def test_a_start_finds_what_another_has_left(nodes: Nodes) -> None:
    await nodes.start()
    world = nodes.world
    await world.create("pods", pod())
    before = world.must("pods", "p")
    stray = nodes.folder / "11111111-2222-3333-4444-555555555555"
    (stray / "volumes").mkdir(parents=True)
    again = Nodes(world, nodes.folder)
    await again.start()
    assert world.must("pods", "p") == before
    assert not stray.exists()


# ---------------------------------------------------------------------- folders
@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "..data", "..x/y", "a//b", "a/./b", "", ".", "a\0b"])
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    """CVE-2017-1002102 and CVE-2021-25741 are of paths of volumes that lead out of them."""
    with pytest.raises(folders.UnsafePath):
        folders.write(tmp_path / "v", {"good": b"1", path: b"2"})
    assert list(tmp_path.rglob("*")) == []


PARTS = st.sampled_from(["a", "b", "..", ".", "", "..data", "c.d", "x" * 300, "\0", "..."])


@given(st.dictionaries(st.lists(PARTS, min_size=1, max_size=4).map("/".join), st.binary(max_size=8), max_size=4))
def test_whatever_the_paths_nothing_outside_is_touched(tmp_path_factory: Any, files: dict[str, bytes]) -> None:
    top = tmp_path_factory.mktemp("folders")
    (top / "beside").write_bytes(b"kept")
    try:
        folders.write(top / "volume", files)
    except (folders.UnsafePath, OSError):
        pass
    else:
        assert {path: (top / "volume" / path).read_bytes() for path in files} == files
    assert sorted(os.listdir(top)) in (["beside"], ["beside", "volume"])
    assert (top / "beside").read_bytes() == b"kept"


def test_links_that_a_command_left_are_not_followed(tmp_path: Path) -> None:
    """Whoever runs in the pod may put links where files were.

    CVE-2017-1002101, CVE-2017-1002102, CVE-2021-25741.
    """
    outside = tmp_path / "outside"
    outside.mkdir()
    volume = tmp_path / "v"
    folders.write(volume, {"a": b"1", "d/b": b"2"})
    (volume / "..data").unlink()
    (volume / "..data").symlink_to(outside)
    (volume / "a").unlink()
    (volume / "a").symlink_to(outside / "a")
    folders.write(volume, {"a": b"3", "d/b": b"4"})
    assert (volume / "a").read_bytes() == b"3"
    assert list(outside.iterdir()) == []
    (tmp_path / "w").symlink_to(outside)
    with pytest.raises(OSError):
        folders.write(tmp_path / "w", {"a": b"1"})
    assert list(outside.iterdir()) == []
