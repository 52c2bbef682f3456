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
                'spec.devices.constraints[0].matchAttribute: Invalid value: "model": '
                "a fully qualified name must be a domain and a name separated by a slash",
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


def result(**fields: Any) -> dict[str, Any]:
    return {"request": "gpu", "driver": "d.example.com", "pool": "p", "device": "d", **fields}


def given(*results: Any, **allocation: Any) -> dict[str, Any]:
    return {"devices": {"results": list(results), **allocation}}


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
    allocation = {**on_node("n"), **given(result(driver="a"), result(driver="b"))}
    made = await w.update(CLAIMS, {**made, "status": {"allocation": allocation}}, "status")

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
    status = {"allocation": given({"request": "gpu", "adminAccess": True})}
    [text] = await w.wrong(w.update(CLAIMS, {**made, "status": status}, "status"))
    assert text.startswith("status.allocation.devices.results[0].adminAccess: Forbidden: admin access to devices")


async def test_a_claim_is_given_devices_for_what_it_requests(w: KindsWorld) -> None:
    made = await w.create(CLAIMS, claim(gpu()))
    bad = given(
        result(request="other/more", driver="", pool="a/B", shareID="1-2", bindingConditions=["a", "a"]),
        config=[{"source": "FromPod", "requests": ["gpu", "gpu"]}],
    )
    allocation = {**bad, "nodeSelector": {"nodeSelectorTerms": []}}
    texts = await w.wrong(w.update(CLAIMS, {**made, "status": {"allocation": allocation}}, "status"))
    here = "status.allocation.devices.results[0]"
    assert texts[:2] == [
        f'{here}.request: Invalid value: "other/more": must be the name of a request in the claim '
        "or the name of a request and a subrequest separated by '/'",
        f"{here}.driver: Required value",
    ]
    assert texts[2].startswith(f'{here}.pool: Invalid value: "B": a lowercase RFC 1123 subdomain')
    assert texts[3:] == [
        f'{here}.bindingConditions[1]: Duplicate value: "a"',
        f"{here}.bindingFailureConditions: Invalid value: null: "
        "bindingFailureConditions are required to use bindingConditions",
        f'{here}.shareID: Invalid value: "1-2": error validating uid: invalid UUID length: 3',
        'status.allocation.devices.config[0].source: Unsupported value: "FromPod": '
        'supported values: "FromClaim", "FromClass"',
        'status.allocation.devices.config[0].requests[1]: Duplicate value: "gpu"',
        "status.allocation.devices.config[0].opaque: Required value",
        "status.allocation.nodeSelector.nodeSelectorTerms: Required value: must have at least one node selector term",
    ]
    await w.update(CLAIMS, {**made, "status": {"allocation": given(result())}}, "status")
    [text] = await w.wrong(w.patch(CLAIMS, "c", {"status": {"allocation": given(result(pool="q"))}}, "status"))
    assert text.startswith('status.allocation: Invalid value: {"Devices":{"Results":[{"Request":"gpu","Driver":')
    assert text.endswith(
        '"ConsumedCapacity":null}],"Config":null},"NodeSelector":null,"AllocationTimestamp":null}: field is immutable'
    )


async def test_a_claim_is_reserved_for_those_who_are_told_apart_once_it_is_allocated(w: KindsWorld) -> None:
    made = await w.create(CLAIMS, {**claim(gpu()), "metadata": {"name": "c", "namespace": "ns", "finalizers": ["a/b"]}})
    users = [{"resource": "pods", "name": name, "uid": "u"} for name in ("a", "")]
    assert await w.wrong(w.update(CLAIMS, {**made, "status": {"reservedFor": users}}, "status")) == [
        "status.reservedFor[1].name: Required value",
        'status.reservedFor[1]: Duplicate value: "u"',
        "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
    ]
    status = {"allocation": given(result()), "reservedFor": users[:1]}
    await w.update(CLAIMS, {**made, "status": status}, "status")
    await w.delete(CLAIMS, "c")
    more = {"status": {"reservedFor": [*users[:1], {"resource": "pods", "name": "b", "uid": "v"}]}}
    assert await w.wrong(w.patch(CLAIMS, "c", more, "status")) == [
        "status.reservedFor: Forbidden: "
        "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
    ]


async def test_drivers_tell_of_the_devices_that_a_claim_has_got(w: KindsWorld) -> None:
    made = await w.create(CLAIMS, claim(gpu()))
    mine = {name: value for name, value in result().items() if name != "request"}
    network = {"interfaceName": "e" * 257, "ips": ["10.0.0.1", "10.0.00.1/24", "::1/128"]}
    told = [{**mine, "data": [1], "networkData": network, "conditions": [{"type": "Ready"}]}, {**mine, "pool": "q"}]
    status = {"allocation": given(result()), "devices": [*told, mine]}
    assert await w.wrong(w.update(CLAIMS, {**made, "status": status}, "status")) == [
        'status.devices[0].conditions[0].status: Unsupported value: "": supported values: "False", "True", "Unknown"',
        "status.devices[0].conditions[0].lastTransitionTime: Required value: must be set",
        "status.devices[0].conditions[0].reason: Required value",
        'status.devices[0].data: Invalid value: "<value omitted>": must be a valid JSON object',
        "status.devices[0].networkData.interfaceName: Too long: may not be more than 256 bytes",
        'status.devices[0].networkData.ips[0]: Invalid value: "10.0.0.1": '
        "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
        'status.devices[0].networkData.ips[1]: Invalid value: "10.0.00.1/24": '
        'must be in canonical form ("10.0.0.1/24")',
        'status.devices[1]: Invalid value: {"Driver":"d.example.com","Pool":"q","Device":"d","ShareID":""}: '
        "must be an allocated device in the claim",
        'status.devices[2]: Duplicate value: {"Driver":"d.example.com","Pool":"p","Device":"d","ShareID":""}',
    ]
    status = {"allocation": given(result()), "devices": [mine]}
    await w.update(CLAIMS, {**made, "status": status}, "status")
    left = await w.patch(CLAIMS, "c", {"status": {"allocation": None}}, "status")
    assert left["status"] == {}  # what was told of them goes with the devices


POOL = {"name": "p", "resourceSliceCount": 1, "generation": 1}


def offering(*offered: Any, **spec: Any) -> Any:
    base = {"driver": "d.example.com", "pool": POOL, "nodeName": "n"}
    return {**meta("s"), "spec": {**base, "devices": list(offered), **spec}}


def capacity(policy: Any) -> Any:
    return {
        "name": "d",
        "allowMultipleAllocations": True,
        "capacity": {"memory": {"value": "4Gi", "requestPolicy": policy}},
    }


@pytest.mark.parametrize(
    ("device", "texts"),
    [
        (
            {"attributes": {"a-b": {"int": 1}, "/c": {"bool": True, "string": "s"}, "d": {}, "e": {"version": "1.0"}}},
            [
                'attributes[/c]: Invalid value: "": the domain must not be empty',
                'attributes[/c]: Invalid value: {"IntValue":null,"BoolValue":true,"StringValue":"s",'
                '"VersionValue":null,"IntValues":null,"BoolValues":null,"StringValues":null,"VersionValues":null}: '
                "exactly one value must be specified",
                'attributes[a-b]: Invalid value: "a-b": a valid C identifier must start with alphabetic character or '
                "'_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or "
                "'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
                'attributes[d]: Invalid value: "": exactly one value must be specified',
                'attributes[e].version: Invalid value: "1.0": must be a string compatible with semver.org spec 2.0.0',
            ],
        ),
        (
            {"capacity": {"memory": {"value": "1Gi", "requestPolicy": {"default": "1Gi"}}}},
            ["capacity[memory].requestPolicy: Forbidden: allowMultipleAllocations must be true"],
        ),
        (
            {
                "taints": [{"key": "", "effect": "Never"}],
                "consumesCounters": [{}, {"counterSet": "A", "counters": {"b": {"value": "1"}}}],
            },
            [
                'taints[0].key: Invalid value: "": name part must be non-empty',
                'taints[0].key: Invalid value: "": name part must consist of alphanumeric characters, '
                "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  "
                "or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                'taints[0].effect: Unsupported value: "Never": supported values: "NoExecute", "NoSchedule", "None"',
                "consumesCounters[0].counterSet: Required value",
                "consumesCounters[0].counters: Required value",
                'consumesCounters[1].counterSet: Invalid value: "A": a lowercase RFC 1123 label must consist of lower '
                "case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. "
                "'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (
            {"nodeName": "n"},
            [
                "Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if "
                "`perDeviceNodeSelection` is set to true in the ResourceSlice spec"
            ],
        ),
        (
            capacity({"validValues": ["2Gi", "1Gi", "8Gi"], "default": "3Gi"}),
            [
                'capacity[memory].requestPolicy.validValues[1]: Invalid value: "1Gi": '
                "values must be sorted in ascending order",
                'capacity[memory].requestPolicy.validValues[2]: Invalid value: "8Gi": '
                "option is larger than capacity value: 4Gi",
                'capacity[memory].requestPolicy.validValues: Invalid value: "3Gi": '
                "default value is not valid according to the requestPolicy",
            ],
        ),
        (
            capacity({"validRange": {"min": "2Gi", "max": "5Gi", "step": "3Gi"}, "default": "1Gi"}),
            [
                'capacity[memory].requestPolicy.validRange.min: Invalid value: "1Gi": default is less than min: 2Gi',
                'capacity[memory].requestPolicy.validRange.max: Invalid value: "5Gi": '
                "max is larger than capacity value: 4Gi",
                'capacity[memory].requestPolicy.validRange.step: Invalid value: "3Gi": '
                "one step 5Gi is larger than capacity value: 4Gi",
                'capacity[memory].requestPolicy.validRange.step: Invalid value: "1Gi": '
                "value is not a multiple of a given step (3Gi) from (2Gi)",
            ],
        ),
        (
            capacity({"validRange": {}}),
            ["capacity[memory].requestPolicy.default: Required value: required when validRange is defined"],
        ),
    ],
)
async def test_the_devices_of_a_slice_are_told_as_claims_can_ask_for_them(
    w: KindsWorld, device: Any, texts: list[str]
) -> None:
    found = await w.wrong(w.create(SLICES, offering({"name": "d", **device})))
    path = "spec.devices[0]"
    assert found == [f"{path}: {text}" if text.startswith("Invalid") else f"{path}.{text}" for text in texts]


async def test_devices_may_say_themselves_where_they_can_be_used(w: KindsWorld) -> None:
    where = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set"
    spec = {"nodeName": None, "perDeviceNodeSelection": True}
    obj = offering(
        {"name": "a"}, {"name": "b", "nodeName": "n", "allNodes": True}, {"name": "c", "nodeName": ""}, **spec
    )
    rest = "to true in the ResourceSlice spec"
    assert await w.wrong(w.create(SLICES, obj)) == [
        f"spec.devices[0]: Required value: {where} {rest}",
        f'spec.devices[1]: Invalid value: "{{`nodeName`, `allNodes`}}": {where} {rest}',
        'spec.devices[2].nodeName: Invalid value: "": must not be empty',
        f"spec.devices[2]: Required value: {where} {rest}",
    ]
    terms = [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}] * 2
    obj = offering(nodeName=None, nodeSelector={"nodeSelectorTerms": terms})
    [text] = await w.wrong(w.create(SLICES, obj))
    assert text.startswith('spec.nodeSelector.nodeSelectorTerms: Invalid value: [{"MatchExpressions":[{"Key":"a"')
    assert text.endswith("]: must have exactly one node selector term")


async def test_counters_that_devices_share_stand_in_a_slice_of_their_own(w: KindsWorld) -> None:
    counters = [{"name": "a", "counters": {"B": {"value": "1"}}}, {"name": "a"}]
    texts = await w.wrong(w.create(SLICES, offering({"name": "d"}, sharedCounters=counters)))
    assert texts[0] == 'spec: Invalid value: "": only one of `sharedCounters` or `devices` is allowed'
    assert texts[1].startswith('spec.sharedCounters[0].counters[B]: Invalid value: "B": a lowercase RFC 1123 label')
    assert texts[2:] == [
        "spec.sharedCounters[1].counters: Required value",
        'spec.sharedCounters[1]: Duplicate value: "a"',
    ]


async def test_an_extended_resource_that_a_class_stands_for_has_a_domain(w: KindsWorld) -> None:
    assert await w.wrong(w.create(CLASSES, {**meta("c"), "spec": {"extendedResourceName": "gpu"}})) == [
        'spec.extendedResourceName: Invalid value: "gpu": must be a valid extended resource name'
    ]
    await w.create(CLASSES, {**meta("c"), "spec": {"extendedResourceName": "example.com/gpu"}})
