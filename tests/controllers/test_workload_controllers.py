"""Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs and CronJobs, where a test plays the kubelet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_world import ControllersWorld, controllers_world

from kubegate.admission import Attributes
from kubegate.api.status import forbidden
from kubegate.controllers import schedules
from kubegate.controllers.deploymentstatus import scaled
from kubegate.controllers.objects import controller_reference
from kubegate.controllers.templates import template_hash

Object = dict[str, Any]


@pytest.fixture
async def world() -> AsyncIterator[ControllersWorld]:
    async with controllers_world() as found:
        found.run(
            "deployment-controller",
            "replicaset-controller",
            "statefulset-controller",
            "daemonset-controller",
            "job-controller",
            "cronjob-controller",
            "ttl-after-finished-controller",
            "garbage-collector-controller",
        )
        yield found


def template(image: str = "i:1", **spec: Any) -> Object:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def deployment(replicas: int = 2, **spec: Any) -> Object:
    selector = {"matchLabels": {"app": "web"}}
    return {
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": selector, "template": template(), **spec},
    }


def job(**spec: Any) -> Object:
    return {"metadata": {"name": "once"}, "spec": {"template": template(restartPolicy="Never"), **spec}}


def image(name: str) -> Any:
    def change(found: Object) -> None:
        found["spec"]["template"]["spec"]["containers"][0]["image"] = name

    return change


def conditions(obj: Object) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in obj["status"]["conditions"]}


async def all_ready(world: ControllersWorld) -> None:
    for _ in range(20):
        pending = [pod for pod in world.registry.reader.list("pods", "ns") if pod["status"]["phase"] == "Pending"]
        if not pending:
            return
        for pod in pending:
            if world.get("pods", pod["metadata"]["name"]) is not None:
                await world.ready(pod["metadata"]["name"])
    raise AssertionError("there are always more pods")


def test_a_template_has_the_hash_that_kubernetes_gives_it() -> None:
    spec = {
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
        "automountServiceAccountToken": False,
        "securityContext": {},
        "schedulerName": "default-scheduler",
    }
    found = {"metadata": {"labels": {"app": "web"}}, "spec": spec}
    assert template_hash(found) == "5886bd5c49"
    assert template_hash(found, 0) != template_hash(found)


async def test_a_deployment_makes_a_replica_set_that_makes_pods(world: ControllersWorld) -> None:
    await world.create("deployments.apps", deployment())
    [name] = world.names("replicasets.apps")
    assert name.startswith("web-")
    assert len(world.names("pods")) == 2
    found = world.must("deployments.apps", "web")
    assert found["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "1"}
    assert found["status"]["unavailableReplicas"] == 2
    assert conditions(found) == {
        "Available": ("False", "MinimumReplicasUnavailable"),
        "Progressing": ("True", "ReplicaSetUpdated"),
    }
    assert ("ScalingReplicaSet", f"Scaled up replica set {name} from 0 to 2") in world.events()


async def test_a_rollout_never_has_too_few_available_pods_and_ends_complete(world: ControllersWorld) -> None:
    await world.create("deployments.apps", deployment(4))
    await all_ready(world)
    assert conditions(world.must("deployments.apps", "web"))["Progressing"] == ("True", "NewReplicaSetAvailable")
    await world.update("deployments.apps", "web", image("i:2"))
    assert world.must("deployments.apps", "web")["status"]["availableReplicas"] == 3
    await all_ready(world)
    found = world.must("deployments.apps", "web")
    assert found["status"]["updatedReplicas"] == found["status"]["availableReplicas"] == 4
    assert conditions(found)["Progressing"] == ("True", "NewReplicaSetAvailable")
    sizes = sorted(one["spec"]["replicas"] for one in world.registry.reader.list("replicasets.apps"))
    assert sizes == [0, 4]


async def test_going_back_to_an_old_template_takes_its_replica_set_with_a_new_revision(world: ControllersWorld) -> None:
    await world.create("deployments.apps", deployment(1))
    [first] = world.names("replicasets.apps")
    await world.update("deployments.apps", "web", image("i:2"))
    await world.update("deployments.apps", "web", image("i:1"))
    annotations = world.must("replicasets.apps", first)["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/revision"] == "3"
    assert annotations["deployment.kubernetes.io/revision-history"] == "1"
    assert len(world.names("replicasets.apps")) == 2


async def test_scaling_is_no_new_revision(world: ControllersWorld) -> None:
    await world.create("deployments.apps", deployment(1))
    await world.update("deployments.apps", "web", lambda found: found["spec"].update(replicas=3))
    assert len(world.names("pods")) == 3
    await world.update("deployments.apps", "web", lambda found: found["spec"].update(replicas=0))
    assert world.names("pods") == []
    assert len(world.names("replicasets.apps")) == 1


async def test_recreate_waits_for_the_last_old_pod(world: ControllersWorld) -> None:
    await world.create("deployments.apps", deployment(1, strategy={"type": "Recreate"}))
    [pod] = world.names("pods")
    await world.update("pods", pod, lambda found: found["metadata"].update(finalizers=["example.org/hold"]))
    await world.update("deployments.apps", "web", image("i:2"))
    assert world.names("pods") == [pod]
    await world.update("pods", pod, lambda found: found["metadata"].update(finalizers=[]))
    [new] = world.names("pods")
    assert new != pod


async def test_a_rollout_that_takes_too_long_says_so(world: ControllersWorld) -> None:
    await world.create("deployments.apps", deployment(1, progressDeadlineSeconds=60))
    await world.advance(62)
    found = world.must("deployments.apps", "web")
    assert conditions(found)["Progressing"] == ("False", "ProgressDeadlineExceeded")


async def test_old_replica_sets_beyond_the_limit_are_forgotten(world: ControllersWorld) -> None:
    await world.create("deployments.apps", deployment(1, revisionHistoryLimit=1))
    for number in range(2, 6):
        await all_ready(world)
        await world.update("deployments.apps", "web", image(f"i:{number}"))
    await all_ready(world)
    assert len(world.names("replicasets.apps")) == 2


async def test_a_replica_set_replaces_a_lost_pod_and_lets_go_one_with_other_labels(world: ControllersWorld) -> None:
    await world.create("deployments.apps", deployment(1))
    [pod] = world.names("pods")
    await world.update("pods", pod, lambda found: found["metadata"].update(labels={"app": "other"}))
    assert len(world.names("pods")) == 2
    assert not world.must("pods", pod)["metadata"].get("ownerReferences")
    [other] = [name for name in world.names("pods") if name != pod]
    await world.delete("pods", other)
    assert len(world.names("pods")) == 2


async def test_deleting_a_deployment_takes_all_that_it_made(world: ControllersWorld) -> None:
    await world.create("deployments.apps", deployment())
    await world.delete("deployments.apps", "web", propagationPolicy="Background")
    assert world.names("pods") == world.names("replicasets.apps") == []


async def test_a_stateful_set_makes_its_pods_one_after_the_other(world: ControllersWorld) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    spec = {"serviceName": "db", "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}]}
    await world.create("statefulsets.apps", {**deployment(2, **spec), "metadata": {"name": "db"}})
    assert world.names("pods") == ["db-0"]
    await world.ready("db-0")
    assert world.names("pods") == ["db-0", "db-1"]
    assert world.names("persistentvolumeclaims") == ["data-db-0", "data-db-1"]
    labels = world.must("pods", "db-1")["metadata"]["labels"]
    assert labels["apps.kubernetes.io/pod-index"] == "1"
    assert labels["controller-revision-hash"] in world.names("controllerrevisions.apps")
    await world.ready("db-1")
    assert world.must("statefulsets.apps", "db")["status"]["readyReplicas"] == 2


async def test_claims_of_a_stateful_set_go_with_the_pod_or_the_set_that_its_policy_names(
    world: ControllersWorld,
) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    spec = {
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        "podManagementPolicy": "Parallel",
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
    }
    await world.create("statefulsets.apps", {**deployment(2, **spec), "metadata": {"name": "db"}})

    def owners() -> list[str]:
        claims = world.registry.reader.list("persistentvolumeclaims", "ns")
        return [one["name"] for claim in claims for one in claim["metadata"].get("ownerReferences") or ()]

    assert owners() == ["db", "db"]
    texts = [one["message"] for one in world.registry.reader.list("events", "ns")]
    assert "create Claim data-db-0 Pod db-0 in StatefulSet db success" in texts

    await world.update("statefulsets.apps", "db", lambda found: found["spec"].update(replicas=1))
    assert world.names("persistentvolumeclaims") == ["data-db-0"]

    keeping = {"whenDeleted": "Retain", "whenScaled": "Retain"}
    await world.update(
        "statefulsets.apps", "db", lambda found: found["spec"].update(persistentVolumeClaimRetentionPolicy=keeping)
    )
    await world.ready("db-0")
    assert owners() == []


async def test_a_stateful_set_whose_pods_are_refused_says_what_there_is(
    world: ControllersWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Object] = []

    async def refuse_the_first(attributes: Attributes) -> None:
        if attributes.resource.resource == "pods":
            told.append(world.must("statefulsets.apps", "db").get("status") or {})
            if len(told) == 1:
                raise forbidden("", "pods", "db-0", "not now")

    monkeypatch.setattr(world.registry.admission, "admit", refuse_the_first)
    await world.create("statefulsets.apps", {**deployment(1), "metadata": {"name": "db"}})
    assert "observedGeneration" not in told[0]
    assert (told[1]["observedGeneration"], told[1]["replicas"]) == (1, 0)
    assert told[1]["updateRevision"].startswith("db-")


async def test_a_stateful_set_that_shrinks_waits_for_what_is_not_available(world: ControllersWorld) -> None:
    await world.create("statefulsets.apps", {**deployment(3), "metadata": {"name": "db"}})
    for name in ("db-0", "db-1", "db-2"):
        await world.ready(name)
    for name in ("db-1", "db-2"):
        await world.status("pods", name, {"conditions": [{"type": "Ready", "status": "False"}]})
    await world.update("statefulsets.apps", "db", lambda found: found["spec"].update(replicas=1))
    assert world.names("pods") == ["db-0", "db-1", "db-2"], "db-1 might be needed to move what db-2 has"
    await world.ready("db-1")
    assert world.names("pods") == ["db-0"]


async def test_an_ended_pod_of_a_stateful_set_is_replaced(world: ControllersWorld) -> None:
    await world.create("statefulsets.apps", {**deployment(1), "metadata": {"name": "db"}})
    first = world.must("pods", "db-0")["metadata"]["uid"]
    await world.status("pods", "db-0", {"phase": "Failed"})
    assert world.must("pods", "db-0")["metadata"]["uid"] != first
    texts = [one["message"] for one in world.registry.reader.list("events", "ns")]
    assert "delete Pod db-0 in StatefulSet db successful" in texts


async def test_a_daemon_set_follows_the_nodes_that_take_its_pods(world: ControllersWorld) -> None:
    found = deployment()
    del found["spec"]["replicas"]
    await world.create("daemonsets.apps", found)
    assert world.names("pods") == []
    await world.create("nodes", {"metadata": {"name": "a"}}, "")
    taint = {"key": "mine", "effect": "NoSchedule"}
    await world.create("nodes", {"metadata": {"name": "b"}, "spec": {"taints": [taint]}}, "")
    assert len(world.names("pods")) == 1
    assert world.must("daemonsets.apps", "web")["status"]["desiredNumberScheduled"] == 1
    # Who is there already stays where no new ones may come.
    await world.update("nodes", "a", lambda node: node["spec"].update(taints=[taint]), "")
    status = world.must("daemonsets.apps", "web")["status"]
    assert (len(world.names("pods")), status["desiredNumberScheduled"], status["numberMisscheduled"]) == (1, 0, 1)
    await world.update("nodes", "a", lambda node: node["spec"].pop("taints"), "")
    await world.delete("nodes", "a", "")
    assert world.names("pods") == []


async def test_a_daemon_set_looks_at_the_affinity_of_its_pods(world: ControllersWorld) -> None:
    term = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    found = deployment(template=template(affinity={"nodeAffinity": required}))
    del found["spec"]["replicas"]
    await world.create("daemonsets.apps", found)
    await world.create("nodes", {"metadata": {"name": "a"}}, "")
    assert world.names("pods") == []
    await world.create("nodes", {"metadata": {"name": "b", "labels": {"disk": "fast"}}}, "")
    assert len(world.names("pods")) == 1


async def daemon_set(world: ControllersWorld, nodes: int, **rolling: Any) -> None:
    """`web` with ready pods on so many nodes."""
    for number in range(nodes):
        await world.create("nodes", {"metadata": {"name": f"n{number}"}}, "")
    found = deployment()
    del found["spec"]["replicas"]
    found["spec"]["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    await world.create("daemonsets.apps", found)
    for name in world.names("pods"):
        await world.ready(name)


def images(world: ControllersWorld) -> list[str]:
    return sorted(pod["spec"]["containers"][0]["image"] for pod in world.registry.reader.list("pods"))


async def new_image(world: ControllersWorld, image: str) -> None:
    await world.update(
        "daemonsets.apps", "web", lambda found: found["spec"]["template"]["spec"]["containers"][0].update(image=image)
    )


async def test_a_daemon_set_replaces_as_many_pods_at_a_time_as_may_be_unavailable(world: ControllersWorld) -> None:
    await daemon_set(world, 5, maxUnavailable="40%")
    old = images(world)[0]
    await new_image(world, "two")
    assert images(world) == sorted([old] * 3 + ["two"] * 2)
    await world.ready(next(p["metadata"]["name"] for p in world.registry.reader.list("pods") if _image(p) == "two"))
    assert images(world).count("two") == 3
    status = world.must("daemonsets.apps", "web")["status"]
    assert (status["updatedNumberScheduled"], status["numberAvailable"], status["numberUnavailable"]) == (3, 3, 2)


async def test_a_surging_daemon_set_has_a_new_pod_before_the_old_one_goes(world: ControllersWorld) -> None:
    await daemon_set(world, 2, maxSurge=1, maxUnavailable=0)
    old = images(world)[0]
    await world.advance(1)  # the older of two pods on a node is the one that counts
    await new_image(world, "two")
    assert images(world) == sorted([old, old, "two"])
    assert world.must("daemonsets.apps", "web")["status"]["numberAvailable"] == 2
    for _ in range(2):
        waiting = [pod for pod in world.registry.reader.list("pods") if _image(pod) == "two" and not _ready(pod)]
        await world.ready(waiting[0]["metadata"]["name"])
    assert images(world) == ["two", "two"]
    status = world.must("daemonsets.apps", "web")["status"]
    assert (status["updatedNumberScheduled"], status["numberReady"]) == (2, 2)


async def test_ended_pods_of_a_daemon_set_are_told_of_and_replaced_each_time_later(world: ControllersWorld) -> None:
    await daemon_set(world, 1)
    for waits in (0, 1):
        [name] = world.names("pods")
        await world.status("pods", name, {"phase": "Failed"})
        if waits:
            assert world.names("pods") == [name]
            await world.advance(waits)
        text = f"Found failed daemon pod ns/{name} on node n0, will try to kill it"
        assert ("FailedDaemonPod", text) in world.events()
    [name] = world.names("pods")
    await world.status("pods", name, {"phase": "Succeeded"})
    text = f"Found succeeded daemon pod ns/{name} on node n0, will try to delete it"
    assert ("SucceededDaemonPod", text) in world.events()
    assert world.names("pods") != [name]


def _image(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def _ready(pod: Object) -> bool:
    return any(one["type"] == "Ready" for one in pod["status"].get("conditions") or ())


async def test_a_job_is_complete_when_its_pod_succeeded_and_was_counted_once(world: ControllersWorld) -> None:
    await world.create("jobs.batch", job())
    [pod] = world.names("pods")
    assert world.must("pods", pod)["metadata"]["finalizers"] == ["batch.kubernetes.io/job-tracking"]
    assert world.must("jobs.batch", "once")["status"]["active"] == 1
    await world.status("pods", pod, {"phase": "Succeeded"})
    status = world.must("jobs.batch", "once")["status"]
    assert (status["succeeded"], status["uncountedTerminatedPods"]) == (1, {})
    assert [one["type"] for one in status["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    assert not world.must("pods", pod)["metadata"].get("finalizers")
    assert ("Completed", "Job completed") in world.events()


async def test_a_job_fails_when_more_pods_failed_than_it_bears(world: ControllersWorld) -> None:
    await world.create("jobs.batch", job(backoffLimit=1))
    for _ in range(2):
        [pod] = [one for one in world.registry.reader.list("pods") if one["status"]["phase"] == "Pending"]
        await world.status("pods", pod["metadata"]["name"], {"phase": "Failed"})
        await world.advance(30)
    found = world.must("jobs.batch", "once")
    assert found["status"]["failed"] == 2
    assert conditions(found)["Failed"] == ("True", "BackoffLimitExceeded")


async def test_an_indexed_job_runs_each_index(world: ControllersWorld) -> None:
    await world.create("jobs.batch", job(completionMode="Indexed", completions=3, parallelism=2))
    for _ in range(3):
        running = [one for one in world.registry.reader.list("pods") if one["status"]["phase"] == "Pending"]
        await world.status("pods", running[0]["metadata"]["name"], {"phase": "Succeeded"})
    assert world.must("jobs.batch", "once")["status"]["completedIndexes"] == "0-2"


async def test_a_suspended_job_has_no_pods_until_it_is_resumed(world: ControllersWorld) -> None:
    await world.create("jobs.batch", job(suspend=True))
    assert world.names("pods") == []
    assert conditions(world.must("jobs.batch", "once"))["Suspended"] == ("True", "JobSuspended")
    await world.update("jobs.batch", "once", lambda found: found["spec"].update(suspend=False))
    assert len(world.names("pods")) == 1
    assert conditions(world.must("jobs.batch", "once"))["Suspended"] == ("False", "JobResumed")


async def test_a_deleted_jobs_pods_are_not_held_by_their_finalizer(world: ControllersWorld) -> None:
    await world.create("jobs.batch", job())
    await world.delete("jobs.batch", "once", propagationPolicy="Background")
    assert world.names("pods") == []


async def test_a_finished_job_goes_after_its_time(world: ControllersWorld) -> None:
    await world.create("jobs.batch", job(ttlSecondsAfterFinished=60))
    await world.status("pods", world.names("pods")[0], {"phase": "Succeeded"})
    await world.advance(59)
    assert world.names("jobs.batch") == ["once"]
    await world.advance(2)
    assert world.names("jobs.batch") == []


async def test_a_cron_job_makes_a_job_each_time_it_is_due(world: ControllersWorld) -> None:
    spec = {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": template(restartPolicy="Never")}}}
    await world.create("cronjobs.batch", {"metadata": {"name": "often"}, "spec": spec})
    assert world.names("jobs.batch") == []
    await world.advance(301)
    [name] = world.names("jobs.batch")
    assert name == f"often-{int(world.clock.time // 300 * 5)}"
    status = world.must("cronjobs.batch", "often")["status"]
    assert [one["name"] for one in status["active"]] == [name]
    await world.delete("jobs.batch", name, propagationPolicy="Background")
    assert "active" not in world.must("cronjobs.batch", "often")["status"]
    assert ("MissingJob", f"Active job went missing: {name}") in world.events()


async def test_a_job_made_by_hand_in_the_name_of_a_cron_job_is_not_one_of_its_own(world: ControllersWorld) -> None:
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template(restartPolicy="Never")}}}
    owner = await world.create("cronjobs.batch", {"metadata": {"name": "often"}, "spec": spec})
    made = job()
    made["metadata"]["ownerReferences"] = [controller_reference("batch/v1", "CronJob", owner)]
    await world.create("jobs.batch", made)
    assert "active" not in (world.must("cronjobs.batch", "often").get("status") or {})
    assert ("UnexpectedJob", "Saw a job that the controller did not create or forgot: once") in world.events()
    await world.status("pods", world.names("pods")[0], {"phase": "Succeeded"})
    assert "lastSuccessfulTime" in world.must("cronjobs.batch", "often")["status"]


@pytest.mark.parametrize(
    ("schedule", "zone", "after", "due"),
    [
        ("0 0 * * *", None, "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"),
        ("30 8-10/2 * * mon-fri", None, "2026-01-02T10:31:00+00:00", "2026-01-05T08:30:00+00:00"),
        ("0 0 13 * fri", None, "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"),
        ("0 9 1 jan *", "Europe/Berlin", "2026-01-01T00:00:00+00:00", "2026-01-01T08:00:00+00:00"),
        ("@hourly", None, "2026-01-01T00:59:59+00:00", "2026-01-01T01:00:00+00:00"),
        ("@every 1h30m", None, "2026-01-01T00:00:00+00:00", "2026-01-01T01:30:00+00:00"),
    ],
)
def test_a_schedule_comes_due(schedule: str, zone: str | None, after: str, due: str) -> None:
    from kubegate.api.clock import parse_rfc3339

    assert schedules.parse(schedule, zone).after(parse_rfc3339(after)) == parse_rfc3339(due)


def test_a_day_that_never_comes_is_given_up() -> None:
    assert schedules.parse("0 0 30 2 *").after(0.0) is None


def test_a_share_of_very_many_digits_is_none() -> None:
    assert scaled("25%", 10, up=True) == 3
    assert scaled("9" * 5000 + "%", 10, up=True) == scaled("9" * 500 + "%", 10, up=False) == 0
