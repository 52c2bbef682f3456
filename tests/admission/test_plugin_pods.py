"""Plugins that look at pods: images, nodes, tolerations, runtime classes, topology, features."""

from __future__ import annotations

from typing import Any

import pytest
from admission_world import World, attributes, pod, refusal, run
from hypothesis import given
from hypothesis import strategies as st

from kubegate.admission.config import ConfigurationError
from kubegate.admission.tolerations import allowed, covers, merge
from kubegate.api.status import StatusError


# ---------------------------------------------------------------- AlwaysPullImages
async def test_every_image_is_pulled_each_time(world: World):
    chain = world.chain("AlwaysPullImages")
    sent = pod(
        containers=[{"name": "c", "image": "i", "imagePullPolicy": "Never"}],
        initContainers=[{"name": "i", "image": "i"}],
        volumes=[{"name": "v", "image": {"reference": "r", "pullPolicy": "IfNotPresent"}}],
    )
    spec = (await run(chain, attributes("pods", sent)))["spec"]
    assert [c["imagePullPolicy"] for c in (*spec["containers"], *spec["initContainers"])] == ["Always", "Always"]
    assert spec["volumes"][0]["image"]["pullPolicy"] == "Always"


async def test_a_policy_that_somebody_set_later_is_refused(world: World):
    sent = attributes("pods", pod(containers=[{"name": "c", "image": "i", "imagePullPolicy": "Never"}]))
    with pytest.raises(StatusError) as caught:
        await world.chain("AlwaysPullImages").validate(sent)
    assert (caught.value.code, caught.value.reason) == (500, "")
    assert caught.value.message == (
        'pods "p" is forbidden: spec.containers[0].imagePullPolicy: Unsupported value: "Never": supported values: '
        '"Always"'
    )


async def test_an_update_without_new_images_is_left_alone(world: World):
    old = pod(containers=[{"name": "c", "image": "i", "imagePullPolicy": "Never"}])
    assert await run(world.chain("AlwaysPullImages"), attributes("pods", old, old)) == old


# ---------------------------------------------------------------- PodNodeSelector
@pytest.fixture
def selectors(world: World):
    configuration = {"podNodeSelectorPluginConfig": {"clusterDefaultNodeSelector": "tier=general", "closed": "a=b"}}
    return world.chain("PodNodeSelector", PodNodeSelector=configuration)


async def selector_of(chain, namespace="ns", **spec):
    stored = await run(chain, attributes("pods", pod(**spec), namespace=namespace))
    return stored["spec"].get("nodeSelector")


async def test_a_pod_gets_its_namespaces_selector_or_the_clusters(world: World, selectors):
    assert await selector_of(selectors, nodeSelector={"disk": "fast"}) == {"disk": "fast", "tier": "general"}
    world.namespace("ns", annotations={"scheduler.alpha.kubernetes.io/node-selector": "env=test,zone=a"})
    assert await selector_of(selectors, nodeSelector={"tier": "gold"}) == {"env": "test", "zone": "a", "tier": "gold"}
    world.namespace("ns", annotations={"scheduler.alpha.kubernetes.io/node-selector": ""})
    assert await selector_of(selectors, nodeSelector={"tier": "gold"}) == {"tier": "gold"}
    assert await selector_of(selectors) is None


async def test_a_pod_that_contradicts_is_refused(world: World, selectors):
    assert await refusal(selectors, attributes("pods", pod(nodeSelector={"tier": "gold"}))) == (
        'pods "p" is forbidden: pod node label selector conflicts with its namespace node label selector'
    )


async def test_a_namespace_with_a_whitelist_admits_its_labels_alone(world: World, selectors):
    world.namespace("closed", annotations={"scheduler.alpha.kubernetes.io/node-selector": ""})
    assert await selector_of(selectors, "closed", nodeSelector={"a": "b"}) == {"a": "b"}
    asked = attributes("pods", pod(nodeSelector={"c": "d"}), namespace="closed")
    assert "pod node label selector labels conflict with its namespace whitelist" in await refusal(selectors, asked)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("a=b=c", "invalid selector: [a b c]"),
        ("a b=c", '<nil>: Invalid value: "a b": name part must consist of alphanumeric characters'),
        ("/b=c", '<nil>: Invalid value: "/b": prefix part must be non-empty'),
        ("a=b c", '[a]: Invalid value: "b c": a valid label must be an empty string or consist of'),
    ],
)
async def test_a_namespaces_selector_that_cannot_be_read_refuses_its_pods(
    world: World, selectors, annotation: str, text: str
):
    world.namespace("ns", annotations={"scheduler.alpha.kubernetes.io/node-selector": annotation})
    assert (await refusal(selectors, attributes("pods", pod()))).startswith(text)


def test_a_selector_that_cannot_be_read_is_refused_at_the_start(world: World):
    configuration = {"podNodeSelectorPluginConfig": {"clusterDefaultNodeSelector": "tier"}}
    with pytest.raises(ConfigurationError, match=r"clusterDefaultNodeSelector: invalid selector: \[tier\]"):
        world.chain("PodNodeSelector", PodNodeSelector=configuration)


# ---------------------------------------------------------------- tolerations
EVERYTHING = {"operator": "Exists"}
KEY = {"key": "k", "operator": "Exists"}
VALUE = {"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}
FIVE = {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        (EVERYTHING, VALUE, True),
        (KEY, VALUE, True),
        (VALUE, KEY, False),
        (VALUE, {**VALUE, "value": "w"}, False),
        (FIVE, {**FIVE, "tolerationSeconds": 3}, True),
        (FIVE, {**FIVE, "tolerationSeconds": 9}, False),
        (KEY, {"key": "other", "operator": "Exists"}, False),
    ],
)
def test_a_toleration_covers_another(wide, narrow, expected):
    assert covers(wide, narrow) is expected


def test_merged_lists_keep_what_nothing_else_covers():
    assert merge([VALUE], [KEY]) == [KEY]
    assert merge([KEY], [VALUE]) == [KEY]
    assert merge([VALUE], [dict(VALUE)]) == [VALUE]
    assert merge([VALUE, FIVE], []) == [VALUE, FIVE]


def texts(*values: str) -> Any:
    return st.sampled_from(values)


TOLERATIONS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "key": texts("", "a", "b"),
            "operator": texts("", "Equal", "Exists", "Gt"),
            "value": texts("", "v", "w"),
        },
    ).flatmap(
        lambda found: st.one_of(
            texts("", "NoSchedule", "NoExecute").map(lambda effect: {**found, "effect": effect}),
            st.integers(0, 3).map(lambda wait: {**found, "effect": "NoExecute", "tolerationSeconds": wait}),
        )
    ),
    max_size=6,
)


@given(TOLERATIONS, TOLERATIONS)
def test_what_is_merged_is_what_comparing_each_with_each_gives(first: list[Any], second: list[Any]) -> None:
    def bare(toleration: Any) -> Any:
        return {name: value for name, value in toleration.items() if value != ""}

    together, merged = [*first, *second], []
    for position, toleration in enumerate(together):
        later = [other for other in together[position + 1 :] if bare(other) != bare(toleration)]
        if not any(covers(other, toleration) for other in [*merged, *later]):
            merged.append(toleration)
    assert merge(first, second) == merged
    assert allowed(first, second) == (not second or all(any(covers(w, t) for w in second) for t in first))


def test_tens_of_thousands_of_tolerations_are_merged_in_one_go() -> None:
    many = [{**FIVE, "tolerationSeconds": seconds} for seconds in range(20_000)]
    assert merge(many, []) == many[-1:]
    others = [{**KEY, "key": f"k{number}"} for number in range(20_000)]
    assert merge(others, others) == others
    assert allowed(others, [*others, *many])


async def test_a_namespace_gives_and_limits_tolerations(world: World):
    world.namespace(
        "ns",
        annotations={
            "scheduler.alpha.kubernetes.io/defaultTolerations": '[{"key": "k", "operator": "Exists"}]',
            "scheduler.alpha.kubernetes.io/tolerationsWhitelist": '[{"key": "k", "operator": "Exists"}]',
        },
    )
    chain = world.chain("PodTolerationRestriction")
    assert (await run(chain, attributes("pods", pod(tolerations=[VALUE]))))["spec"]["tolerations"] == [KEY]
    asked = attributes("pods", pod(tolerations=[EVERYTHING]))
    assert await refusal(chain, asked) == (
        "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"
    )


async def test_what_a_pod_tolerates_comes_first_and_is_merged_only_with_more(world: World):
    chain = world.chain("PodTolerationRestriction")
    twice = pod(tolerations=[VALUE, dict(VALUE)])
    assert (await run(chain, attributes("pods", twice)))["spec"]["tolerations"] == [VALUE, VALUE]
    defaults = '[{"key": "d", "operator": "Exists"}]'
    world.namespace("ns", annotations={"scheduler.alpha.kubernetes.io/defaultTolerations": defaults})
    twice["spec"]["containers"] = [{"name": "c", "image": "i", "resources": {"requests": {"memory": "1Mi"}}}]
    stored = await run(chain, attributes("pods", twice))
    assert [toleration["key"] for toleration in stored["spec"]["tolerations"]] == [
        "k", "d", "node.kubernetes.io/memory-pressure",
    ]  # fmt: skip


async def test_a_pod_that_asks_for_memory_stays_where_it_is_short(world: World):
    asking = pod(containers=[{"name": "c", "image": "i", "resources": {"requests": {"memory": "1Mi"}}}])
    stored = await run(world.chain("PodTolerationRestriction"), attributes("pods", asking))
    assert [toleration["key"] for toleration in stored["spec"]["tolerations"]] == ["node.kubernetes.io/memory-pressure"]


async def test_who_asks_for_a_device_tolerates_its_taint(world: World):
    def asking(name):
        return {"name": name, "image": "i", "resources": {"requests": {f"example.org/{name}": "1", "cpu": "1"}}}

    own = {"key": "example.org/gpu", "operator": "Equal", "value": "x"}
    sent = pod(containers=[asking("gpu")], initContainers=[asking("fpga")], tolerations=[own])
    chain = world.chain("ExtendedResourceToleration")
    stored = await run(chain, attributes("pods", sent))
    assert stored["spec"]["tolerations"] == [
        own,
        {"key": "example.org/fpga", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "example.org/gpu", "operator": "Exists", "effect": "NoSchedule"},
    ]
    assert await run(chain, attributes("pods", stored, sent)) == stored
    theirs = stored["spec"]["tolerations"]
    sent["spec"]["tolerations"] = [*theirs[:2], {**theirs[2], "tolerationSeconds": 5}]
    assert await run(chain, attributes("pods", sent)) == stored


# ---------------------------------------------------------------- LimitPodHardAntiAffinityTopology
async def test_hard_anti_affinity_is_for_single_nodes(world: World):
    def keeping_off(key):
        term = {"topologyKey": key, "labelSelector": {}}
        return pod(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})

    chain = world.chain("LimitPodHardAntiAffinityTopology")
    await run(chain, attributes("pods", keeping_off("kubernetes.io/hostname")))
    assert await refusal(chain, attributes("pods", keeping_off("zone"))) == (
        'pods "p" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key '
        "kubernetes.io/hostname is allowed"
    )


# ---------------------------------------------------------------- RuntimeClass
@pytest.fixture
def runtimes(world: World):
    def put(name, **fields):
        world.objects.put("runtimeclasses.node.k8s.io", {"metadata": {"name": name}, "handler": "h", **fields})

    put("costly", overhead={"podFixed": {"memory": "10Mi"}})
    put("placed", scheduling={"nodeSelector": {"z": "1"}, "tolerations": [KEY]})
    put("plain")
    return world.chain("RuntimeClass")


async def test_a_runtime_class_says_what_it_costs_and_where_it_runs(runtimes):
    assert (await run(runtimes, attributes("pods", pod(runtimeClassName="costly"))))["spec"]["overhead"] == {
        "memory": "10Mi"
    }
    placed = (await run(runtimes, attributes("pods", pod(runtimeClassName="placed", nodeSelector={"a": "b"}))))["spec"]
    assert placed["nodeSelector"] == {"a": "b", "z": "1"}
    assert placed["tolerations"] == [KEY]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
        (
            {"runtimeClassName": "costly", "overhead": {"memory": "1Mi"}},
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            {"runtimeClassName": "plain", "overhead": {"memory": "1Mi"}},
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            {"overhead": {"memory": "1Mi"}},
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            {"runtimeClassName": "placed", "nodeSelector": {"z": "2"}},
            "conflict: runtimeClass.scheduling.nodeSelector[z] = 1; pod.spec.nodeSelector[z] = 2",
        ),
    ],
)
async def test_a_pod_that_disagrees_with_its_runtime_class_is_refused(runtimes, spec, why):
    assert await refusal(runtimes, attributes("pods", pod(**spec))) == f'pods "p" is forbidden: {why}'


async def test_the_same_overhead_written_otherwise_is_the_same(runtimes):
    await run(runtimes, attributes("pods", pod(runtimeClassName="costly", overhead={"memory": "10240Ki"})))


# ---------------------------------------------------------------- nodes
async def test_a_pod_learns_its_nodes_zone_when_it_is_bound(world: World):
    labels = {"topology.kubernetes.io/zone": "a", "kubernetes.io/hostname": "n"}
    world.objects.put("nodes", {"metadata": {"name": "n", "labels": labels}})
    chain = world.chain("PodTopologyLabels")
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    stored = await run(chain, attributes("pods", binding, subresource="binding"))
    assert stored["metadata"]["labels"] == {"topology.kubernetes.io/zone": "a"}
    stored = await run(chain, attributes("pods", pod(nodeName="n", metadata={"labels": {"own": "x"}})))
    assert stored["metadata"]["labels"] == {"own": "x", "topology.kubernetes.io/zone": "a"}
    assert "labels" not in (await run(chain, attributes("pods", pod(nodeName="gone"))))["metadata"]


async def test_a_new_node_is_tainted_until_it_is_ready(world: World):
    chain = world.chain("TaintNodesByCondition")
    own = {"key": "own", "effect": "NoExecute"}
    not_ready = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    stored = await run(chain, attributes("nodes", {"metadata": {"name": "n"}, "spec": {"taints": [own]}}))
    assert stored["spec"]["taints"] == [own, not_ready]
    assert (await run(chain, attributes("nodes", stored, operation=None)))["spec"]["taints"] == [own, not_ready]


async def test_pod_level_resources_are_resized_where_the_node_can(world: World):
    chain = world.chain("NodeDeclaredFeatureValidator")
    old, new = (pod(nodeName="n", resources={"limits": {"cpu": cpu}}) for cpu in ("1", "2"))
    asked = attributes("pods", new, old, subresource="resize")
    assert await refusal(chain, asked) == 'pods "p" is forbidden: node "n" not found'
    world.objects.put("nodes", {"metadata": {"name": "n"}, "status": {}})
    assert "pod update requires features InPlacePodLevelResourcesVerticalScaling" in await refusal(chain, asked)
    declared = {"declaredFeatures": ["InPlacePodLevelResourcesVerticalScaling"]}
    world.objects.put("nodes", {"metadata": {"name": "n"}, "status": declared})
    await run(chain, asked)
