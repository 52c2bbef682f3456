"""Priority, and DefaultTolerationSeconds beside it."""

from __future__ import annotations

import pytest
from admission_world import World, attributes, pod, refusal, run

from kubegate.admission.plugins.priority import CLASSES


def priority_class(name: str, value: int, **fields):
    return {"metadata": {"name": name}, "value": value, **fields}


@pytest.fixture
def chain(world: World):
    world.objects.put(CLASSES, priority_class("vip", 1000, preemptionPolicy="Never"))
    return world.chain("Priority")


async def priority_of(chain, **spec):
    stored = (await run(chain, attributes("pods", pod(**spec))))["spec"]
    return stored.get("priorityClassName"), stored["priority"], stored["preemptionPolicy"]


async def test_a_pod_gets_the_number_and_policy_of_its_class(chain):
    assert await priority_of(chain, priorityClassName="vip") == ("vip", 1000, "Never")
    assert await priority_of(chain, priorityClassName="vip", priority=1000) == ("vip", 1000, "Never")


async def test_a_pod_without_class_gets_zero_or_the_default_class(world: World, chain):
    assert await priority_of(chain) == (None, 0, "PreemptLowerPriority")
    world.objects.put(CLASSES, priority_class("usual", 5, globalDefault=True, preemptionPolicy="Never"))
    assert await priority_of(chain) == ("usual", 5, "Never")


async def test_the_classes_of_the_system_need_not_be_stored(chain):
    found = await priority_of(chain, priorityClassName="system-node-critical")
    assert found == ("system-node-critical", 2000001000, "PreemptLowerPriority")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"priorityClassName": "none"}, "no PriorityClass with name none was found"),
        (
            {"priority": 7},
            "the integer value of priority (7) must not be provided in pod spec; priority admission controller "
            "computed 0 from the given PriorityClass name",
        ),
        (
            {"priorityClassName": "vip", "preemptionPolicy": "PreemptLowerPriority"},
            "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority "
            "admission controller computed Never from the given PriorityClass name",
        ),
    ],
)
async def test_numbers_given_by_hand_and_unknown_classes_are_refused(chain, spec, why):
    assert await refusal(chain, attributes("pods", pod(**spec))) == f'pods "p" is forbidden: {why}'


async def test_an_update_that_leaves_the_number_out_keeps_it(chain):
    old = pod(priority=1000, preemptionPolicy="Never", priorityClassName="vip")
    stored = await run(chain, attributes("pods", pod(priorityClassName="vip"), old))
    assert stored["spec"] == old["spec"]


async def test_one_class_at_most_is_the_default(world: World, chain):
    first = priority_class("first", 1, globalDefault=True)
    await run(chain, attributes(CLASSES, first))
    world.objects.put(CLASSES, first)
    await run(chain, attributes(CLASSES, first, first))
    assert await refusal(chain, attributes(CLASSES, priority_class("second", 1, globalDefault=True))) == (
        'priorityclasses.scheduling.k8s.io "second" is forbidden: PriorityClass first is already marked as default. '
        "Only one default can exist"
    )


async def test_pods_tolerate_a_lost_node_for_five_minutes(world: World):
    own = {"key": "node.kubernetes.io/unreachable", "operator": "Exists"}
    chain = world.chain("DefaultTolerationSeconds")
    stored = await run(chain, attributes("pods", pod(tolerations=[own])))
    assert stored["spec"]["tolerations"] == [
        own,
        {
            "key": "node.kubernetes.io/not-ready",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 300,
        },
    ]
    everything = [{"operator": "Exists"}]
    stored = await run(chain, attributes("pods", pod(tolerations=everything)))
    assert stored["spec"]["tolerations"] == everything
