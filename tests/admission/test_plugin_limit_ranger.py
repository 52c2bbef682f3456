"""LimitRanger."""

from __future__ import annotations

import pytest
from admission_world import World, attributes, pod, refusal, run


def limit_range(world: World, *limits, name: str = "l") -> None:
    world.objects.put("limitranges", {"metadata": {"name": name, "namespace": "ns"}, "spec": {"limits": list(limits)}})


def asking(name: str = "c", **resources):
    return {"name": name, "image": "i", "resources": resources}


def claim(storage: str):
    return {"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": storage}}}}


@pytest.fixture
def chain(world: World):
    return world.chain("LimitRanger")


@pytest.fixture
def limits(world: World):
    limit_range(
        world,
        {
            "type": "Container",
            "min": {"cpu": "100m", "memory": "32Mi"},
            "max": {"cpu": "1", "memory": "1Gi"},
            "maxLimitRequestRatio": {"cpu": "2"},
            "default": {"cpu": "200m", "memory": "64Mi"},
            "defaultRequest": {"cpu": "200m", "memory": "64Mi"},
        },
        {"type": "Pod", "max": {"cpu": "1500m"}},
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}},
    )


async def test_containers_that_ask_for_nothing_get_the_defaults_and_are_told_so(chain, limits):
    sent = pod(containers=[asking()], initContainers=[asking("i", limits={"cpu": "300m"}, requests={"cpu": "300m"})])
    stored = await run(chain, attributes("pods", sent))
    assert stored["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "200m", "memory": "64Mi"},
        "limits": {"cpu": "200m", "memory": "64Mi"},
    }
    assert stored["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c; "
        "memory request for init container i; memory limit for init container i"
    )


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (
            {"containers": [asking(requests={"cpu": "50m"})]},
            "[minimum cpu usage per Container is 100m, but request is 50m, "
            "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000]",
        ),
        (
            {
                "containers": [asking(requests={"cpu": "1"}, limits={"cpu": "2"})],
                "initContainers": [asking("i", limits={"memory": "2Gi"})],
            },
            "[maximum cpu usage per Container is 1, but limit is 2, "
            "maximum memory usage per Container is 1Gi, but limit is 2Gi, "
            "maximum cpu usage per Pod is 1500m, but limit is 2]",
        ),
        (
            {
                "containers": [
                    asking("a", requests={"cpu": "800m"}, limits={"cpu": "800m"}),
                    asking("b", requests={"cpu": "800m"}, limits={"cpu": "800m"}),
                ]
            },
            "maximum cpu usage per Pod is 1500m, but limit is 1600m",
        ),
    ],
)
async def test_pods_that_ask_for_too_little_or_too_much_are_refused(chain, limits, spec, why):
    assert await refusal(chain, attributes("pods", pod(**spec))) == f'pods "p" is forbidden: {why}'


async def test_init_containers_count_with_the_greediest_and_sidecars_with_all(world: World, chain):
    limit_range(world, {"type": "Pod", "max": {"cpu": "1"}})
    half = {"limits": {"cpu": "500m"}, "requests": {"cpu": "500m"}}
    fits = pod(containers=[asking("c", **half)], initContainers=[asking("i", limits={"cpu": "1"})])
    await run(chain, attributes("pods", fits))
    sidecar = {**asking("s", **half), "restartPolicy": "Always"}
    too_much = pod(containers=[asking("c", **half)], initContainers=[sidecar, asking("i", limits={"cpu": "600m"})])
    assert "but limit is 1100m" in await refusal(chain, attributes("pods", too_much))


async def test_what_is_limited_has_to_be_said(world: World, chain):
    limit_range(world, {"type": "Pod", "min": {"cpu": "1m"}, "max": {"memory": "1Gi"}})
    assert await refusal(chain, attributes("pods", pod())) == (
        'pods "p" is forbidden: [minimum cpu usage per Pod is 1m.  No request is specified, '
        "maximum memory usage per Pod is 1Gi.  No limit is specified]"
    )


async def test_claims_are_limited_by_what_they_request(chain, limits):
    said = 'persistentvolumeclaims "c" is forbidden: '
    await run(chain, attributes("persistentvolumeclaims", claim("2Gi")))
    for size, why in (
        ("500Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"),
        ("6Gi", "maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"),
    ):
        assert await refusal(chain, attributes("persistentvolumeclaims", claim(size))) == said + why
        assert await refusal(chain, attributes("persistentvolumeclaims", claim(size), claim("2Gi"))) == said + why


async def test_an_update_of_a_pod_is_not_looked_at_but_a_resize_is(chain, limits):
    greedy, modest = pod(containers=[asking(limits={"cpu": "9"})]), pod(containers=[asking(limits={"cpu": "1"})])
    await run(chain, attributes("pods", greedy, modest))
    asked = attributes("pods", greedy, modest, subresource="resize")
    assert "maximum cpu usage per Container is 1, but limit is 9" in await refusal(chain, asked)
