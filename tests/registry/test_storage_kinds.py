"""PersistentVolumes and their claims, storage classes and drivers, nodes, events and endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kinds_world import NAMESPACE, KindsWorld, kinds_world, meta


@pytest.fixture
async def w() -> AsyncIterator[KindsWorld]:
    async with kinds_world() as found:
        yield found


def volume(name: str = "v", **spec: Any) -> dict[str, Any]:
    base = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    return {**meta(name), "spec": {**base, **spec}}


def claim(name: str = "c", **spec: Any) -> dict[str, Any]:
    base = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {**meta(name), "spec": {**base, **spec}}


async def test_a_volume_is_pending_and_kept(w: KindsWorld) -> None:
    made = await w.create("persistentvolumes", volume())
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert made["spec"]["hostPath"] == {"path": "/x", "type": ""}
    assert made["status"]["phase"] == "Pending"
    assert made["status"]["lastPhaseTransitionTime"] == made["metadata"]["creationTimestamp"]


async def test_where_a_volume_is_does_not_change(w: KindsWorld) -> None:
    await w.create("persistentvolumes", volume())
    [text] = await w.wrong(w.patch("persistentvolumes", "v", {"spec": {"hostPath": {"path": "/y"}}}))
    start = "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n"
    assert text.startswith(start)
    assert '-  "Path": "/x",\n+  "Path": "/y",\n' in text


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        ({"hostPath": None}, ["spec: Required value: must specify a volume type"]),
        ({"accessModes": []}, ["spec.accessModes: Required value"]),
        (
            {"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"]},
            ["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
        ),
        (
            {"local": {"path": "/x"}, "hostPath": None},
            ["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        (
            {"capacity": {"storage": "-1"}, "accessModes": ["Odd"], "volumeAttributesClassName": ""},
            [
                'spec.accessModes: Unsupported value: "Odd": supported values: "ReadOnlyMany", "ReadWriteMany", '
                '"ReadWriteOnce", "ReadWriteOncePod"',
                "spec.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                'spec.capacity[storage]: Invalid value: "-1": must be greater than zero',
                "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
            ],
        ),
    ],
)
async def test_what_a_volume_may_not_say(w: KindsWorld, spec: Any, texts: list[str]) -> None:
    assert await w.wrong(w.create("persistentvolumes", volume(**spec))) == texts


async def test_a_bound_claim_may_only_grow(w: KindsWorld) -> None:
    await w.create("persistentvolumeclaims", claim())
    await w.patch("persistentvolumeclaims", "c", {"status": {"phase": "Bound"}}, "status")
    larger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    changed = await w.patch("persistentvolumeclaims", "c", larger)
    assert changed["spec"]["resources"]["requests"]["storage"] == "2Gi"
    text, mode = await w.wrong(w.patch("persistentvolumeclaims", "c", {"spec": {"volumeMode": "Block"}}))
    assert text.startswith(
        "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for "
        "bound claims\n"
    )
    assert mode == 'volumeMode: Invalid value: "Block": field is immutable'


async def test_a_storage_class_does_not_change(w: KindsWorld) -> None:
    kind = "storageclasses.storage.k8s.io"
    made = await w.create(kind, {**meta("s"), "provisioner": "example.org/p"})
    assert (made["reclaimPolicy"], made["volumeBindingMode"]) == ("Delete", "Immediate")
    change = {"provisioner": "example.org/q", "reclaimPolicy": "Retain", "volumeBindingMode": "WaitForFirstConsumer"}
    assert await w.wrong(w.patch(kind, "s", change)) == [
        "provisioner: Forbidden: updates to provisioner are forbidden.",
        "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
        'volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable',
    ]


async def test_a_driver_gets_the_defaults_of_its_kind(w: KindsWorld) -> None:
    made = await w.create("csidrivers.storage.k8s.io", {**meta("d.example.org"), "spec": {}})
    assert made["spec"] == {
        "attachRequired": True,
        "podInfoOnMount": False,
        "storageCapacity": False,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "volumeLifecycleModes": ["Persistent"],
        "requiresRepublish": False,
        "seLinuxMount": False,
    }


async def test_tokens_in_secrets_are_those_a_driver_asks_for(w: KindsWorld) -> None:
    spec: dict[str, Any] = {"serviceAccountTokenInSecrets": True}
    assert await w.wrong(w.create("csidrivers.storage.k8s.io", {**meta("d.example.org"), "spec": spec})) == [
        "spec.serviceAccountTokenInSecrets: Invalid value: true: "
        "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
    ]
    spec["tokenRequests"] = [{"audience": "a"}]
    await w.create("csidrivers.storage.k8s.io", {**meta("d.example.org"), "spec": spec})


async def test_a_new_node_may_bring_its_status(w: KindsWorld) -> None:
    made = await w.create("nodes", {**meta("n"), "status": {"capacity": {"cpu": "4"}}})
    assert made["status"]["capacity"] == made["status"]["allocatable"] == {"cpu": "4"}
    plain = await w.patch("nodes", "n", {"status": {"capacity": {"cpu": "8"}}})
    assert plain["status"]["capacity"] == {"cpu": "4"}


async def test_a_nodes_pod_range_is_given_once(w: KindsWorld) -> None:
    made = await w.create("nodes", {**meta("n"), "spec": {"podCIDR": "10.1.0.0/24"}})
    assert made["spec"]["podCIDRs"] == ["10.1.0.0/24"]
    change = {"spec": {"podCIDR": "10.2.0.0/24", "podCIDRs": ["10.2.0.0/24"]}}
    assert await w.wrong(w.patch("nodes", "n", change)) == [
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'
    ]


async def test_events_of_the_old_group_are_taken_as_they_are(w: KindsWorld) -> None:
    event = {**meta("e"), "involvedObject": {"kind": "Pod", "name": "p", "namespace": NAMESPACE}, "message": "m"}
    await w.create("events", event)
    read = w.get("events.events.k8s.io", "e")
    assert (read["note"], read["regarding"]["name"]) == ("m", "p")
    event["involvedObject"] = {"namespace": "elsewhere"}
    event["metadata"] = {"name": "f"}
    assert await w.wrong(w.create("events", event)) == [
        'involvedObject.namespace: Invalid value: "elsewhere": does not match event.namespace'
    ]


async def test_events_of_the_new_group_must_say_when_and_of_what_type(w: KindsWorld) -> None:
    event = {**meta("e"), "regarding": {"namespace": NAMESPACE}}
    assert await w.wrong(w.create("events.events.k8s.io", event)) == [
        "eventTime: Required value",
        'type: Invalid value: "": has invalid value: ',
    ]


async def test_events_of_the_new_group_change_in_their_series_alone(w: KindsWorld) -> None:
    kind, told = "events.events.k8s.io", {"action": "a", "reportingController": "c", "reportingInstance": "i"}
    when = {"eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "r"}
    await w.create(kind, {**meta("e"), "regarding": {"namespace": NAMESPACE, "name": "p"}, **told, **when})
    change = {"regarding": {"name": "q"}, "related": {"name": "r"}, "deprecatedSource": {"host": "h"}}
    rest = '"UID":"","APIVersion":"","ResourceVersion":"","FieldPath":""}: field is immutable'
    assert await w.wrong(w.patch(kind, "e", change)) == [
        f'involvedObject: Invalid value: {{"Kind":"","Namespace":"{NAMESPACE}","Name":"q",{rest}',
        'source: Invalid value: {"Component":"","Host":"h"}: field is immutable',
        f'related: Invalid value: {{"Kind":"","Namespace":"","Name":"r",{rest}',
    ]


async def test_endpoints_are_addresses_that_others_can_reach(w: KindsWorld) -> None:
    subsets = [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 0}]}, {}]
    assert await w.wrong(w.create("endpoints", {**meta("e"), "subsets": subsets})) == [
        'subsets[0].addresses[0].ip: Invalid value: "127.0.0.1": '
        "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        "subsets[1]: Required value: must specify `addresses` or `notReadyAddresses`",
    ]


async def test_a_slices_kind_of_addresses_does_not_change(w: KindsWorld) -> None:
    kind = "endpointslices.discovery.k8s.io"
    made = await w.create(kind, {**meta("e"), "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]})
    assert made["metadata"]["generation"] == 1
    texts = await w.wrong(w.patch(kind, "e", {"addressType": "FQDN", "endpoints": []}))
    assert texts == ['addressType: Invalid value: "FQDN": field is immutable']


async def test_node_affinity_of_a_volume_changes_to_later_labels_alone(w: KindsWorld) -> None:
    def affinity(key: str) -> dict[str, Any]:
        term = {"matchExpressions": [{"key": key, "operator": "In", "values": ["a"]}]}
        return {"required": {"nodeSelectorTerms": [term]}}

    old = affinity("failure-domain.beta.kubernetes.io/zone")
    await w.create("persistentvolumes", volume(nodeAffinity=old))
    await w.patch("persistentvolumes", "v", {"spec": {"nodeAffinity": affinity("topology.kubernetes.io/zone")}})
    [text] = await w.wrong(w.patch("persistentvolumes", "v", {"spec": {"nodeAffinity": affinity("other")}}))
    assert text.startswith('nodeAffinity: Invalid value: {"Required":{"NodeSelectorTerms":[{"MatchExpressions":')
    assert text.endswith(": field is immutable, except for updating from beta label to GA")


async def test_what_is_wrong_with_an_updated_class_is_told_beside_what_may_not_change(w: KindsWorld) -> None:
    await w.create("storageclasses.storage.k8s.io", {**meta("s"), "provisioner": "a.b"})
    change = {"provisioner": "a b", "reclaimPolicy": "Odd"}
    fields = [text.split(":")[0] for text in await w.wrong(w.patch("storageclasses.storage.k8s.io", "s", change))]
    assert fields == ["provisioner", "reclaimPolicy", "provisioner", "reclaimPolicy"]


async def test_attachments_and_drivers_of_nodes_are_shown_in_go_s_form(w: KindsWorld) -> None:
    source = {"persistentVolumeName": "p"}
    attachment = {**meta("a"), "spec": {"attacher": "a.b", "nodeName": "n", "source": source}}
    await w.create("volumeattachments.storage.k8s.io", attachment)
    assert await w.wrong(w.patch("volumeattachments.storage.k8s.io", "a", {"spec": {"nodeName": "m"}})) == [
        'spec: Invalid value: {"Attacher":"a.b","Source":{"PersistentVolumeName":"p","InlineVolumeSpec":null},'
        '"NodeName":"m"}: field is immutable'
    ]
    driver = {"name": "d.x", "nodeID": "n"}
    await w.create("csinodes.storage.k8s.io", {**meta("n"), "spec": {"drivers": [driver]}})
    change = {"spec": {"drivers": [{**driver, "nodeID": "m"}]}}
    assert await w.wrong(w.patch("csinodes.storage.k8s.io", "n", change)) == [
        'spec.drivers: Invalid value: {"Name":"d.x","NodeID":"m","TopologyKeys":null,"Allocatable":null}: '
        "field is immutable"
    ]


async def test_of_a_driver_without_a_name_no_more_is_told(w: KindsWorld) -> None:
    csi = {"driver": "", "volumeHandle": "h"}
    assert await w.wrong(w.create("persistentvolumes", volume(hostPath=None, csi=csi))) == [
        "spec.csi.driver: Required value"
    ]
