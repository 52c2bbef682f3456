"""Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs and ReplicationControllers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kinds_world import NAMESPACE, KindsWorld, context, kinds_world, meta, pod, template

from kubegate.api import clone
from kubegate.registry.batch import cron

SELECTOR = {"matchLabels": {"a": "b"}}
NO_MATCH = "`selector` does not match template `labels`"


@pytest.fixture
async def w() -> AsyncIterator[KindsWorld]:
    async with kinds_world() as found:
        yield found


def workload(name: str = "d", **spec: Any) -> dict[str, Any]:
    return {**meta(name), "spec": {"selector": SELECTOR, "template": template(), **spec}}


def job(name: str = "j", **spec: Any) -> dict[str, Any]:
    return {**meta(name), "spec": {"template": {"spec": pod(restartPolicy="Never")["spec"]}, **spec}}


async def test_a_deployment_rolls_out_by_quarters(w: KindsWorld) -> None:
    made = await w.create("deployments.apps", workload())
    spec = made["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (10, 600)
    assert "enableServiceLinks" not in spec["template"]["spec"]
    assert made["status"] == {}


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        (
            {"template": {**template(), "metadata": {"labels": {"z": "1", "b": "2"}}}},
            [f'spec.template.metadata.labels: Invalid value: {{"b":"2","z":"1"}}: {NO_MATCH}'],
        ),
        (
            {"selector": None},
            [
                "spec.selector: Required value",
                f'spec.template.metadata.labels: Invalid value: {{"a":"b"}}: {NO_MATCH}',
            ],
        ),
        (
            {"selector": {"matchLabels": {"a": "c"}}},
            [f'spec.template.metadata.labels: Invalid value: {{"a":"b"}}: {NO_MATCH}'],
        ),
        (
            {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}},
            ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
        ),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}},
            ["spec.strategy.rollingUpdate.maxUnavailable: "
             'Invalid value: "0%": may not be 0 when `maxSurge` is 0'],
        ),
        (
            {"progressDeadlineSeconds": 5, "minReadySeconds": 5},
            ["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
        ),
        (
            {"template": {**template(), "spec": pod(restartPolicy="Never")["spec"]}},
            ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'],
        ),
    ],
)  # fmt: skip
async def test_what_a_deployment_may_not_say(w: KindsWorld, spec: Any, texts: list[str]) -> None:
    found = await w.wrong(w.create("deployments.apps", workload(**spec)))
    assert [text for text in found if text in texts] == texts


async def test_a_deployments_selector_does_not_change(w: KindsWorld) -> None:
    await w.create("deployments.apps", workload())
    change = {"spec": {"selector": {"matchLabels": {"c": "d"}}}}
    assert await w.wrong(w.patch("deployments.apps", "d", change)) == [
        f'spec.template.metadata.labels: Invalid value: {{"a":"b"}}: {NO_MATCH}',
        'spec.selector: Invalid value: {"matchLabels":{"a":"b","c":"d"}}: field is immutable',
    ]


async def test_generations_of_a_deployment_count_its_annotations_too(w: KindsWorld) -> None:
    await w.create("deployments.apps", workload())
    labelled = await w.patch("deployments.apps", "d", {"metadata": {"labels": {"x": "y"}}})
    assert labelled["metadata"]["generation"] == 1
    annotated = await w.patch("deployments.apps", "d", {"metadata": {"annotations": {"x": "y"}}})
    assert annotated["metadata"]["generation"] == 2


async def test_what_is_wrong_with_a_changed_replica_set_is_told_twice(w: KindsWorld) -> None:
    await w.create("replicasets.apps", workload())
    text = "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    error = await w.refusal(w.patch("replicasets.apps", "d", {"spec": {"replicas": -1}}))
    assert error.details is not None
    assert len(error.details["causes"]) == 2
    assert error.message == f'ReplicaSet.apps "d" is invalid: {text}'


async def test_a_stateful_set_changes_in_few_fields(w: KindsWorld) -> None:
    made = await w.create("statefulsets.apps", workload(serviceName="s"))
    assert made["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert made["status"] == {"replicas": 0, "availableReplicas": 0}
    await w.patch("statefulsets.apps", "d", {"spec": {"replicas": 2}})
    [text] = await w.wrong(w.patch("statefulsets.apps", "d", {"spec": {"serviceName": "t"}}))
    assert text.startswith("spec: Forbidden: updates to statefulset spec for fields other than 'replicas'")


async def test_claims_of_a_stateful_set_are_volumes_of_its_pods(w: KindsWorld) -> None:
    container = {"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}
    spec: dict[str, Any] = {"template": template(containers=[container])}
    texts = await w.wrong(w.create("statefulsets.apps", workload(**spec)))
    assert texts == ['spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data"']
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    made = await w.create("statefulsets.apps", workload(**spec, volumeClaimTemplates=[claim]))
    [found] = made["spec"]["volumeClaimTemplates"]
    assert (found["kind"], found["apiVersion"], found["status"]) == (
        "PersistentVolumeClaim",
        "v1",
        {"phase": "Pending"},
    )


async def test_a_daemon_set_counts_its_templates_generations(w: KindsWorld) -> None:
    key = "deprecated.daemonset.template.generation"
    made = await w.create("daemonsets.apps", workload())
    assert made["metadata"]["annotations"] == {key: "1"}
    same = await w.patch("daemonsets.apps", "d", {"spec": {"minReadySeconds": 1}})
    assert same["metadata"]["annotations"] == {key: "1"}
    other = await w.patch("daemonsets.apps", "d", {"spec": {"template": {"metadata": {"labels": {"x": "y"}}}}})
    assert other["metadata"]["annotations"] == {key: "2"}


async def test_a_job_finds_its_pods_by_its_own_uid(w: KindsWorld) -> None:
    made = await w.create("jobs.batch", job())
    uid = made["metadata"]["uid"]
    labels = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": uid,
        "job-name": "j",
    }
    assert made["spec"]["template"]["metadata"]["labels"] == labels
    assert made["metadata"]["labels"] == labels
    assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert (made["spec"]["completions"], made["spec"]["parallelism"], made["spec"]["backoffLimit"]) == (1, 1, 6)


async def test_a_jobs_pods_must_be_meant_to_end(w: KindsWorld) -> None:
    texts = await w.wrong(w.create("jobs.batch", {**meta("j"), "spec": {"template": {"spec": pod()["spec"]}}}))
    assert texts == ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"']


async def test_what_is_settled_in_a_job_is_shown_in_go_s_own_form(w: KindsWorld) -> None:
    found = await w.wrong(w.create("jobs.batch", job(successPolicy={"rules": [{"succeededCount": 1}]})))
    wrong = 'spec.successPolicy: Invalid value: {"Rules":[{"SucceededIndexes":null,"SucceededCount":1}]}: requires '
    assert [text for text in found if text.startswith(wrong)]
    policy = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]}
    made = await w.create("jobs.batch", job(podFailurePolicy=policy))
    changed = clone(made)
    changed["spec"]["podFailurePolicy"]["rules"][0]["action"] = "Ignore"
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    found = await w.wrong(w.update("jobs.batch", changed))
    codes = '"OnExitCodes":{"ContainerName":null,"Operator":"In","Values":[1]},"OnPodConditions":null'
    rules = f'{{"Rules":[{{"Action":"Ignore",{codes}}}]}}'
    assert f"spec.podFailurePolicy: Invalid value: {rules}: field is immutable" in found
    [template] = [text for text in found if text.startswith("spec.template: ")]
    assert template.startswith('spec.template: Invalid value: {"labels":{"batch.kubernetes.io/controller-uid":"')
    assert '"Spec":{"Volumes":null,"InitContainers":null,"Containers":[{"Name":"c","Image":"other"' in template


async def test_a_condition_of_a_failure_policy_is_meant_to_hold(w: KindsWorld) -> None:
    policy = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
    wanted = [{"type": "DisruptionTarget", "status": "True"}]
    made = await w.create("jobs.batch", job(podFailurePolicy=policy))
    assert made["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"] == wanted
    inner = job(podFailurePolicy=policy)["spec"]
    body = {"metadata": {"name": "c"}, "spec": {"schedule": "@daily", "jobTemplate": {"spec": inner}}}
    spec = (await w.create("cronjobs.batch", body))["spec"]["jobTemplate"]["spec"]
    assert spec["podFailurePolicy"]["rules"][0]["onPodConditions"] == wanted


async def test_a_suspended_job_may_still_be_sent_elsewhere(w: KindsWorld) -> None:
    await w.create("jobs.batch", job(suspend=True))
    change = {"spec": {"template": {"spec": {"nodeSelector": {"zone": "a"}}}}}
    await w.patch("jobs.batch", "j", change)
    await w.patch("jobs.batch", "j", {"spec": {"suspend": False}})
    change["spec"]["template"]["spec"]["nodeSelector"]["zone"] = "b"
    [text] = await w.wrong(w.patch("jobs.batch", "j", change))
    assert text.startswith("spec.template: Invalid value: ")
    assert text.endswith(": field is immutable")


async def test_the_status_of_a_job_does_not_go_back(w: KindsWorld) -> None:
    await w.create("jobs.batch", job())
    await w.patch("jobs.batch", "j", {"status": {"failed": 2, "active": 1}}, "status")
    texts = await w.wrong(w.patch("jobs.batch", "j", {"status": {"failed": 1}}, "status"))
    assert texts == ["status.failed: Invalid value: 1: cannot decrease the failed counter"]


@pytest.mark.parametrize("schedule", ["0 0 * * *", "*/5 1-3 1,15 jan-mar MON", "@daily", "@every 1h30m", "? ? * * 0/2"])
def test_schedules_that_can_be_read(schedule: str) -> None:
    cron.check(schedule)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("@never", "unrecognized descriptor: @never"),
    ],
)
async def test_schedules_that_cannot_be_read(w: KindsWorld, schedule: str, text: str) -> None:
    cronjob = {**meta("c"), "spec": {"schedule": schedule, "jobTemplate": {"spec": job()["spec"]}}}
    shown = f'spec.schedule: Invalid value: "{schedule}": {text}'
    assert await w.wrong(w.create("cronjobs.batch", cronjob)) == [shown]


async def test_a_cron_job_has_a_short_name_and_a_known_time_zone(w: KindsWorld) -> None:
    spec = {"schedule": "@daily", "jobTemplate": {"spec": job()["spec"]}, "timeZone": "Nowhere/Land"}
    name = "c" * 53
    assert await w.wrong(w.create("cronjobs.batch", {**meta(name), "spec": spec})) == [
        'spec.timeZone: Invalid value: "Nowhere/Land": unknown time zone Nowhere/Land',
        f'metadata.name: Invalid value: "{name}": must be no more than 52 characters',
    ]
    made = await w.create("cronjobs.batch", {**meta("c"), "spec": spec | {"timeZone": "Europe/Paris"}})
    assert made["spec"]["concurrencyPolicy"] == "Allow"
    assert (made["spec"]["successfulJobsHistoryLimit"], made["spec"]["failedJobsHistoryLimit"]) == (3, 1)


async def test_a_replication_controller_takes_labels_from_its_template(w: KindsWorld) -> None:
    made = await w.create("replicationcontrollers", {**meta("r"), "spec": {"template": template()}})
    assert made["spec"]["selector"] == {"a": "b"}
    assert made["metadata"]["labels"] == {"a": "b"}


async def test_fields_of_features_that_are_off_are_left_out(w: KindsWorld) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
    spec = template(schedulingGroup={"podGroupName": "g"})
    made = await w.create("statefulsets.apps", workload(updateStrategy=rolling, template=spec))
    assert made["spec"]["updateStrategy"]["rollingUpdate"] == {"partition": 0}
    assert "schedulingGroup" not in made["spec"]["template"]["spec"]


async def test_the_resources_of_a_suspended_job_may_change_while_no_pod_runs(w: KindsWorld) -> None:
    def asking(cpu: str, image: str = "i") -> dict[str, Any]:
        containers = [{"name": "c", "image": image, "resources": {"requests": {"cpu": cpu}}}]
        return {"template": {"spec": {**pod(restartPolicy="Never")["spec"], "containers": containers}}}

    await w.create("jobs.batch", {**meta("j"), "spec": {"suspend": True, **asking("1")}})
    changed = await w.patch("jobs.batch", "j", {"spec": asking("2")})
    assert changed["spec"]["template"]["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "2"}}
    [text] = await w.wrong(w.patch("jobs.batch", "j", {"spec": asking("2", "other")}))
    assert text.startswith('spec.template.spec: Invalid value: {"Volumes":null,')
    assert text.endswith(": field is immutable")
    status = {"startTime": "2024-01-01T00:00:00Z", "active": 1}
    await w.patch("jobs.batch", "j", {"status": status}, "status")
    [text] = await w.wrong(w.patch("jobs.batch", "j", {"spec": asking("3")}))
    assert text.startswith("spec.template: Invalid value: ")
    condition = {"type": "Suspended", "status": "True"}
    await w.patch("jobs.batch", "j", {"status": {"active": None, "conditions": [condition]}}, "status")
    await w.patch("jobs.batch", "j", {"spec": asking("3")})


@pytest.mark.parametrize("kind", ["jobs.batch", "replicationcontrollers"])
async def test_pods_outlive_jobs_and_replication_controllers_unless_a_delete_says_otherwise(
    w: KindsWorld, kind: str
) -> None:
    obj = job() if kind == "jobs.batch" else {**meta("j"), "spec": {"selector": {"a": "b"}, "template": template()}}
    await w.create(kind, obj)
    await w.delete(kind, "j")
    assert w.get(kind, "j")["metadata"]["finalizers"] == ["orphan"]
    await w.delete(kind, "j", propagationPolicy="Foreground")
    assert w.get(kind, "j")["metadata"]["finalizers"] == ["foregroundDeletion"]
    await w.delete(kind, "j")
    assert w.get(kind, "j")["metadata"]["finalizers"] == ["foregroundDeletion"]
    await w.delete(kind, "j", propagationPolicy="Background")
    assert (await w.refusal(w.delete(kind, "j"))).code == 404


async def test_events_go_at_once_whatever_is_said_of_their_dependents(w: KindsWorld) -> None:
    about = {"kind": "Pod", "name": "p", "namespace": NAMESPACE}
    for kind in ("events", "events.events.k8s.io"):
        for policy in ("Foreground", "Orphan"):
            await w.create("events", {**meta("e"), "involvedObject": about})
            await w.delete(kind, "e", propagationPolicy=policy)
            assert (await w.refusal(w.delete("events", "e"))).code == 404


async def test_who_deletes_a_job_without_a_word_on_its_pods_is_warned(w: KindsWorld) -> None:
    jobs, cronjobs = w.resource("jobs.batch"), w.resource("cronjobs.batch")
    text = (
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them "
        "or set propagationPolicy=Orphan to suppress this warning"
    )
    for resource, options, told in (
        (jobs, {}, [text]),
        (jobs, {"orphanDependents": False}, []),
        (jobs, {"propagationPolicy": "Orphan"}, []),
        (cronjobs, {}, []),
    ):
        ctx = context()
        await w.refusal(w.registry.delete(resource, NAMESPACE, "nope", options, ctx))
        assert list(ctx.trace.warnings) == told
    ctx = context()
    for name in "ab":
        await w.create("jobs.batch", job(name))
    entries = [w.registry.entry(jobs, NAMESPACE, name) for name in "ab"]
    await w.registry.delete_collection(jobs, entries, {}, ctx)
    assert list(ctx.trace.warnings) == [text]
