"""ResourceQuota: what is counted, the refusals, and that it holds when many ask at once."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from admission_world import RESOURCES, Objects, StoreWriter, World, attributes, pod, refusal, run
from msgspec.structs import replace

from kubegate.admission.plugins.resource_quota import ResourceQuota
from kubegate.admission.quota import Reservations, used
from kubegate.api.status import MODIFIED, StatusError, conflict


def quota(world: World, name: str = "q", scopes=None, hard=None, already=None, **more) -> None:
    spec = {"hard": hard or {}, **({"scopes": scopes} if scopes else {}), **more}
    counted = {resource: "0" for resource in spec["hard"]} | (already or {})
    world.objects.put(
        "resourcequotas",
        {
            "metadata": {"name": name, "namespace": "ns"},
            "spec": spec,
            "status": {"hard": spec["hard"], "used": counted},
        },
    )


def used_of(world: World, name: str = "q"):
    return world.objects.get("resourcequotas", "ns", name)["status"]["used"]


def secret(name: str):
    return {"metadata": {"name": name, "namespace": "ns", "uid": str(uuid.uuid4())}}


def asking(name="p", **resources):
    return pod(name, containers=[{"name": "c", "image": "i", "resources": resources}])


@pytest.fixture
def chain(world: World):
    return world.chain("ResourceQuota")


async def test_objects_are_counted_until_the_quota_is_used_up(world: World, chain):
    quota(world, "counts", hard={"count/secrets": "1", "pods": "1"})
    await run(chain, attributes("secrets", secret("one")))
    assert used_of(world, "counts") == {"count/secrets": "1", "pods": "0"}
    assert await refusal(chain, attributes("secrets", secret("two"))) == (
        'secrets "two" is forbidden: exceeded quota: counts, requested: count/secrets=1, used: count/secrets=1, '
        "limited: count/secrets=1"
    )


async def test_every_quota_that_matches_is_charged_or_none(world: World, chain):
    quota(world, "a", hard={"count/secrets": "5"})
    quota(world, "b", hard={"secrets": "1"}, already={"secrets": "1"})
    assert "exceeded quota: b" in await refusal(chain, attributes("secrets", secret("s")))
    assert used_of(world, "a") == {"count/secrets": "0"}


async def test_a_dry_run_is_refused_but_never_charged(world: World, chain):
    quota(world, hard={"count/secrets": "1"})
    await run(chain, attributes("secrets", secret("one"), dry_run=True))
    assert used_of(world) == {"count/secrets": "0"}


async def test_what_a_quota_has_not_counted_yet_is_refused(world: World, chain):
    spec = {"hard": {"count/secrets": "1"}}
    uncounted = {"metadata": {"name": "q", "namespace": "ns"}, "spec": spec, "status": {"hard": spec["hard"]}}
    world.objects.put("resourcequotas", uncounted)
    assert await refusal(chain, attributes("secrets", secret("s"))) == (
        'secrets "s" is forbidden: status unknown for quota: q, resources: count/secrets'
    )


async def test_a_quota_on_cpu_obliges_every_container_to_ask_for_some(world: World, chain):
    quota(world, hard={"requests.cpu": "1", "limits.memory": "1Gi"})
    assert await refusal(chain, attributes("pods", asking())) == (
        'pods "p" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c'
    )
    await run(chain, attributes("pods", asking(requests={"cpu": "600m"}, limits={"memory": "1Gi"})))
    assert used_of(world) == {"limits.memory": "1Gi", "requests.cpu": "600m"}
    assert await refusal(chain, attributes("pods", asking(requests={"cpu": "600m"}, limits={"memory": "0"}))) == (
        'pods "p" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, '
        "limited: requests.cpu=1"
    )


async def test_a_pod_with_resources_of_its_own_obliges_no_container_to_ask(world: World, chain):
    quota(world, hard={"requests.cpu": "1", "limits.memory": "1Gi"})
    asked = asking()
    asked["spec"]["resources"] = {"requests": {"cpu": "600m"}}
    await run(chain, attributes("pods", asked))
    assert used_of(world) == {"limits.memory": "0", "requests.cpu": "600m"}


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        ({"scopes": ["BestEffort"]}, asking(), asking(requests={"cpu": "1m"})),
        ({"scopes": ["NotBestEffort"]}, asking(requests={"cpu": "1m"}), asking()),
        ({"scopes": ["Terminating"]}, pod(activeDeadlineSeconds=5), pod()),
        ({"scopes": ["NotTerminating"]}, pod(), pod(activeDeadlineSeconds=5)),
        ({"scopes": ["PriorityClass"]}, pod(priorityClassName="vip"), pod()),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["vip"]}]
                }
            },
            pod(priorityClassName="vip"),
            pod(priorityClassName="other"),
        ),
    ],
)
async def test_scopes_choose_which_pods_count(world: World, chain, scope, inside, outside):
    quota(world, hard={"pods": "1"}, **scope)
    await run(chain, attributes("pods", outside))
    assert used_of(world) == {"pods": "0"}
    await run(chain, attributes("pods", inside))
    assert used_of(world) == {"pods": "1"}


async def test_services_count_with_their_node_ports(world: World, chain):
    quota(world, hard={"services": "5", "services.nodeports": "1", "services.loadbalancers": "1"})

    def service(sort, ports):
        return {"metadata": {"name": "s"}, "spec": {"type": sort, "ports": [{"port": n + 1} for n in range(ports)]}}

    await run(chain, attributes("services", service("ClusterIP", 3)))
    await run(chain, attributes("services", service("NodePort", 1), service("ClusterIP", 1)))
    assert used_of(world) == {"services": "1", "services.loadbalancers": "0", "services.nodeports": "1"}
    assert "requested: services.nodeports=2" in await refusal(chain, attributes("services", service("LoadBalancer", 2)))


async def test_a_claim_that_grows_is_charged_with_the_difference(world: World, chain):
    def claim(size):
        spec = {"storageClassName": "fast", "resources": {"requests": {"storage": size}}}
        return {"metadata": {"name": "c"}, "spec": spec}

    of_class = "fast.storageclass.storage.k8s.io/requests.storage"
    quota(world, hard={"requests.storage": "5Gi", of_class: "3Gi"})
    await run(chain, attributes("persistentvolumeclaims", claim("1Gi")))
    await run(chain, attributes("persistentvolumeclaims", claim("3Gi"), claim("1Gi")))
    assert used_of(world) == {of_class: "3Gi", "requests.storage": "3Gi"}
    asked = attributes("persistentvolumeclaims", claim("4Gi"), claim("3Gi"))
    assert f"requested: {of_class}=1Gi, used: {of_class}=3Gi" in await refusal(chain, asked)


async def test_a_resized_pod_is_charged_with_the_difference(world: World, chain):
    quota(world, hard={"requests.cpu": "1"}, already={"requests.cpu": "500m"})
    before, after = asking(requests={"cpu": "500m"}), asking(requests={"cpu": "700m"})
    await run(chain, attributes("pods", after, before, subresource="resize"))
    assert used_of(world) == {"requests.cpu": "700m"}


async def test_what_an_update_gives_back_is_left_to_who_counts(world: World, chain):
    quota(world, hard={"services.nodeports": "2"}, already={"services.nodeports": "1"})

    def service(kind: str, ports: int):
        metadata = {"name": "s", "namespace": "ns", "uid": "u", "resourceVersion": "7"}
        return {"metadata": metadata, "spec": {"type": kind, "ports": [{"port": p} for p in range(1, ports + 1)]}}

    await run(chain, attributes("services", service("ClusterIP", 1), service("NodePort", 1)))
    assert used_of(world) == {"services.nodeports": "1"}
    await run(chain, attributes("services", service("NodePort", 2), service("NodePort", 1)))
    assert used_of(world) == {"services.nodeports": "2"}
    assert "exceeded quota" in await refusal(
        chain, attributes("services", service("NodePort", 2), service("ClusterIP", 1))
    )


async def test_an_object_that_an_update_brings_into_a_scope_is_charged_as_a_whole(world: World, chain):
    selector = {"matchExpressions": [{"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["gold"]}]}
    quota(world, hard={"requests.storage": "5Gi"}, scopeSelector=selector)

    def claim(size: str, attributes_class: str):
        spec = {"resources": {"requests": {"storage": size}}, "volumeAttributesClassName": attributes_class}
        return {"metadata": {"name": "c", "namespace": "ns", "uid": "u", "resourceVersion": "7"}, "spec": spec}

    await run(chain, attributes("persistentvolumeclaims", claim("3Gi", "gold"), claim("3Gi", "silver")))
    assert used_of(world) == {"requests.storage": "3Gi"}
    await run(chain, attributes("persistentvolumeclaims", claim("4Gi", "gold"), claim("3Gi", "gold")))
    assert used_of(world) == {"requests.storage": "4Gi"}


async def test_a_negative_request_is_refused(world: World, chain):
    quota(world, hard={"requests.cpu": "1"})
    why = await refusal(chain, attributes("pods", asking(requests={"cpu": "-1"})))
    assert why == 'pods "p" is forbidden: quota usage is negative for resource(s): cpu,requests.cpu'


async def test_consumption_that_is_limited_by_default_needs_a_quota(world: World):
    entry = {"resource": "pods", "matchScopes": [{"scopeName": "PriorityClass", "operator": "In", "values": ["vip"]}]}
    configuration = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "ResourceQuotaConfiguration",
        "limitedResources": [entry, {"resource": "secrets", "matchContains": ["count/"]}],
    }
    chain = world.chain("ResourceQuota", ResourceQuota=configuration)
    await run(chain, attributes("pods", pod()))
    assert "insufficient quota to match these scopes: [{PriorityClass In [vip]}]" in await refusal(
        chain, attributes("pods", pod(priorityClassName="vip"))
    )
    assert "insufficient quota to consume: count/secrets" in await refusal(chain, attributes("secrets", secret("s")))
    quota(world, hard={"pods": "5", "count/secrets": "5"})
    await run(chain, attributes("secrets", secret("s")))


class SlowWriter(StoreWriter):
    """Lets others run between the read and the write, as a store that takes its time does."""

    async def update_status(self, resource, namespace, name, object):
        await asyncio.sleep(0)
        return await super().update_status(resource, namespace, name, object)


async def test_200_clients_at_once_get_no_more_than_the_quota_and_few_writes_do(world: World):
    quota(world, hard={"count/secrets": "50"})
    plugin = ResourceQuota(with_writer(world, SlowWriter(world.objects)))
    outcomes = await asyncio.gather(*(admitted(plugin, f"s{n}") for n in range(200)))
    assert outcomes.count(True) == 50
    assert used_of(world) == {"count/secrets": "50"}
    assert world.objects.writes < 10
    assert not plugin._queues


async def test_several_processes_on_one_store_get_no_more_than_the_quota_together(world: World):
    """Each sees the store a little late, as processes on one etcd do; the compare-and-set decides."""
    quota(world, hard={"count/secrets": "50"})
    plugins = []
    for _ in range(3):
        dependencies = with_writer(world, SlowWriter(world.objects))
        plugins.append(ResourceQuota(replace(dependencies, reader=Late(world.objects))))
    outcomes = []
    for wave in range(4):
        outcomes += await asyncio.gather(*(admitted(plugins[n % 3], f"s{wave}-{n}") for n in range(50)))
    assert outcomes.count(True) == 50
    assert used_of(world) == {"count/secrets": "50"}


class Late(Objects):
    """A reader that shows for ever what was there when it was made."""

    def __init__(self, objects: Objects) -> None:
        super().__init__()
        self.found = dict(objects.found)


class Contested(StoreWriter):
    """Somebody else writes the quota just before, the first few times."""

    def __init__(self, objects: Objects, times: int) -> None:
        super().__init__(objects)
        self.times = times

    async def update_status(self, resource, namespace, name, object):
        if self.times:
            self.times -= 1
            stored = self._objects.get(resource, namespace, name)
            counted = str(int(stored["status"]["used"]["count/secrets"]) + 1)
            self._objects.put(resource, {**stored, "status": {**stored["status"], "used": {"count/secrets": counted}}})
            raise conflict("", resource, name, MODIFIED)
        return await super().update_status(resource, namespace, name, object)


async def test_a_charge_that_loses_a_race_is_worked_out_again(world: World):
    quota(world, hard={"count/secrets": "5"})
    assert await admitted(ResourceQuota(with_writer(world, Contested(world.objects, 3))), "s")
    assert used_of(world) == {"count/secrets": "4"}


async def test_a_charge_that_loses_the_last_of_the_quota_is_refused(world: World):
    quota(world, hard={"count/secrets": "1"})
    assert not await admitted(ResourceQuota(with_writer(world, Contested(world.objects, 1))), "s")
    assert used_of(world) == {"count/secrets": "1"}


async def test_a_request_that_is_cut_off_while_it_charges_leaves_no_other_without_answer(world: World):
    quota(world, hard={"count/secrets": "5"})
    hold, writing = asyncio.Event(), asyncio.Event()

    class Stuck(StoreWriter):
        async def update_status(self, *arguments):
            writing.set()
            await hold.wait()
            return await super().update_status(*arguments)

    plugin = ResourceQuota(with_writer(world, Stuck(world.objects)))
    first = asyncio.create_task(admitted(plugin, "first"))
    await writing.wait()
    others = [asyncio.create_task(admitted(plugin, f"s{n}")) for n in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    hold.set()
    assert await asyncio.gather(*others) == [True, True, True]
    assert used_of(world) == {"count/secrets": "3"}


async def test_use_is_counted_from_stored_objects_and_those_on_their_way(world: World):
    quota(world, hard={"count/secrets": "9", "pods": "9", "requests.cpu": "9"})
    for name, phase in (("running", "Running"), ("done", "Succeeded")):
        body = asking(name, requests={"cpu": "300m"})
        world.objects.put("pods", {**body, "status": {"phase": phase}})
    found = world.objects.get("resourcequotas", "ns", "q")
    reservations = Reservations(world.objects, world.clock)
    assert used(found, world.objects, world.clock, RESOURCES, reservations) == {
        "count/secrets": "0",
        "pods": "1",
        "requests.cpu": "300m",
    }
    dependencies = world.dependencies()
    plugin = ResourceQuota(replace(dependencies, reservations=reservations))
    one = secret("one")
    await plugin.validate(attributes("secrets", one))
    assert used(found, world.objects, world.clock, RESOURCES, reservations)["count/secrets"] == "1"
    world.objects.put("secrets", one)
    assert used(found, world.objects, world.clock, RESOURCES, reservations)["count/secrets"] == "1"
    del world.objects.found["secrets", "ns", "one"]
    assert used(found, world.objects, world.clock, RESOURCES, reservations)["count/secrets"] == "0"


def with_writer(world: World, writer: StoreWriter):
    return replace(world.dependencies(), writer=writer)


async def admitted(plugin: ResourceQuota, name: str) -> bool:
    try:
        await plugin.validate(attributes("secrets", secret(name)))
    except StatusError as error:
        assert "exceeded quota" in error.message
        return False
    return True


async def test_nothing_is_said_of_what_cannot_be_counted(world: World):
    quota(world, hard={"count/secrets": "9", "count/widgets.example.org": "9", "count/events": "9", "pods": "9"})
    found = world.objects.get("resourcequotas", "ns", "q")
    assert used(found, world.objects, world.clock, RESOURCES) == {"count/secrets": "0", "pods": "0"}
