"""Classes, finalizers, external addresses, owners, namespaces, events, and the two that say always the same."""

from __future__ import annotations

import pytest
from admission_world import World, attributes, refusal, run
from msgspec.structs import replace

from kubegate.admission.config import ConfigurationError
from kubegate.admission.plugins import event_rate_limit
from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo

CLAIMS = "persistentvolumeclaims"
INGRESSES = "ingresses.networking.k8s.io"


def marked(world: World, resource: str, annotation: str, name: str, created: str) -> None:
    metadata = {"name": name, "annotations": {annotation: "true"}, "creationTimestamp": created}
    world.objects.put(resource, {"metadata": metadata})


async def test_a_claim_without_class_gets_the_newest_default(world: World):
    chain = world.chain("DefaultStorageClass")
    claim = {"metadata": {"name": "c"}, "spec": {}}
    assert "storageClassName" not in (await run(chain, attributes(CLAIMS, claim)))["spec"]
    for name, created in (
        ("b", "2026-01-01T00:00:00Z"),
        ("new", "2026-01-02T00:00:00Z"),
        ("a", "2026-01-01T00:00:00Z"),
    ):
        marked(world, "storageclasses.storage.k8s.io", "storageclass.kubernetes.io/is-default-class", name, created)
    assert (await run(chain, attributes(CLAIMS, claim)))["spec"]["storageClassName"] == "new"
    named = {"metadata": {"name": "c"}, "spec": {"storageClassName": ""}}
    assert (await run(chain, attributes(CLAIMS, named)))["spec"]["storageClassName"] == ""


async def test_an_ingress_without_class_gets_the_newest_default(world: World):
    chain = world.chain("DefaultIngressClass")
    for name in ("b", "a"):
        marked(world, "ingressclasses.networking.k8s.io", "ingressclass.kubernetes.io/is-default-class", name, "x")
    assert (await run(chain, attributes(INGRESSES, {"metadata": {"name": "i"}})))["spec"] == {"ingressClassName": "a"}
    old = {"metadata": {"name": "i", "annotations": {"kubernetes.io/ingress.class": "old"}}}
    assert "spec" not in await run(chain, attributes(INGRESSES, old))


@pytest.mark.parametrize(
    ("resource", "finalizer"),
    [(CLAIMS, "kubernetes.io/pvc-protection"), ("persistentvolumes", "kubernetes.io/pv-protection")],
)
async def test_storage_in_use_is_protected(world: World, resource, finalizer):
    chain = world.chain("StorageObjectInUseProtection")
    stored = await run(chain, attributes(resource, {"metadata": {"name": "s", "finalizers": ["example.org/mine"]}}))
    assert stored["metadata"]["finalizers"] == ["example.org/mine", finalizer]
    assert await run(chain, attributes(resource, stored, operation=None)) == stored


async def test_a_claim_grows_where_its_class_lets_it(world: World):
    def claim(size, phase="Bound", storage_class="grow"):
        spec = {"storageClassName": storage_class, "resources": {"requests": {"storage": size}}}
        return {"metadata": {"name": "c"}, "spec": spec, "status": {"phase": phase}}

    chain = world.chain("PersistentVolumeClaimResize")
    world.objects.put("storageclasses.storage.k8s.io", {"metadata": {"name": "grow"}, "allowVolumeExpansion": True})
    await run(chain, attributes(CLAIMS, claim("2Gi"), claim("1Gi")))
    await run(chain, attributes(CLAIMS, claim("1Gi", storage_class="fix"), claim("2Gi", storage_class="fix")))
    assert "only dynamically provisioned pvc can be resized" in await refusal(
        chain, attributes(CLAIMS, claim("2Gi", storage_class="fix"), claim("1Gi", storage_class="fix"))
    )
    asked = attributes(CLAIMS, claim("2Gi"), claim("1Gi", phase="Pending"))
    assert "Only bound persistent volume claims can be expanded" in await refusal(chain, asked)


async def test_no_new_external_addresses(world: World):
    """CVE-2020-8554: traffic for an external address is drawn to whoever names it in a service."""

    def service(*addresses):
        return {"metadata": {"name": "s"}, "spec": {"externalIPs": list(addresses)}}

    chain = world.chain("DenyServiceExternalIPs")
    await run(chain, attributes("services", service()))
    await run(chain, attributes("services", service("203.0.113.1"), service("203.0.113.1", "203.0.113.2")))
    for old in (None, service("203.0.113.2")):
        assert await refusal(chain, attributes("services", service("203.0.113.1"), old)) == (
            'services "s" is forbidden: Use of external IPs is denied by admission control'
        )


# ---------------------------------------------------------------- OwnerReferencesPermissionEnforcement
ALICE = UserInfo("alice")


def owned(*owners):
    return {"metadata": {"name": "a", "ownerReferences": list(owners)}}


def owner(block=None, kind="ReplicaSet", api_version="apps/v1"):
    found = {"apiVersion": api_version, "kind": kind, "name": "o", "uid": "1"}
    return found if block is None else {**found, "blockOwnerDeletion": block}


@pytest.fixture
def owners(world: World):
    return world.chain("OwnerReferencesPermissionEnforcement")


async def test_who_names_an_owner_must_be_able_to_delete_the_object(world: World, owners):
    asked = attributes("configmaps", owned(owner()), owned(), user=ALICE)
    assert await refusal(owners, asked) == (
        'configmaps "a" is forbidden: cannot set an ownerRef on a resource you can\'t delete: , <nil>'
    )
    world.allowed.add(("alice", "delete", "configmaps", "a"))
    await run(owners, attributes("configmaps", owned(owner()), owned(), user=ALICE))
    await run(owners, attributes("configmaps", owned(owner()), user=ALICE))


async def test_who_blocks_an_owners_deletion_must_be_able_to_set_its_finalizers(world: World, owners):
    asked = attributes("configmaps", owned(owner(True)), user=ALICE)
    assert await refusal(owners, asked) == (
        'configmaps "a" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you '
        "can't set finalizers on: , <nil>"
    )
    world.allowed.add(("alice", "update", "replicasets", "o"))
    await run(owners, asked)
    question = world.asked[-1]
    assert (question.api_group, question.subresource, question.namespace) == ("apps", "finalizers", "ns")
    unknown = attributes("configmaps", owned(owner(True, "Odd", "example.org/v1")), user=ALICE)
    assert (
        "cannot find RESTMapping for APIVersion example.org/v1 Kind Odd: "
        'no matches for kind "Odd" in version "example.org/v1"'
    ) in await refusal(owners, unknown)


async def test_references_that_stay_as_they_are_need_no_right(world: World, owners):
    await run(owners, attributes("configmaps", owned(owner(True)), owned(owner(True)), user=ALICE))
    assert world.asked == []


# ---------------------------------------------------------------- namespaces
async def test_nothing_is_done_in_a_namespace_that_does_not_exist(world: World):
    chain = world.chain("NamespaceExists")
    await run(chain, attributes("configmaps", {"metadata": {"name": "a"}}))
    asked = attributes("configmaps", None, {"metadata": {"name": "a"}}, namespace="none")
    assert await refusal(chain, asked) == 'namespaces "none" not found'


async def test_a_namespace_is_made_when_something_is_put_into_it(world: World):
    chain = world.chain("NamespaceAutoProvision", "NamespaceLifecycle")
    config_map = {"metadata": {"name": "a"}}
    with pytest.raises(StatusError):
        await run(chain, attributes("configmaps", config_map, namespace="new", dry_run=True))
    await run(chain, attributes("configmaps", config_map, namespace="new"))
    assert world.objects.get("namespaces", "", "new") is not None


# ---------------------------------------------------------------- EventRateLimit
def limits(*entries):
    return {"apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration", "limits": list(entries)}


async def test_one_namespaces_flood_of_events_is_cut_off(world: World):
    entry = {"type": "Namespace", "qps": 1, "burst": 3, "cacheSize": 100}
    chain = world.chain("EventRateLimit", EventRateLimit=limits(entry))

    def event(namespace="ns", **more):
        return attributes("events", {"metadata": {"name": "e"}}, namespace=namespace, **more)

    for _ in range(3):
        await run(chain, event())
    with pytest.raises(StatusError) as caught:
        await run(chain, event())
    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Too many requests: limit reached on type Namespace for key ns",
        "reason": "TooManyRequests",
        "code": 429,
    }
    await run(chain, event("other"))
    await run(chain, event(dry_run=True))
    await run(chain, attributes("events.events.k8s.io", {"metadata": {"name": "e"}}))
    world.clock.seconds += 1
    await run(chain, event())
    assert "limit reached" in await refusal(chain, event())


async def test_each_of_several_processes_lets_its_part_of_events_through(world: World):
    configured = world.dependencies(EventRateLimit=limits({"type": "Server", "qps": 2, "burst": 4}))
    plugin = event_rate_limit.build(replace(configured, processes=2))
    event = attributes("events", {"metadata": {"name": "e"}})
    for _ in range(2):
        await plugin.validate(event)
    with pytest.raises(StatusError):
        await plugin.validate(event)
    world.clock.seconds += 1
    await plugin.validate(event)
    with pytest.raises(StatusError):
        await plugin.validate(event)


async def test_events_are_counted_by_what_they_are_about(world: World):
    entry = {"type": "SourceAndObject", "qps": 1, "burst": 1}
    chain = world.chain("EventRateLimit", EventRateLimit=limits(entry, {"type": "Server", "qps": 1, "burst": 2}))
    for name in ("a", "b"):
        await run(chain, attributes("events", {"metadata": {"name": name}, "involvedObject": {"name": name}}))
    asked = attributes("events", {"metadata": {"name": "c"}, "involvedObject": {"name": "a"}})
    assert await refusal(chain, asked) == (
        "Too many requests: [limit reached on type SourceAndObject for key a, limit reached on type Server for key ]"
    )


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({}, "wanted eventratelimit.admission.k8s.io/v1alpha1 Configuration"),
        (limits(), "limits: must not be empty"),
        (limits({"type": "Namespaces", "qps": 1, "burst": 1}), "type: must be one of"),
        (limits({"type": "Server", "qps": 0, "burst": 1}), "qps: must be positive"),
    ],
)
def test_limits_that_make_no_sense_are_refused_at_the_start(world: World, configuration, said):
    with pytest.raises(ConfigurationError, match=said):
        world.chain("EventRateLimit", EventRateLimit=configuration)


async def test_always_admit_and_always_deny(world: World):
    config_map = {"metadata": {"name": "a"}}
    await run(world.chain("AlwaysAdmit"), attributes("configmaps", config_map))
    assert await refusal(world.chain("AlwaysDeny"), attributes("configmaps", config_map)) == (
        'configmaps "a" is forbidden: admission control is denying all modifications'
    )
