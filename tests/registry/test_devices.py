"""ResourceClaims, their templates, DeviceClasses and ResourceSlices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kinds_world import KindsWorld, kinds_world, meta

from kubegate.authentication import UserInfo
from kubegate.authorization import Decision, Verdict
from kubegate.registry import Context

CLAIMS, TEMPLATES = "resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io"
CLASSES, SLICES = "deviceclasses.resource.k8s.io", "resourceslices.resource.k8s.io"
ONE_OF = "exactly one of `exactly` or `firstAvailable` is required"


@pytest.fixture
async def w() -> AsyncIterator[KindsWorld]:
    async with kinds_world() as found:
        yield found


def claim(*requests: Any, **devices: Any) -> Any:
    return {**meta("c"), "spec": {"devices": {"requests": list(requests), **devices}}}


def gpu(**wanted: Any) -> Any:
    return {"name": "gpu", "exactly": {"deviceClassName": "gpus", **wanted}}


async def test_a_claim_asks_for_one_device_of_a_class_and_stays_as_it_is(w: KindsWorld) -> None:
    made = await w.create(CLAIMS, {**claim(gpu(tolerations=[{"key": "a"}])), "status": {"reservedFor": []}})
    wanted = made["spec"]["devices"]["requests"][0]["exactly"]
    assert (wanted["allocationMode"], wanted["count"], wanted["tolerations"][0]["operator"]) == (
        "ExactCount",
        1,
        "Equal",
    )
    assert made["status"] == {}
    [text] = await w.wrong(w.patch(CLAIMS, "c", {"spec": {"devices": {"requests": [gpu(count=2)]}}}))
    assert text.startswith('spec: Invalid value: {"Devices":{"Requests":[{"Name":"gpu","Exactly":{"DeviceClassName"')
    assert text.endswith(": field is immutable")


@pytest.mark.parametrize(
    ("obj", "texts"),
    [
        (claim({"name": "a"}), [f"spec.devices.requests[0]: Required value: {ONE_OF}"]),
        (
            claim({**gpu(), "firstAvailable": [{"name": "b", "deviceClassName": "c"}]}),
            [f"spec.devices.requests[0]: Invalid value: null: {ONE_OF}, but multiple fields are set"],
        ),
        (claim(gpu(), gpu()), ['spec.devices.requests[1]: Duplicate value: "gpu"']),
        (
            claim(gpu(allocationMode="All", count=1, deviceClassName="")),
            [
                "spec.devices.requests[0].exactly.deviceClassName: Required value",
                "spec.devices.requests[0].exactly.count: Invalid value: 1: "
                "must not be specified when allocationMode is 'All'",
            ],
        ),
        (
            claim(gpu(allocationMode="Some")),
            [
                'spec.devices.requests[0].exactly.allocationMode: Unsupported value: "Some": '
                'supported values: "All", "ExactCount"'
            ],
        ),
        (
            claim(gpu(tolerations=[{"operator": "Exists", "value": "v", "effect": "Never"}])),
            [
                'spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: "v": '
                "must be empty for operator `Exists`",
                'spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: "Never": '
                'supported values: "NoExecute", "NoSchedule", "None"',
            ],
        ),
        (
            claim(gpu(), constraints=[{"requests": ["other"], "matchAttribute": "model"}, {}], config=[{}]),
            [
                'spec.devices.constraints[0].requests[0]: Invalid value: "other": must be the name of a request in the '
                "claim or the name of a request and a subrequest separated by '/'",
                'spec.devices.constraints[0].matchAttribute: Invalid value: "model": must include a domain',
                'spec.devices.constraints[1]: Required value: exactly one of "matchAttribute" or "distinctAttribute" '
                "is required, but multiple fields are set",
                "spec.devices.config[0].opaque: Required value",
            ],
        ),
        (
            claim(gpu(adminAccess=True)),
            [
                "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires "
                "the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
            ],
        ),
    ],
)
async def test_claims_that_cannot_be_met_are_refused(w: KindsWorld, obj: Any, texts: list[str]) -> None:
    assert await w.wrong(w.create(CLAIMS, obj)) == texts
    template = {**meta("t"), "spec": {"spec": obj["spec"]}}
    found = await w.wrong(w.create(TEMPLATES, template))
    # the label is asked for in the words for a claim
    assert found == [text if "label" in text else text.replace("spec.devices", "spec.spec.devices") for text in texts]


async def test_selectors_of_a_class_are_expressions_over_a_device(w: KindsWorld) -> None:
    def selecting(*expressions: str) -> Any:
        return {**meta("c"), "spec": {"selectors": [{"cel": {"expression": one}} for one in expressions]}}

    good = 'device.driver == "d.example.com" && device.attributes["d.example.com"].memory > 1'
    made = await w.create(CLASSES, selecting(good))
    assert made["metadata"]["generation"] == 1
    texts = await w.wrong(w.create(CLASSES, {**selecting("device.driver", "device."), **meta("d")}))
    assert texts[0].endswith('"device.driver": must evaluate to bool or the unknown type, not string')
    assert texts[1].startswith('spec.selectors[1].cel.expression: Invalid value: "device.": compilation failed: ERROR')
    opaque = {"opaque": {"driver": "", "parameters": "x"}}
    texts = await w.wrong(w.create(CLASSES, {**meta("e"), "spec": {"config": [opaque]}}))
    assert texts[0] == "spec.config[0].opaque.driver: Required value"
    assert texts[-1].endswith('parameters: Invalid value: "<value omitted>": must be a valid JSON object')


async def test_a_slice_says_where_its_devices_can_be_used(w: KindsWorld) -> None:
    pool = {"name": "p", "resourceSliceCount": 1, "generation": 1}
    spec = {"driver": "d.example.com", "pool": pool, "nodeName": "n", "devices": [{"name": "a"}, {"name": "a"}]}
    only = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
    texts = await w.wrong(w.create(SLICES, {**meta("s"), "spec": {**spec, "allNodes": True}}))
    assert texts == [
        f'spec: Invalid value: "{{`nodeName`, `allNodes`}}": {only}, but multiple fields are set',
        'spec.devices[1]: Duplicate value: "a"',
    ]
    bad = {"driver": "d.example.com", "pool": {**pool, "name": "", "resourceSliceCount": 0, "generation": -1}}
    assert await w.wrong(w.create(SLICES, {**meta("s"), "spec": bad})) == [
        "spec.pool.name: Required value",
        "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
        "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
        f"spec: Required value: {only}",
    ]
    await w.create(SLICES, {**meta("s"), "spec": {**spec, "devices": [{"name": "a"}]}})
    assert await w.wrong(w.patch(SLICES, "s", {"spec": {"nodeName": "m"}})) == [
        'spec.nodeName: Invalid value: "m": field is immutable'
    ]


class Few:
    """Allows what is told it: `VERB SUBRESOURCE NAME`."""

    def __init__(self, *allowed: str) -> None:
        self.allowed, self.asked = allowed, list[str]()

    async def authorize(self, attributes: Any) -> Decision:
        asked = f"{attributes.verb} {attributes.subresource} {attributes.name or '-'}"
        self.asked.append(asked)
        return Decision(Verdict.ALLOW if asked in self.allowed else Verdict.NO_OPINION, "", "")


def on_node(name: str) -> dict[str, Any]:
    field = {"key": "metadata.name", "operator": "In", "values": [name]}
    return {"nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field]}]}}


def driver_of(node: str, *, patch: bool = False) -> Context:
    extra = {"authentication.kubernetes.io/node-name": (node,)} if node else {}
    options = {"kind": "PatchOptions"} if patch else {}
    return Context(UserInfo("system:serviceaccount:ns:d", extra=extra), field_manager="test", options=options)


async def test_who_allocates_a_claim_needs_a_right_of_their_own(w: KindsWorld) -> None:
    made = await w.create(CLAIMS, claim(gpu()))
    w.registry.authorizer = Few()
    bound = {**made, "status": {"allocation": on_node("n")}}
    assert await w.wrong(w.update(CLAIMS, bound, "status", driver_of("n"))) == [
        "status: Forbidden: changing status.allocation or status.reservedFor requires "
        'resource="resourceclaims/binding", verb="update" permission: resourceclaims.resource.k8s.io is forbidden: '
        'User "system:serviceaccount:ns:d" cannot update resource "resourceclaims/binding" '
        'in API group "resource.k8s.io" at the cluster scope'
    ]
    w.registry.authorizer = Few("patch binding -")
    changed = {"status": {"allocation": on_node("n")}}
    await w.patch(CLAIMS, "c", changed, "status", driver_of("n", patch=True))
    w.registry.authorizer = few = Few()
    await w.patch(CLAIMS, "c", changed, "status", driver_of("n", patch=True))
    assert few.asked == []  # nothing changes


async def test_a_driver_tells_of_its_own_devices_on_its_own_node(w: KindsWorld) -> None:
    made = await w.create(CLAIMS, claim(gpu()))
    made = await w.update(CLAIMS, {**made, "status": {"allocation": on_node("n")}}, "status")

    def telling(*drivers: str) -> Any:
        told = [{"driver": driver, "pool": "p", "device": "d"} for driver in drivers]
        return {**made, "status": {**made["status"], "devices": told}}

    for node, asked in (("n", ["associated-node:update", "arbitrary-node:update"]), ("m", ["arbitrary-node:update"])):
        w.registry.authorizer = few = Few()
        [text] = await w.wrong(w.update(CLAIMS, telling("a"), "status", driver_of(node)))
        assert few.asked == [f"{verb} driver a" for verb in asked]
        assert text == (
            'status.devices: Forbidden: changing status.devices requires resource="resourceclaims/driver", '
            f'verb="[{" ".join(asked)}]" permission: resourceclaims.resource.k8s.io "a" is forbidden: '
            f'User "system:serviceaccount:ns:d" cannot {asked[0]} resource "resourceclaims/driver" '
            'in API group "resource.k8s.io" in the namespace "ns"'
        )
    w.registry.authorizer = Few("associated-node:update driver a")
    assert len(await w.wrong(w.update(CLAIMS, telling("a", "b"), "status", driver_of("n")))) == 1
    made = await w.update(CLAIMS, telling("a"), "status", driver_of("n"))
    w.registry.authorizer = Few("arbitrary-node:update driver b")
    await w.update(CLAIMS, telling("a", "b"), "status", driver_of(""))


async def test_access_to_devices_that_others_use_is_given_in_namespaces_for_it(w: KindsWorld) -> None:
    made = await w.create(CLAIMS, claim(gpu()))
    given = {**made, "status": {"allocation": {"devices": {"results": [{"request": "gpu", "adminAccess": True}]}}}}
    [text] = await w.wrong(w.update(CLAIMS, given, "status"))
    assert text.startswith("status.allocation.devices.results[0].adminAccess: Forbidden: admin access to devices")
