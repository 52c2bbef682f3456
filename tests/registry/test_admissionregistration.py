"""Webhook configurations and admission policies: what is filled in, and what is refused in which words."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rbac_world import ADMIN, World, context, role, rule
from rbac_world import world as a_world

from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo

Object = dict[str, Any]

RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
HOOK: Object = {
    "name": "a.example.com",
    "clientConfig": {"url": "https://example.com/check"},
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    "rules": [RULE],
}
VALIDATION = {"expression": "object.metadata.name != 'x'"}
SPEC: Object = {"matchConstraints": {"resourceRules": [RULE]}, "validations": [VALIDATION]}
MUTATION = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}
MUTATING_SPEC: Object = {
    "matchConstraints": {"resourceRules": [RULE]},
    "mutations": [MUTATION],
    "reinvocationPolicy": "Never",
}
BINDING: Object = {"policyName": "p", "validationActions": ["Deny"]}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as found:
        yield found


def changed(original: Object, **changes: Any) -> Object:
    """A copy with other values; a name with dots (as `__`) goes into nested objects, `...` removes."""
    made = copy.deepcopy(original)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is ...:
            place.pop(last)
        else:
            place[last] = value
    return made


async def create(world: World, resource: str, body: Object, user: UserInfo = ADMIN) -> Object:
    obj = {"metadata": {"name": "n"}, **body}
    return await world.create(f"{resource}.admissionregistration.k8s.io", obj, user)


async def refused(world: World, resource: str, body: Object, user: UserInfo = ADMIN) -> list[str]:
    """`field: message` of every cause."""
    with pytest.raises(StatusError) as caught:
        await create(world, resource, body, user)
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    causes = (caught.value.details or {})["causes"]
    return [f"{cause['field']}: {cause['message']}" for cause in causes]


# --- webhook configurations


async def test_webhooks_are_completed(world: World) -> None:
    service = changed(HOOK, clientConfig={"service": {"name": "s", "namespace": "ns"}})
    made = await create(world, "mutatingwebhookconfigurations", {"webhooks": [service]})
    assert made["metadata"]["generation"] == 1
    assert made["webhooks"] == [
        {
            **HOOK,
            "clientConfig": {"service": {"name": "s", "namespace": "ns", "port": 443}},
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "reinvocationPolicy": "Never",
            "rules": [{**RULE, "scope": "*"}],
            "timeoutSeconds": 10,
        }
    ]
    made = await create(world, "validatingwebhookconfigurations", {"webhooks": [HOOK]})
    assert "reinvocationPolicy" not in made["webhooks"][0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": ""}, ["name: Required value"]),
        (
            {"name": "short"},
            ['name: Invalid value: "short": should be a domain with at least three segments separated by dots'],
        ),
        ({"sideEffects": ...}, ["sideEffects: Required value: must specify one of None, NoneOnDryRun"]),
        ({"sideEffects": "Some"}, ['sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"']),
        (
            {"timeoutSeconds": 31},
            ["timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"],
        ),
        ({"failurePolicy": "x"}, ['failurePolicy: Unsupported value: "x": supported values: "Fail", "Ignore"']),
        ({"matchPolicy": "x"}, ['matchPolicy: Unsupported value: "x": supported values: "Equivalent", "Exact"']),
        (
            {"reinvocationPolicy": "x"},
            ['reinvocationPolicy: Unsupported value: "x": supported values: "IfNeeded", "Never"'],
        ),
        (
            {"admissionReviewVersions": []},
            ["admissionReviewVersions: Required value: must specify one of v1, v1beta1"],
        ),
        (
            {"admissionReviewVersions": ["v9"]},
            ['admissionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1'],
        ),
        (
            {"admissionReviewVersions": ["v1", "v1"]},
            ['admissionReviewVersions[1]: Invalid value: "v1": duplicate version'],
        ),
        (
            {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            ["namespaceSelector.matchExpressions[0].values: Required value: "
             "must be specified when `operator` is 'In' or 'NotIn'"],
        ),
        ({"matchConditions": [{"name": "x", "expression": ""}]}, ["matchConditions[0].expression: Required value"]),
        (
            {"matchConditions": [{"name": "x", "expression": "params == null"}]},
            ['matchConditions[0].expression: Invalid value: "params == null": compilation failed: ERROR: <input>:1:1: '
             "undeclared reference to 'params' (in container '')\n | params == null\n | ^"],
        ),
        (
            {"matchConditions": [{"name": "x", "expression": "true"}, {"name": "x", "expression": "true"}]},
            ['matchConditions[1].name: Duplicate value: "x"'],
        ),
    ],
)  # fmt: skip
async def test_a_webhook_that_cannot_work_is_refused(world: World, changes: Object, told: list[str]) -> None:
    hook = changed(HOOK, **changes)
    found = await refused(world, "mutatingwebhookconfigurations", {"webhooks": [hook]})
    assert found == [f"webhooks[0].{text}" for text in told]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"operations": []}, ["operations: Required value"]),
        (
            {"operations": ["PATCH"]},
            ['operations[0]: Unsupported value: "PATCH": supported values: '
             '"*", "CONNECT", "CREATE", "DELETE", "UPDATE"'],
        ),
        (
            {"operations": ["*", "CREATE"]},
            ["operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations"],
        ),
        (
            {"apiGroups": ["*", "apps"]},
            ["apiGroups: Invalid value: [\"*\",\"apps\"]: if '*' is present, must not specify other API groups"],
        ),
        (
            {"apiVersions": ["*", "v1"]},
            ["apiVersions: Invalid value: [\"*\",\"v1\"]: if '*' is present, must not specify other API versions"],
        ),
        ({"apiVersions": [""]}, ["apiVersions[0]: Required value"]),
        ({"resources": [""]}, ["resources[0]: Required value"]),
        (
            {"resources": ["pods/*", "pods/log"]},
            ["resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log"],
        ),
        (
            {"resources": ["*/scale", "pods/scale"]},
            ["resources[1]: Invalid value: \"pods/scale\": if '*/scale' is present, must not specify pods/scale"],
        ),
        (
            {"resources": ["*/*", "pods"]},
            ["resources: Invalid value: [\"*/*\",\"pods\"]: if '*/*' is present, must not specify other resources"],
        ),
        (
            {"resources": ["*", "pods"]},
            ["resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources "
             "without subresources"],
        ),
        ({"scope": "x"}, ['scope: Unsupported value: "x": supported values: "*", "Cluster", "Namespaced"']),
    ],
)  # fmt: skip
async def test_rules_are_refused_where_they_contradict_themselves(
    world: World, changes: Object, told: list[str]
) -> None:
    hook = changed(HOOK, rules=[changed(RULE, **changes)])
    found = await refused(world, "validatingwebhookconfigurations", {"webhooks": [hook]})
    assert found == [f"webhooks[0].rules[0].{text}" for text in told]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, [": Required value: exactly one of url or service is required"]),
        (
            {"url": "https://x/", "service": {"name": "s", "namespace": "n"}},
            [": Required value: exactly one of url or service is required"],
        ),
        (
            {"url": "http://x/"},
            ['.url: Invalid value: "http": \'https\' is the only allowed URL scheme; desired format: https://host[/path]'],
        ),
        ({"url": "https:///p"}, ['.url: Invalid value: "": host must be specified; desired format: https://host[/path]']),
        (
            {"url": "https://u@x/?q#f"},
            [
                '.url: Invalid value: "u": user information is not permitted in the URL',
                '.url: Invalid value: "f": fragments are not permitted in the URL',
                '.url: Invalid value: "q": query parameters are not permitted in the URL',
            ],
        ),
        (
            {"service": {}},
            [".service.name: Required value", ".service.namespace: Required value"],
        ),
        (
            {"service": {"name": "s", "namespace": "n", "port": 70000}},
            [".service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive"],
        ),
        (
            {"service": {"name": "s", "namespace": "n", "path": "a//b"}},
            [".service.path: Invalid value: \"a//b\": must start with a '/'",
             '.service.path: Invalid value: "a//b": segment[0] may not be empty',
             '.service.path: Invalid value: "a//b": segment[1] may not be empty'],
        ),
    ],
)  # fmt: skip
async def test_a_webhook_is_reached_in_one_way_over_https(world: World, config: Object, told: list[str]) -> None:
    hook = changed(HOOK, clientConfig=config)
    found = await refused(world, "validatingwebhookconfigurations", {"webhooks": [hook]})
    assert found == [f"webhooks[0].clientConfig{text}" for text in told]


async def test_the_names_of_a_configurations_webhooks_differ(world: World) -> None:
    found = await refused(world, "mutatingwebhookconfigurations", {"webhooks": [HOOK, HOOK]})
    assert found == ['webhooks[1].name: Duplicate value: "a.example.com"']


# --- validating policies


async def test_a_policy_is_completed(world: World) -> None:
    made = await create(world, "validatingadmissionpolicies", {"spec": SPEC})
    assert made["spec"] == {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "resourceRules": [{**RULE, "scope": "*"}],
        },
        "validations": [VALIDATION],
    }
    assert made["status"] == {}


async def test_the_status_of_a_policy_is_looked_at(world: World) -> None:
    made = await create(world, "validatingadmissionpolicies", {"spec": SPEC})
    resource = world.resource("validatingadmissionpolicies.admissionregistration.k8s.io")
    condition = {
        "type": "Ready",
        "status": "Maybe",
        "reason": "R-1",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    made["status"] = {"typeChecking": {"expressionWarnings": [{"fieldRef": " "}]}, "conditions": [condition]}
    with pytest.raises(StatusError) as caught:
        await world.registry.update(resource, "", "n", made, context(ADMIN), "status")
    assert [f"{cause['field']}: {cause['message']}" for cause in (caught.value.details or {})["causes"]] == [
        "status.typeChecking.expressionWarnings[0].warning: Required value",
        "status.typeChecking.expressionWarnings[0].fieldRef: Required value",
        'status.conditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"',
        'status.conditions[0].reason: Invalid value: "R-1": a condition reason must start with alphabetic character, '
        "optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric "
        "character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or "
        "'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"matchConstraints": ...}, ["matchConstraints: Required value"]),
        ({"matchConstraints__resourceRules": []}, ["matchConstraints.resourceRules: Required value"]),
        (
            {"validations": []},
            ["validations: Required value: validations or auditAnnotations must contain at least one item",
             "auditAnnotations: Required value: validations or auditAnnotations must contain at least one item"],
        ),
        (
            {"validations": [{"expression": " "}]},
            ["validations[0].expression: Required value: expression is not specified"],
        ),
        (
            {"validations": [{"expression": "object.x >"}]},
            ['validations[0].expression: Invalid value: "object.x >": compilation failed: '
             "ERROR: <input>:1:11: Syntax error: "],
        ),
        (
            {"validations": [{"expression": "'x'.find('[') == ''"}]},
            ["validations[0].expression: Internal error: program instantiation failed: "
             "error parsing regexp: missing closing ]: `[`"],
        ),
        (
            {"validations": [{"expression": "params.x == 1"}]},
            ['validations[0].expression: Invalid value: "params.x == 1": compilation failed: ERROR: <input>:1:1: '
             "undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^"],
        ),
        (
            {"validations": [{"expression": "1"}]},
            ['validations[0].expression: Invalid value: "1": must evaluate to bool but got int'],
        ),
        (
            {"validations": [{**VALIDATION, "messageExpression": "1"}]},
            ['validations[0].messageExpression: Invalid value: "1": must evaluate to string but got int'],
        ),
        (
            {"validations": [{**VALIDATION, "message": "a\nb"}]},
            ['validations[0].message: Invalid value: "a\\nb": must not contain line breaks'],
        ),
        (
            {"validations": [{**VALIDATION, "reason": "Gone"}]},
            ['validations[0].reason: Unsupported value: "Gone": supported values: '
             '"Forbidden", "Invalid", "RequestEntityTooLarge"'],
        ),
        (
            {"auditAnnotations": [{"key": "k", "valueExpression": "1"}]},
            ['auditAnnotations[0].valueExpression: Invalid value: "1": must evaluate to one of '
             "[string null_type] but got int"],
        ),
        (
            {"auditAnnotations": [{"key": "k", "valueExpression": "''"}, {"key": "k", "valueExpression": "''"}]},
            ['auditAnnotations[1].key: Duplicate value: "k"'],
        ),
        (
            {"variables": [{"name": "if", "expression": "1"}]},
            ['variables[0].name: Invalid value: "if": must be a valid CEL identifier'],
        ),
        (
            {"variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}]},
            ['variables[0].expression: Invalid value: "variables.b": compilation failed: ERROR: <input>:1:10: '
             "undefined field 'b'\n | variables.b\n | .........^"],
        ),
        (
            # of a variable that cannot be used nothing is known, and that is told once
            {"variables": [{"name": "a", "expression": "1 +"}], "validations": [{"expression": "variables.a == 1"}]},
            ['variables[0].expression: Invalid value: "1 +": compilation failed: ERROR: <input>:1:4: Syntax error: '],
        ),
        (
            {
                "variables": [{"name": "q", "expression": "quantity('1')"}, {"name": "n", "expression": "request"}],
                "validations": [{"expression": "variables.n.foo == 1"}, {"expression": "variables.q.isLessThan(1)"}],
            },
            ['validations[1].expression: Invalid value: "variables.q.isLessThan(1)": compilation failed: '
             "ERROR: <input>:1:23: found no matching overload for 'isLessThan' applied to 'dyn.(int)'\n "
             "| variables.q.isLessThan(1)\n | ......................^"],
        ),
        ({"paramKind": {"apiVersion": "v1", "kind": ""}}, ["paramKind.kind: Required value"]),
        (
            {"paramKind": {"apiVersion": "a/b/c", "kind": "K"}},
            ['paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c'],
        ),
    ],
)  # fmt: skip
async def test_a_policy_that_cannot_work_is_refused(world: World, changes: Object, told: list[str]) -> None:
    found = await refused(world, "validatingadmissionpolicies", {"spec": changed(SPEC, **changes)})
    assert len(found) == len(told)
    for text, expected in zip(found, told, strict=True):
        assert text.startswith(f"spec.{expected}")


# --- mutating policies


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mutations": []}, ["mutations: Required value: mutations must contain at least one item"]),
        ({"reinvocationPolicy": ...}, ["reinvocationPolicy: Required value"]),
        (
            {"mutations": [changed(MUTATION, applyConfiguration={"expression": "'text'"})]},
            ["mutations[0].applyConfiguration.expression: Invalid value: \"'text'\": must evaluate to Object "
             "but got string"],
        ),
        (
            {"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "{'a': 1}"}}]},
            ["mutations[0].jsonPatch.expression: Invalid value: \"{'a': 1}\": must evaluate to list(JSONPatch) "
             "but got map(string, int)"],
        ),
        (
            {"mutations": [{"patchType": "ApplyConfiguration", "jsonPatch": {"expression": "[]"}}]},
            ["mutations[0].applyConfiguration: Required value: must be specified when patchType is ApplyConfiguration",
             'mutations[0].jsonPatch: Invalid value: "{jsonPatch}": must not be specified when patchType is '
             "ApplyConfiguration"],
        ),
        (
            {"matchConstraints__resourceRules": [changed(RULE, operations=["DELETE"])]},
            ['matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: '
             '"*", "CONNECT", "CREATE", "UPDATE"'],
        ),
    ],
)  # fmt: skip
async def test_a_mutating_policy_that_cannot_work_is_refused(world: World, changes: Object, told: list[str]) -> None:
    found = await refused(world, "mutatingadmissionpolicies", {"spec": changed(MUTATING_SPEC, **changes)})
    assert found == [f"spec.{text}" for text in told]


# --- bindings


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"policyName": ""}, ["policyName: Required value"]),
        ({"validationActions": []}, ["validationActions: Required value: at least one validation action is required"]),
        (
            {"validationActions": ["Deny", "Warn"]},
            ['validationActions: Invalid value: ["Deny","Warn"]: must not contain both Deny and Warn '
             "(repeating the same validation failure information in the API response and headers serves no purpose)"],
        ),
        (
            {"validationActions": ["Shout"]},
            ['validationActions[0]: Unsupported value: "Shout": supported values: "Audit", "Deny", "Warn"'],
        ),
        ({"validationActions": ["Audit", "Audit"]}, ['validationActions[1]: Duplicate value: "Audit"']),
        (
            {"paramRef": {"parameterNotFoundAction": "Deny"}},
            ["paramRef: Required value: one of name or selector must be specified"],
        ),
        ({"paramRef": {"name": "x"}}, ["paramRef.parameterNotFoundAction: Required value"]),
        (
            {"paramRef": {"name": "x", "selector": {}, "parameterNotFoundAction": "Deny"}},
            ["paramRef.name: Forbidden: name and selector are mutually exclusive",
             "paramRef.selector: Forbidden: name and selector are mutually exclusive"],
        ),
    ],
)  # fmt: skip
async def test_a_binding_that_cannot_work_is_refused(world: World, changes: Object, told: list[str]) -> None:
    found = await refused(world, "validatingadmissionpolicybindings", {"spec": changed(BINDING, **changes)})
    assert found == [f"spec.{text}" for text in told]


async def test_a_mutating_binding_has_no_actions(world: World) -> None:
    made = await create(world, "mutatingadmissionpolicybindings", {"spec": {"policyName": "p"}})
    assert made["spec"] == {"policyName": "p"}


# --- who may name parameters


async def test_only_who_may_read_all_parameters_names_their_kind(world: World) -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    policy = {"spec": changed(SPEC, paramKind=kind)}
    jane = UserInfo("jane", groups=("dev",))
    assert await refused(world, "validatingadmissionpolicies", policy, jane) == [
        'spec.paramKind: Forbidden: user &{jane  [dev] map[]} must have "get" permission on all objects of the '
        "referenced paramKind (kind=ConfigMap, apiVersion=v1)"
    ]
    await world.bind(role("reader", rule("get", "configmaps")), "jane")
    await create(world, "validatingadmissionpolicies", policy, jane)


async def test_only_who_may_read_parameters_refers_to_them(world: World) -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    await create(
        world, "validatingadmissionpolicies", {"metadata": {"name": "p"}, "spec": changed(SPEC, paramKind=kind)}
    )
    reference = {"name": "limit", "namespace": "ns", "parameterNotFoundAction": "Deny"}
    binding = {"spec": changed(BINDING, paramRef=reference)}
    jane = UserInfo("jane")
    assert await refused(world, "validatingadmissionpolicybindings", binding, jane) == [
        'spec.paramRef: Forbidden: user &{jane  [] map[]} does not have "get" permission on the object being '
        "referenced by paramRef"
    ]
    await world.bind(role("reader", rule("get", "configmaps", "", "limit")), "jane", namespace="ns")
    await create(world, "validatingadmissionpolicybindings", binding, jane)


async def test_what_did_not_change_is_not_asked_about_again(world: World) -> None:
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    made = await create(world, "validatingadmissionpolicies", {"spec": changed(SPEC, paramKind=kind)})
    resource = world.resource("validatingadmissionpolicies.admissionregistration.k8s.io")
    made["spec"]["failurePolicy"] = "Ignore"
    updated = (await world.registry.update(resource, "", "n", made, context(UserInfo("jane")))).object
    assert updated["metadata"]["generation"] == 2
