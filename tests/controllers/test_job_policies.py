"""What ends a Job but enough successes: its podFailurePolicy, limits for each index, its successPolicy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_world import ControllersWorld, controllers_world

Object = dict[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"


@pytest.fixture
async def world() -> AsyncIterator[ControllersWorld]:
    async with controllers_world() as made:
        await made.client.create("namespaces", "", {"metadata": {"name": "ns"}})
        made.run("job-controller", "garbage-collector-controller")
        yield made


def job(**spec: Any) -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}
    return {"metadata": {"name": "once"}, "spec": {"template": {"spec": pod}, **spec}}


def exit_codes(action: str, *values: int, operator: str = "In", **more: str) -> Object:
    return {"action": action, "onExitCodes": {"operator": operator, "values": list(values), **more}}


def on_condition(action: str, sort: str) -> Object:
    return {"action": action, "onPodConditions": [{"type": sort, "status": "True"}]}


def ended(phase: str, code: int) -> Object:
    state = {"terminated": {"exitCode": code}}
    container = {"name": "main", "image": "busybox", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"phase": phase, "containerStatuses": [container]}


def waiting(world: ControllersWorld) -> list[Object]:
    """Pods that have not ended, in order of their indexes."""
    pods = [one for one in world.registry.reader.list("pods") if one["status"]["phase"] == "Pending"]
    return sorted(pods, key=lambda pod: int(pod["metadata"].get("annotations", {}).get(INDEX, 0)))


async def end(world: ControllersWorld, pod: Object, phase: str = "Failed", code: int = 1) -> str:
    name: str = pod["metadata"]["name"]
    await world.status("pods", name, ended(phase, code))
    return name


def status(world: ControllersWorld) -> Object:
    found: Object = world.must("jobs.batch", "once")["status"]
    return found


def told(world: ControllersWorld) -> list[tuple[str, str]]:
    return [(one["type"], one["reason"]) for one in status(world).get("conditions", ())]


async def test_an_exit_code_fails_the_whole_job(world: ControllersWorld) -> None:
    rules = [exit_codes("Ignore", 7), exit_codes("FailJob", 42, containerName="main")]
    await world.create("jobs.batch", job(parallelism=2, completions=2, podFailurePolicy={"rules": rules}))
    first, second = waiting(world)
    name = await end(world, first, code=42)
    assert told(world) == [("FailureTarget", "PodFailurePolicy"), ("Failed", "PodFailurePolicy")]
    message = f"Container main for pod ns/{name} failed with exit code 42 matching FailJob rule at index 1"
    assert [one["message"] for one in status(world)["conditions"]] == [message] * 2
    assert status(world)["failed"] == 2, "whatever runs when a Job fails has failed with it"
    assert ("PodFailurePolicy", message) in world.events()
    assert world.get("pods", second["metadata"]["name"]) is None


async def test_a_condition_of_a_pod_fails_the_whole_job(world: ControllersWorld) -> None:
    await world.create("jobs.batch", job(podFailurePolicy={"rules": [on_condition("FailJob", "ConfigIssue")]}))
    [pod] = waiting(world)
    name = pod["metadata"]["name"]
    await world.status("pods", name, {"phase": "Failed", "conditions": [{"type": "ConfigIssue", "status": "True"}]})
    message = f"Pod ns/{name} has condition ConfigIssue matching FailJob rule at index 0"
    assert status(world)["conditions"][-1]["message"] == message


async def test_failures_that_are_passed_over_do_not_count(world: ControllersWorld) -> None:
    rules = [exit_codes("Ignore", 7), exit_codes("Count", 8)]
    await world.create("jobs.batch", job(backoffLimit=0, podFailurePolicy={"rules": rules}))
    await end(world, waiting(world)[0], code=7)
    await world.advance(11)
    assert "failed" not in status(world)
    await end(world, waiting(world)[0], code=8)
    assert told(world)[-1] == ("Failed", "BackoffLimitExceeded")


async def test_a_deleted_pod_is_replaced_when_it_has_failed_where_the_policy_says_so(world: ControllersWorld) -> None:
    await world.create("jobs.batch", job(podReplacementPolicy="Failed"))
    [pod] = waiting(world)
    name = pod["metadata"]["name"]
    await world.delete("pods", name)
    assert (status(world)["terminating"], world.names("pods")) == (1, [name])
    await end(world, pod)
    await world.advance(11)
    assert (status(world)["failed"], len(world.names("pods"))) == (1, 1)
    assert name not in world.names("pods")


async def test_each_index_has_a_limit_of_its_own(world: ControllersWorld) -> None:
    spec = {"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 1}
    await world.create("jobs.batch", job(**spec))
    assert [pod["metadata"]["annotations"][FAILURES] for pod in waiting(world)] == ["0", "0"]
    assert status(world)["failedIndexes"] == ""
    await end(world, waiting(world)[0])
    assert len(waiting(world)) == 1, "an index waits, too"
    await world.advance(11)
    again = waiting(world)[0]["metadata"]["annotations"]
    assert (again[INDEX], again[FAILURES]) == ("0", "1")
    await end(world, waiting(world)[0])
    assert status(world)["failedIndexes"] == "0"
    await end(world, waiting(world)[0], "Succeeded", 0)
    assert (status(world)["completedIndexes"], status(world)["failed"]) == ("1", 2)
    assert told(world) == [("FailureTarget", "FailedIndexes"), ("Failed", "FailedIndexes")]


async def test_a_rule_gives_up_one_index_and_another_only_notes_the_failure(world: ControllersWorld) -> None:
    rules = [exit_codes("FailIndex", 42), exit_codes("Ignore", 7)]
    spec = {"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 5}
    await world.create("jobs.batch", job(**spec, podFailurePolicy={"rules": rules}))
    first, second = waiting(world)
    await end(world, first, code=42)
    assert status(world)["failedIndexes"] == "0"
    await end(world, second, code=7)
    await world.advance(11)
    [again] = waiting(world)
    annotations = again["metadata"]["annotations"]
    assert (annotations[INDEX], annotations[FAILURES], annotations[IGNORED]) == ("1", "0", "1")


async def test_more_failed_indexes_than_allowed_fail_the_job(world: ControllersWorld) -> None:
    limits = {"backoffLimitPerIndex": 0, "maxFailedIndexes": 1}
    await world.create("jobs.batch", job(completionMode="Indexed", completions=4, parallelism=4, **limits))
    await end(world, waiting(world)[0])
    assert told(world) == []
    await end(world, waiting(world)[1])
    assert (status(world)["failedIndexes"], told(world)[-1]) == ("0,2", ("Failed", "MaxFailedIndexesExceeded"))
    assert "active" not in status(world)


async def test_a_leader_that_succeeds_is_enough(world: ControllersWorld) -> None:
    rules = [{"succeededIndexes": "1-2", "succeededCount": 2}, {"succeededIndexes": "0"}]
    spec = {"completionMode": "Indexed", "completions": 3, "parallelism": 3, "successPolicy": {"rules": rules}}
    await world.create("jobs.batch", job(**spec))
    leader, second, _ = waiting(world)
    await end(world, second, "Succeeded", 0)
    assert told(world) == []
    await end(world, leader, "Succeeded", 0)
    assert told(world) == [("SuccessCriteriaMet", "SuccessPolicy"), ("Complete", "SuccessPolicy")]
    assert status(world)["conditions"][0]["message"] == "Matched rules at index 1"
    assert (status(world)["completedIndexes"], status(world)["succeeded"]) == ("0,1", 2)
    assert "failed" not in status(world), "those that were not needed any more did not fail"
    assert ("Completed", "Job completed") in world.events()


async def test_pods_that_are_too_many_are_not_counted(world: ControllersWorld) -> None:
    await world.create("jobs.batch", job(parallelism=3, completions=3))
    await world.update("jobs.batch", "once", lambda found: found["spec"].update(parallelism=1))
    assert (len(world.names("pods")), status(world)["active"], status(world).get("failed")) == (1, 1, None)
    await world.update("jobs.batch", "once", lambda found: found["spec"].update(suspend=True))
    assert (world.names("pods"), status(world).get("failed")) == ([], None)
    assert "startTime" not in status(world)


async def test_a_job_has_ended_when_its_last_pod_is_gone(world: ControllersWorld) -> None:
    given = job(activeDeadlineSeconds=5)
    given["spec"]["template"]["spec"]["nodeName"] = "far"  # where a kubelet ends what is deleted
    await world.create("jobs.batch", given)
    name = waiting(world)[0]["metadata"]["name"]
    await world.advance(6)
    assert (told(world), status(world)["terminating"]) == ([("FailureTarget", "DeadlineExceeded")], 1)
    await world.delete("pods", name, gracePeriodSeconds=0)
    assert (told(world)[-1], status(world)["failed"]) == (("Failed", "DeadlineExceeded"), 1)


async def test_an_adopted_pod_is_counted_as_well(world: ControllersWorld) -> None:
    mine = {"manualSelector": True, "selector": {"matchLabels": {"run": "mine"}}}
    given = job(**mine)
    given["spec"]["template"]["metadata"] = {"labels": {"run": "mine"}}
    pod = {"metadata": {"name": "own", "labels": {"run": "mine"}}, "spec": given["spec"]["template"]["spec"]}
    await world.create("pods", pod)
    await world.create("jobs.batch", given)
    assert world.names("pods") == ["own"]
    assert world.must("pods", "own")["metadata"]["finalizers"] == ["batch.kubernetes.io/job-tracking"]
    await end(world, world.must("pods", "own"), "Succeeded", 0)
    assert told(world)[-1] == ("Complete", "CompletionsReached")
