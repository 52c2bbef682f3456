"""MutatingAdmissionPolicy: apply configurations and JSON patches, in which order, and what refuses them."""

from __future__ import annotations

from typing import Any

import pytest
from admission_world import ADMIN, World, attributes, pod, run

from kubegate.admission import Operation
from kubegate.admission.chain import Chain
from kubegate.api import Object
from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo

GROUP = "admissionregistration.k8s.io"
POLICIES, BINDINGS = f"mutatingadmissionpolicies.{GROUP}", f"mutatingadmissionpolicybindings.{GROUP}"
RULE = {
    "operations": ["CREATE", "UPDATE"],
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["configmaps", "pods"],
    "scope": "*",
}


def config_map(name: str = "c", **data: str) -> Object:
    metadata = {"name": name, "namespace": "ns"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def apply(expression: str) -> Object:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patch(expression: str) -> Object:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


class Policies:
    """A chain of the plugin alone, and ways to write policies for it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chain: Chain = world.chain("MutatingAdmissionPolicy")

    def policy(self, *mutations: Object, name: str = "p", **spec: Any) -> None:
        """A policy with a binding of the same name."""
        constraints = {"resourceRules": [RULE], "matchPolicy": "Equivalent"}
        reference = {"paramRef": spec.pop("paramRef")} if "paramRef" in spec else {}
        spec = {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": constraints,
            "mutations": list(mutations),
            **spec,
        }
        self.world.objects.put(POLICIES, {"metadata": {"name": name}, "spec": spec})
        self.world.objects.put(BINDINGS, {"metadata": {"name": name}, "spec": {"policyName": name, **reference}})

    async def made(self, obj: Object, old: Object | None = None, *, user: UserInfo = ADMIN) -> Object:
        resource = {"ConfigMap": "configmaps", "Pod": "pods"}[obj["kind"]]
        return await run(self.chain, attributes(resource, obj, old, user=user))

    async def data(self, **data: str) -> Any:
        return (await self.made(config_map(**data))).get("data")

    async def refused(self, obj: Object) -> StatusError:
        with pytest.raises(StatusError) as caught:
            await self.made(obj)
        return caught.value

    async def said(self, obj: Object) -> str:
        return (await self.refused(obj)).message.partition(" denied request: ")[2]


@pytest.fixture
def policies(world: World) -> Policies:
    return Policies(world)


# --- apply configurations


async def test_a_configuration_is_laid_over_the_object(policies: Policies) -> None:
    policies.policy(apply("Object{metadata: Object.metadata{labels: {'by': 'p'}}, data: {'b': object.data.a + '!'}}"))
    made = await policies.made(config_map(a="1"))
    assert made == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "ns", "labels": {"by": "p"}},
        "data": {"a": "1", "b": "1!"},
    }


async def test_items_of_keyed_lists_are_merged_by_their_keys(policies: Policies) -> None:
    policies.policy(
        apply(
            "Object{spec: Object.spec{"
            "containers: object.spec.containers.map(c,"
            " Object.spec.containers{name: c.name, imagePullPolicy: 'Always'}),"
            "initContainers: [Object.spec.initContainers{name: 'proxy', image: 'mesh', restartPolicy: 'Always'}]}}"
        )
    )
    first = {"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}
    made = await policies.made(pod(containers=[first, {"name": "b", "image": "y"}]))
    assert made["spec"]["containers"] == [
        {**first, "imagePullPolicy": "Always"},
        {"name": "b", "image": "y", "imagePullPolicy": "Always"},
    ]
    assert made["spec"]["initContainers"] == [{"name": "proxy", "image": "mesh", "restartPolicy": "Always"}]


async def test_atomic_lists_are_not_replaced_unawares(policies: Policies) -> None:
    policies.policy(
        apply("Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', command: ['sh', '-c']}]}}")
    )
    assert await policies.said(pod()) == (
        "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: "
        ".spec.containers[0].command"
    )
    policies.policy(
        apply("Object{spec: Object.spec{tolerations: [Object.spec.tolerations{key: 'k'}], nodeSelector: {'a': 'b'}}}")
    )
    assert (await policies.said(pod())).endswith(": .spec.tolerations, .spec.nodeSelector")


async def test_an_object_that_does_not_fit_its_kind_is_not_applied_to(policies: Policies) -> None:
    policies.policy(apply("Object{metadata: Object.metadata{labels: {'a': 'b'}}}"))
    assert await policies.said({**config_map(), "data": "x"}) == (
        "error applying patch: failed to convert original object to typed object: .data: expected map, got &{x}"
    )


async def test_fields_that_the_kind_does_not_have_are_refused(policies: Policies) -> None:
    policies.policy(apply("Object{spce: Object.spce{x: 1}}"))
    assert await policies.said(config_map()) == (
        "error applying patch: failed to convert patch object to typed object: .spce: field not declared in schema"
    )


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("null", ".spec.nodeName: expected string, got &value.valueUnstructured{Value:0}"),
        ("b'ab'", ".spec.nodeName: expected string, got &value.valueUnstructured{Value:[]uint8{0x61, 0x62}}"),
    ],
)
async def test_values_that_are_no_json_fit_no_field(policies: Policies, value: str, told: str) -> None:
    policies.policy(apply(f"Object{{spec: Object.spec{{nodeName: {value}}}}}"))
    failed = "error applying patch: failed to convert patch object to typed object: "
    assert await policies.said(pod()) == failed + told
    policies.policy(apply("Object{spec: Object.spec{priority: 5u}}"))
    assert await policies.said(pod()) == f"{failed}.spec.priority: expected numeric (int or float), got uint64"
    policies.policy(apply("Object{spec: Object.spec{hostNetwork: null}}"))
    assert await policies.said(pod()) == f"{failed}.spec.hostNetwork: expected boolean, got &{{NULL_VALUE}}"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("{1: 2}", "unsupported type conversion from 'int' to string"),
        ("{true: 2}", "type conversion error from bool to 'string'"),
        ("optional.none()", "optional.none() dereference"),
        ("quantity('1')", "type conversion error from 'Quantity' to '*structpb.Value'"),
        ("type(1)", "type conversion not supported for 'type'"),
        ("double('NaN')", "json: error calling MarshalJSON for type *structpb.Value: proto: "
         "google.protobuf.Value.number_value: invalid NaN value"),
    ],
)  # fmt: skip
async def test_values_of_patches_that_have_no_json_are_refused(policies: Policies, value: str, told: str) -> None:
    policies.policy(patch(f"[JSONPatch{{op: 'add', path: '/data/x', value: {value}}}]"))
    failed = "JSONPath valueExpression evaluated to a type that could not marshal to JSON: "
    assert await policies.said(config_map()) == failed + told


async def test_numbers_of_patches_that_no_double_holds_are_texts(policies: Policies) -> None:
    large = "JSONPatch{op: 'add', path: '/data/x', value: 9007199254740993}"
    policies.policy(patch(f"[{large}, JSONPatch{{op: 'add', path: '/data/y', value: optional.of('b')}}]"))
    assert await policies.data() == {"x": "9007199254740993", "y": "b"}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            "spec: Object.spec{containers: [{'name': 'x', 'image': 'i'}]}",
            ".spec.containers: element 0: associative list with keys may not have non-map elements",
        ),
        (
            "metadata: Object.metadata{finalizers: 'a/b,c/d'.split(',')}",
            ".metadata.finalizers: expected list, got &{[a/b c/d]}",
        ),
        (
            "metadata: Object.metadata{annotations: {'k': {'b': 'x', 'a': 'y'}}}",
            ".metadata.annotations.k: expected string, got "
            '&value.valueUnstructured{Value:map[ref.Val]ref.Val{"a":"y", "b":"x"}}',
        ),
        (
            "metadata: Object.metadata{annotations: {'k': object.metadata.name.split('').sort()}}",
            '.metadata.annotations.k: expected string, got &value.valueUnstructured{Value:[]ref.Val{"p"}}',
        ),
        (
            "metadata: Object.metadata{labels: {1: 'a'}}",
            ".metadata: expected map, got &{fail to convert field \"labels\": map key '\\x01' is of type types.Int, "
            "not string}",
        ),
        (
            "metadata: Object.metadata{finalizers: [null]}",
            ".metadata.finalizers[={{undefined}}]: expected string, got &value.valueUnstructured{Value:0}",
        ),
        (
            "spec: Object.spec{priority: duration('90m')}",
            ".spec.priority: expected numeric (int or float), got time.Duration",
        ),
        (
            "spec: Object.spec{overhead: duration('90m')}",
            ".spec.overhead: expected map, got &{1h30m0s}",
        ),
        (
            "spec: Object.spec{overhead: timestamp('2024-01-01T00:00:00+02:00')}",
            ".spec.overhead: expected map, got &{2024-01-01 00:00:00 +0200 +0200}",
        ),
        ("spec: Object.spec{overhead: quantity('1Gi')}", ".spec.overhead: expected map, got &{1Gi}"),
    ],
)
async def test_lists_and_maps_within_others_are_no_values_of_objects(
    policies: Policies, fields: str, told: str
) -> None:
    policies.policy(apply(f"Object{{{fields}}}"))
    failed = "error applying patch: failed to convert patch object to typed object: "
    assert await policies.said(pod()) == failed + told


async def test_lists_and_maps_of_the_object_are(policies: Policies) -> None:
    policies.policy(
        apply(
            "Object{metadata: Object.metadata{annotations: {'n': object.spec.containers.map(c, c.name)[0]}, "
            "finalizers: ['a/b', 'a/c'].filter(f, f != 'a/c')}, spec: Object.spec{containers: "
            "object.spec.containers.map(c, Object.spec.containers{name: c.name, image: 'other'})}}"
        )
    )
    made = await policies.made(pod())
    assert made["metadata"]["annotations"] == {"n": "c"}
    assert made["metadata"]["finalizers"] == ["a/b"]
    assert [container["image"] for container in made["spec"]["containers"]] == ["other"]


async def test_match_conditions_know_nothing_of_the_namespace(policies: Policies) -> None:
    policies.world.objects.put("namespaces", {"metadata": {"name": "ns", "labels": {"env": "x"}}})
    condition = {"name": "c", "expression": "namespaceObject.metadata.labels.env == 'x'"}
    policies.policy(apply("Object{data: {'a': '1'}}"), matchConditions=[condition])
    assert await policies.said(config_map()) == (
        "expression 'namespaceObject.metadata.labels.env == 'x'' resulted in error: no such key: metadata"
    )


async def test_an_object_under_the_wrong_name_is_refused(policies: Policies) -> None:
    policies.policy(apply("Object{metadata: Object.spec{labels: {'a': 'b'}}}"))
    assert await policies.said(config_map()) == (
        'type mismatch: unexpected type name "Object.spec", expected "Object.metadata", '
        "which matches field name path from root Object type"
    )


# --- JSON patches


async def test_a_patch_is_applied(policies: Policies) -> None:
    policies.policy(
        patch(
            "[JSONPatch{op: 'add', path: '/metadata/labels', value: {}},"
            " JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.org/by'), value: 'p'},"
            " JSONPatch{op: 'copy', from: '/data/a', path: '/data/b'},"
            " JSONPatch{op: 'move', from: '/data/a', path: '/data/c'},"
            " JSONPatch{op: 'replace', path: '/data/b', value: 'new'},"
            " JSONPatch{op: 'remove', path: '/data/x'}]"
        )
    )
    made = await policies.made(config_map(a="1", x="y"))
    assert made["data"] == {"b": "new", "c": "1"}
    assert made["metadata"]["labels"] == {"example.org/by": "p"}


async def test_values_of_patches_may_be_objects(policies: Policies) -> None:
    policies.policy(
        patch(
            "[JSONPatch{op: 'add', path: '/spec/containers/-',"
            " value: Object.spec.containers{name: 'proxy', image: 'mesh', ports:"
            " [Object.spec.containers.ports{containerPort: 80}]}}]"
        )
    )
    made = await policies.made(pod())
    assert made["spec"]["containers"][1] == {"name": "proxy", "image": "mesh", "ports": [{"containerPort": 80}]}


async def test_a_test_that_fails_leaves_the_object_as_it_is(policies: Policies) -> None:
    policies.policy(
        patch("[JSONPatch{op: 'test', path: '/data/a', value: '2'}, JSONPatch{op: 'add', path: '/data/b', value: 'x'}]")
    )
    assert await policies.data(a="1") == {"a": "1"}
    assert await policies.data(a="2") == {"a": "2", "b": "x"}


async def test_a_patch_that_cannot_be_applied_is_refused_with_its_reason(policies: Policies) -> None:
    policies.policy(patch("[JSONPatch{op: 'remove', path: '/data/none'}]"))
    error = await policies.refused(config_map())
    text = (
        "policy 'p' with binding 'p' denied request: JSON Patch: error in remove for path: '/data/none': "
        "Unable to remove nonexistent key: none: missing value"
    )
    assert (error.code, error.reason, error.message) == (403, "Invalid", text)
    assert error.details == {"name": "c", "kind": "configmaps", "causes": [{"message": text}]}


# --- one after the other


async def test_policies_go_by_name_and_mutations_in_order_and_each_sees_what_those_before_made(
    policies: Policies,
) -> None:
    def add(letter: str) -> Object:
        return apply(f"Object{{data: {{'order': object.data.order + '{letter}'}}}}")

    policies.policy(add("c"), name="second")
    policies.policy(add("a"), add("b"), name="first")
    assert await policies.data(order="") == {"order": "abc"}


async def test_a_policy_is_asked_again_when_another_changed_the_object_after_it(policies: Policies) -> None:
    policies.policy(
        apply("Object{data: {'a': 'b' in object.data ? 'after b' : 'before b'}}"),
        name="a",
        reinvocationPolicy="IfNeeded",
    )
    policies.policy(apply("Object{data: {'b': 'x', 'n': object.data.n + '1'}}"), name="b")
    assert await policies.data(n="") == {"a": "after b", "b": "x", "n": "1"}
    policies.policy(apply("Object{data: {'a': 'b' in object.data ? 'after b' : 'before b'}}"), name="a")
    assert await policies.data(n="") == {"a": "before b", "b": "x", "n": "1"}


async def test_a_policy_that_wants_it_is_asked_again_after_its_own_change(policies: Policies) -> None:
    count = apply("Object{data: {'n': object.data.n + '1'}}")
    policies.policy(count, reinvocationPolicy="IfNeeded")
    assert await policies.data(n="") == {"n": "11"}
    policies.policy(count, reinvocationPolicy="Never")
    assert await policies.data(n="") == {"n": "1"}


async def test_each_parameter_makes_its_own_change(policies: Policies) -> None:
    for name in ("one", "two"):
        policies.world.objects.put("configmaps", config_map(name, key=name))
    policies.policy(
        apply("Object{data: {params.data.key: 'here'}}"),
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        paramRef={"selector": {}, "parameterNotFoundAction": "Deny"},
    )
    assert await policies.data() == {"one": "here", "two": "here"}


async def test_variables_conditions_and_the_request_are_known(policies: Policies) -> None:
    policies.world.allowed.add(("jane", "get", "secrets", ""))
    policies.policy(
        apply("Object{data: {'by': variables.who, 'may': string(variables.may)}}"),
        variables=[
            {"name": "who", "expression": "request.userInfo.username"},
            {"name": "may", "expression": "authorizer.group('').resource('secrets').check('get').allowed()"},
        ],
        matchConditions=[{"name": "x", "expression": "'x' in object.data && request.namespace == 'ns'"}],
    )
    jane = UserInfo("jane")
    assert (await policies.made(config_map(), user=jane))["data"] == {}
    assert (await policies.made(config_map(x="y"), user=jane))["data"] == {"x": "y", "by": "jane", "may": "true"}


async def test_nothing_is_mutated_when_it_is_deleted(policies: Policies) -> None:
    policies.policy(apply("Object{data: {'a': '1'}}"))
    await run(policies.chain, attributes("configmaps", None, config_map(), operation=Operation.DELETE))


async def test_policies_are_not_mutated(policies: Policies) -> None:
    everything = {**RULE, "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}
    policies.policy(
        apply("Object{metadata: Object.metadata{labels: {'a': 'b'}}}"),
        matchConstraints={"resourceRules": [everything]},
    )
    made = await run(policies.chain, attributes(POLICIES, {"metadata": {"name": "x"}}))
    assert made == {"metadata": {"name": "x"}}


# --- failures


async def test_what_fails_refuses_or_is_left_out_as_the_failure_policy_says(policies: Policies) -> None:
    policies.policy(apply("Object{data: {'z': object.data.missing}}"), apply("Object{data: {'y': 'done'}}"))
    assert await policies.said(config_map()) == (
        "expression 'Object{data: {'z': object.data.missing}}' resulted in error: no such key: missing"
    )
    policies.policy(
        apply("Object{data: {'z': object.data.missing}}"),
        apply("Object{data: {'y': 'done'}}"),
        failurePolicy="Ignore",
    )
    assert await policies.data() == {"y": "done"}


async def test_all_failures_are_causes_and_the_first_is_told(policies: Policies) -> None:
    policies.policy(apply("Object{data: {'z': object.data.one}}"), apply("Object{data: {'z': object.data.two}}"))
    error = await policies.refused(config_map())
    assert error.message.endswith("no such key: one")
    causes = (error.details or {})["causes"]
    assert [cause["message"].rpartition(" ")[2] for cause in causes] == ["one", "two"]


async def test_an_expression_that_yields_something_else_is_refused(policies: Policies) -> None:
    policies.policy(apply("'text'"))
    assert await policies.said(config_map()) == "compilation error: must evaluate to Object but got string"
    policies.policy(patch("[1]"))
    assert await policies.said(config_map()) == "compilation error: must evaluate to list(JSONPatch) but got list(int)"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "paramRef": {"name": "none", "parameterNotFoundAction": "Deny"},
            },
            "policy 'p' with binding 'p' denied request: failed to configure binding: no params found for policy "
            "binding with `Deny` parameterNotFoundAction",
        ),
        (
            {"paramKind": {"apiVersion": "v1", "kind": "Nothing"}},
            'policy "p" denied request: failed to configure policy: failed to find resource referenced by paramKind: '
            "'/v1, Kind=Nothing'",
        ),
    ],
)
async def test_what_cannot_be_configured_is_forbidden(policies: Policies, spec: Object, message: str) -> None:
    policies.policy(apply("Object{data: {'a': 'b'}}"), **spec)
    error = await policies.refused(config_map())
    assert (error.code, error.reason, error.message) == (403, "Forbidden", message)
    policies.policy(apply("Object{data: {'a': object.data.none}}"))
    error = await policies.refused(config_map())
    assert (error.code, error.reason) == (403, "Invalid")
