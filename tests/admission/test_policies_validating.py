"""ValidatingAdmissionPolicy: what its expressions may ask, what they say, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from admission_world import World, attributes, refusal, run

from kubegate.admission.chain import Chain
from kubegate.admission.policies.typechecking import check
from kubegate.api import Object
from kubegate.api.resources import Resources
from kubegate.api.schema import schema_for
from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo
from kubegate.storage import ObjectEvent

GROUP = "admissionregistration.k8s.io"
POLICIES, BINDINGS = f"validatingadmissionpolicies.{GROUP}", f"validatingadmissionpolicybindings.{GROUP}"
CONFIG_MAPS = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "scope": "*"}
EVERYTHING = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*", "*"], "scope": "*"}
DEAR = "[1,2,3,4,5,6,7,8,9,10]"
for _name in "abcdef":
    DEAR = f"[1,2,3,4,5,6,7,8,9,10].all({_name}, {DEAR if _name != 'a' else 'a > 0'})"


def config_map(name: str = "c", **data: str) -> Object:
    metadata = {"name": name, "namespace": "ns"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


class Policies:
    """A chain of the plugin alone, and ways to write policies for it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chain: Chain = world.chain("ValidatingAdmissionPolicy")

    def policy(self, *validations: str | Object, name: str = "p", rules: Any = (CONFIG_MAPS,), **spec: Any) -> None:
        entries = [{"expression": entry} if isinstance(entry, str) else entry for entry in validations]
        constraints = {"resourceRules": list(rules), "matchPolicy": "Equivalent", **spec.pop("constraints", {})}
        spec = {"failurePolicy": "Fail", "matchConstraints": constraints, "validations": entries, **spec}
        self.world.objects.put(POLICIES, {"metadata": {"name": name}, "spec": spec})

    def bind(self, policy: str = "p", *, name: str = "b", actions: Any = ("Deny",), **spec: Any) -> None:
        spec = {"policyName": policy, "validationActions": list(actions), **spec}
        self.world.objects.put(BINDINGS, {"metadata": {"name": name}, "spec": spec})

    async def refused(self, obj: Object, old: Object | None = None, **asked: Any) -> StatusError:
        with pytest.raises(StatusError) as caught:
            await run(self.chain, attributes("configmaps", obj, old, **asked))
        return caught.value

    async def said(self, obj: Object, old: Object | None = None, **asked: Any) -> str:
        """What the policy said: the refusal without what stands before every refusal."""
        return (await self.refused(obj, old, **asked)).message.partition(" denied request: ")[2]

    async def passes(self, obj: Object, old: Object | None = None, **asked: Any) -> Any:
        request = attributes("configmaps", obj, old, **asked)
        await run(self.chain, request)
        return request.trace


@pytest.fixture
def policies(world: World) -> Policies:
    return Policies(world)


# --- refusals


async def test_what_is_false_is_refused_with_the_policy_the_binding_and_the_rule(policies: Policies) -> None:
    policies.policy("object.data.a == '1'")
    policies.bind()
    await policies.passes(config_map(a="1"))
    error = await policies.refused(config_map(a="2"))
    text = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: object.data.a == '1'"
    assert (error.code, error.reason) == (422, "Invalid")
    assert error.message == f'configmaps "c" is forbidden: {text}'
    assert error.details == {"name": "c", "kind": "configmaps", "causes": [{"message": text}]}


@pytest.mark.parametrize(
    ("reason", "code"), [("Unauthorized", 401), ("Forbidden", 403), ("Invalid", 422), ("RequestEntityTooLarge", 413)]
)
async def test_a_reason_chooses_the_status(policies: Policies, reason: str, code: int) -> None:
    policies.policy({"expression": "false", "message": " no \n", "reason": reason})
    policies.bind()
    error = await policies.refused(config_map())
    assert (error.code, error.reason) == (code, reason)
    assert error.message.endswith("denied request: no")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("'have ' + object.data.a", "have 1"),
        ("object.data.none", "fixed"),
        ("'  '", "fixed"),
        ("'two\\nlines'", "fixed"),
        ("'x'.replace('x', '" + "y" * 5121 + "')", "fixed"),
        ("params == null ? 'none' : 'some'", "fixed"),
    ],
)
async def test_a_message_expression_speaks_unless_it_cannot(policies: Policies, expression: str, said: str) -> None:
    policies.policy({"expression": "false", "message": "fixed", "messageExpression": expression})
    policies.bind()
    assert await policies.said(config_map(a="1")) == said


async def test_the_first_refusal_is_told_and_policies_go_by_name(policies: Policies) -> None:
    policies.policy("false", {"expression": "false", "message": "other"}, name="b")
    policies.policy("object.data.a != '1'", {"expression": "false", "message": "second"}, name="a")
    policies.bind("a", name="z")
    policies.bind("b", name="y")
    assert await policies.said(config_map(a="0")) == "second"
    assert await policies.said(config_map(a="1")) == "failed expression: object.data.a != '1'"


async def test_an_expression_without_a_result_refuses_or_not_as_the_failure_policy_says(policies: Policies) -> None:
    policies.policy("object.data.none == 'x'", {"expression": "false", "message": "second"})
    policies.bind()
    text = "expression 'object.data.none == 'x'' resulted in error: no such key: none"
    assert await policies.said(config_map()) == text
    policies.policy("object.data.none == 'x'", failurePolicy="Ignore")
    await policies.passes(config_map())
    policies.policy("object.data.none == 'x'", "false", failurePolicy="Ignore")
    assert await policies.said(config_map()) == "failed expression: false"


async def test_a_policy_without_a_binding_says_nothing_and_one_that_is_gone_neither(policies: Policies) -> None:
    policies.policy("false")
    await policies.passes(config_map())
    policies.bind()
    await policies.refused(config_map())
    stored = policies.world.objects.get(BINDINGS, "", "b")
    for resource, listener in policies.world.objects.listeners:
        if resource == BINDINGS:
            listener(ObjectEvent.DELETED, stored, stored)
    await policies.passes(config_map())
    policies.bind()
    await policies.refused(config_map())
    policies.policy("true")
    await policies.passes(config_map())


# --- what expressions may ask


@pytest.mark.parametrize(
    "expression",
    [
        "request.operation == 'UPDATE' && request.name == 'c' && request.namespace == 'ns'",
        "request.kind.kind == 'ConfigMap' && request.resource.resource == 'configmaps' && request.kind.group == ''",
        "request.userInfo.username == 'jane' && 'dev' in request.userInfo.groups",
        "request.userInfo.extra['scope'] == ['a']",
        "request.dryRun == false && !has(request.subResource)",
        "oldObject.data.a == '1' && object.data.a == '2'",
        "object.metadata.name == 'c' && object.kind == 'ConfigMap'",
        "namespaceObject.metadata.labels.team == 'blue'",
        "authorizer.group('').resource('pods').namespace('ns').check('list').allowed()",
        "!authorizer.requestResource.check('delete').allowed()",
        "variables.two == variables.one + 1",
    ],
)
async def test_expressions_know_the_request(policies: Policies, expression: str) -> None:
    policies.world.namespace("ns", labels={"team": "blue"})
    policies.world.allowed.add(("jane", "list", "pods", ""))
    variables = [{"name": "one", "expression": "1"}, {"name": "two", "expression": "variables.one * 2"}]
    policies.policy(expression, variables=variables)
    policies.bind()
    jane = UserInfo("jane", groups=("dev",), extra={"scope": ("a",)})
    await policies.passes(config_map(a="2"), config_map(a="1"), user=jane)


async def test_there_is_no_object_when_it_is_deleted_and_no_old_one_when_it_is_new(policies: Policies) -> None:
    policies.policy("request.operation == 'DELETE' ? object == null : oldObject == null")
    policies.bind()
    await policies.passes(config_map())
    request = attributes("configmaps", None, config_map())
    await run(policies.chain, request)


async def test_a_cluster_scoped_object_has_no_namespace_object(policies: Policies) -> None:
    rule = {**EVERYTHING, "resources": ["nodes", "namespaces"]}
    policies.policy({"expression": "namespaceObject != null", "message": "none"}, rules=[rule])
    policies.bind()
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}}
    assert (await refusal(policies.chain, attributes("nodes", node))).endswith(": none")
    assert (await refusal(policies.chain, attributes("namespaces", namespace, namespace, namespace="ns"))).endswith(
        ": none"
    )


async def test_a_variable_is_worked_out_once_and_only_when_asked_for(policies: Policies) -> None:
    may = "authorizer.group('').resource('pods').check('get').allowed()"
    variables = [{"name": "may", "expression": may}, {"name": "broken", "expression": "object.data.none"}]
    policies.policy("!variables.may", "variables.may == false", "true || variables.broken == ''", variables=variables)
    policies.bind()
    await policies.passes(config_map())
    assert [question.resource for question in policies.world.asked] == ["pods"]


async def test_a_variable_that_fails_is_named(policies: Policies) -> None:
    policies.policy("variables.broken == ''", variables=[{"name": "broken", "expression": "object.data.none"}])
    policies.bind()
    assert await policies.said(config_map()) == (
        "expression 'variables.broken == ''' resulted in error: "
        'composited variable "broken" fails to evaluate: no such key: none'
    )


async def test_expressions_that_cannot_be_compiled_fail_when_they_are_needed(policies: Policies) -> None:
    policies.policy("object.x +", failurePolicy="Fail")
    policies.bind()
    assert (await policies.said(config_map())).startswith(
        "compilation error: compilation failed: ERROR: <input>:1:11: "
    )
    policies.policy("1 + 1")
    assert await policies.said(config_map()) == "compilation error: must evaluate to bool but got int"
    policies.policy("nobody == 1", failurePolicy="Ignore")
    await policies.passes(config_map())


# --- parameters


def _parameters(policies: Policies, validation: str = "params.data.max == object.data.a", **reference: Any) -> None:
    policies.policy(validation, paramKind={"apiVersion": "v1", "kind": "ConfigMap"})
    policies.bind(paramRef={"parameterNotFoundAction": "Deny", **reference})


def _limit(policies: Policies, name: str, maximum: str, namespace: str = "ns", **labels: str) -> None:
    limit = config_map(name, max=maximum)
    limit["metadata"] = {"name": name, "namespace": namespace, "labels": labels}
    policies.world.objects.put("configmaps", limit)


async def test_a_parameter_is_found_by_name_in_the_namespace_of_the_request(policies: Policies) -> None:
    _limit(policies, "limit", "1")
    _limit(policies, "limit", "2", namespace="elsewhere")
    _parameters(policies, name="limit")
    await policies.passes(config_map(a="1"))
    assert await policies.said(config_map(a="2")) == "failed expression: params.data.max == object.data.a"
    _parameters(policies, name="limit", namespace="elsewhere")
    await policies.passes(config_map(a="2"))


async def test_all_parameters_that_a_selector_finds_are_used(policies: Policies) -> None:
    _limit(policies, "one", "1", use="yes")
    _limit(policies, "two", "2", use="yes")
    _limit(policies, "three", "3")
    _parameters(policies, "object.data.a != params.data.max", selector={"matchLabels": {"use": "yes"}})
    await policies.passes(config_map(a="3"))
    await policies.refused(config_map(a="1"))
    await policies.refused(config_map(a="2"))
    _parameters(policies, "object.data.a != params.data.max", selector={})
    await policies.refused(config_map(a="3"))


async def test_a_parameter_that_is_not_there_refuses_or_is_done_without(policies: Policies) -> None:
    _parameters(policies, name="limit")
    error = await policies.refused(config_map())
    assert error.message == (
        "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed to "
        "configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    )
    _parameters(policies, name="limit", parameterNotFoundAction="Allow")
    await policies.passes(config_map())


async def test_a_binding_without_parameters_gives_null(policies: Policies) -> None:
    policies.policy("params == null", paramKind={"apiVersion": "v1", "kind": "ConfigMap"})
    policies.bind()
    await policies.passes(config_map())


async def test_a_kind_of_parameters_that_does_not_exist_refuses(policies: Policies) -> None:
    policies.policy("true", paramKind={"apiVersion": "rules.example.com/v1", "kind": "Limit"})
    policies.bind(paramRef={"name": "x", "parameterNotFoundAction": "Deny"})
    assert await policies.said(config_map()) == (
        "failed to configure policy: failed to find resource referenced by paramKind: "
        "'rules.example.com/v1, Kind=Limit'"
    )


@pytest.mark.parametrize(
    ("kind", "reference", "said"),
    [
        ("ConfigMap", {}, "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"),
        ("Namespace", {"namespace": "ns"}, "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"),
    ],
)
async def test_parameters_live_where_their_kind_lives(
    policies: Policies, kind: str, reference: Object, said: str
) -> None:
    rule = {**EVERYTHING, "resources": ["nodes"]}
    policies.policy("true", rules=[rule], paramKind={"apiVersion": "v1", "kind": kind})
    policies.bind(paramRef={"name": "x", "parameterNotFoundAction": "Deny", **reference})
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    assert (await refusal(policies.chain, attributes("nodes", node))).endswith(f"failed to configure binding: {said}")


# --- actions and audit


async def test_a_binding_may_warn_and_audit_instead_of_refusing(policies: Policies) -> None:
    policies.policy("true", {"expression": "false", "message": "better not"})
    policies.bind(actions=("Warn", "Audit"))
    trace = await policies.passes(config_map())
    assert trace.warnings == ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': better not"]
    told = json.loads(trace.audit_annotations["validation.policy.admission.k8s.io/validation_failure"])
    assert told == [
        {
            "message": "better not",
            "policy": "p",
            "binding": "b",
            "expressionIndex": 1,
            "validationActions": ["Warn", "Audit"],
        }
    ]


async def test_bindings_of_one_policy_act_each_for_themselves(policies: Policies) -> None:
    policies.policy("false")
    policies.bind(actions=("Warn",))
    policies.bind(name="blue", matchResources={"namespaceSelector": {"matchLabels": {"team": "blue"}}})
    trace = await policies.passes(config_map())
    assert len(trace.warnings) == 1
    policies.world.namespace("ns", labels={"team": "blue"})
    assert "with binding 'blue'" in (await policies.refused(config_map())).message


async def test_audit_annotations_are_told_with_the_policys_name(policies: Policies) -> None:
    annotations = [
        {"key": "a", "valueExpression": "'a is ' + object.data.a"},
        {"key": "none", "valueExpression": "null"},
        {"key": "long", "valueExpression": "'" + "x" * 11_000 + "'"},
    ]
    policies.policy(auditAnnotations=annotations)
    policies.bind()
    trace = await policies.passes(config_map(a="1"))
    assert trace.audit_annotations["p/a"] == "a is 1"
    assert "p/none" not in trace.audit_annotations
    assert len(trace.audit_annotations["p/long"]) == 10 * 1024


async def test_values_of_one_annotation_from_several_parameters_are_joined(policies: Policies) -> None:
    _limit(policies, "one", "1")
    _limit(policies, "two", "2")
    _limit(policies, "two-again", "2")
    policies.policy(
        auditAnnotations=[{"key": "max", "valueExpression": "string(params.data.max)"}],
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
    )
    policies.bind(paramRef={"selector": {}, "parameterNotFoundAction": "Deny"})
    assert (await policies.passes(config_map())).audit_annotations["p/max"] == "1, 2"


async def test_an_annotation_that_fails_refuses_whatever_the_binding_does(policies: Policies) -> None:
    annotations = [{"key": "a", "valueExpression": "string(object.data.none)"}]
    policies.policy(auditAnnotations=annotations)
    policies.bind(actions=("Audit",))
    assert "no such key: none" in await policies.said(config_map())
    policies.policy(auditAnnotations=annotations, failurePolicy="Ignore")
    await policies.passes(config_map())


# --- what is asked about


async def test_match_conditions_choose(policies: Policies) -> None:
    policies.policy("false", matchConditions=[{"name": "x", "expression": "object.data.a == '1'"}])
    policies.bind()
    await policies.passes(config_map(a="2"))
    await policies.refused(config_map(a="1"))
    assert await policies.said(config_map()) == ("expression 'object.data.a == '1'' resulted in error: no such key: a")


@pytest.mark.parametrize(
    ("constraints", "asked"),
    [
        ({}, True),
        ({"excludeResourceRules": [CONFIG_MAPS]}, False),
        ({"excludeResourceRules": [{**CONFIG_MAPS, "operations": ["UPDATE"]}]}, True),
        ({"excludeResourceRules": [{**CONFIG_MAPS, "resourceNames": ["other"]}]}, True),
        ({"resourceRules": [{**CONFIG_MAPS, "resourceNames": ["c"]}]}, True),
        ({"resourceRules": [{**CONFIG_MAPS, "resourceNames": ["d"]}]}, False),
        ({"resourceRules": [{**CONFIG_MAPS, "scope": "Cluster"}]}, False),
        ({"objectSelector": {"matchLabels": {"x": "y"}}}, False),
        ({"namespaceSelector": {"matchLabels": {"x": "y"}}}, False),
        ({"namespaceSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}}, True),
    ],
)
async def test_constraints_choose(policies: Policies, constraints: Object, asked: bool) -> None:
    policies.policy("false", constraints=constraints)
    policies.bind()
    if asked:
        await policies.refused(config_map())
    else:
        await policies.passes(config_map())
    policies.policy("false")
    policies.bind(matchResources=constraints)
    if asked:
        await policies.refused(config_map())
    else:
        await policies.passes(config_map())


@pytest.mark.parametrize(
    "resource",
    [
        POLICIES,
        BINDINGS,
        f"mutatingadmissionpolicies.{GROUP}",
        f"mutatingadmissionpolicybindings.{GROUP}",
        f"validatingwebhookconfigurations.{GROUP}",
        "subjectaccessreviews.authorization.k8s.io",
        "selfsubjectreviews.authentication.k8s.io",
        "tokenreviews.authentication.k8s.io",
    ],
)
async def test_nobody_can_lock_themselves_out_of_admission_or_of_questions(policies: Policies, resource: str) -> None:
    policies.policy("false", rules=[EVERYTHING])
    policies.bind()
    asked = attributes(resource, {"metadata": {"name": "x"}})
    if resource.startswith("validatingwebhookconfigurations"):
        assert "failed expression: false" in await refusal(policies.chain, asked)
    else:
        await run(policies.chain, asked)


# --- limits


async def test_an_expression_may_not_cost_too_much(policies: Policies) -> None:
    policies.policy(DEAR)
    policies.bind()
    assert (await policies.said(config_map())).endswith("operation cancelled: actual cost limit exceeded")


async def test_the_expressions_of_a_policy_share_a_budget(policies: Policies) -> None:
    half = DEAR.replace("[1,2,3,4,5,6,7,8,9,10].all(f, ", "[1].all(f, ")
    policies.policy(*[half] * 12)
    policies.bind()
    await policies.passes(config_map())
    policies.policy(*[half] * 60)
    assert await policies.said(config_map()) == (
        "validation failed due to running out of cost budget, no further validation rules will be run"
    )


async def test_messages_count_as_well_also_those_that_are_not_told(policies: Policies) -> None:
    half = DEAR.replace("[1,2,3,4,5,6,7,8,9,10].all(f, ", "[1].all(f, ")
    dear = {"expression": "true", "messageExpression": f"string({half})"}
    policies.policy(*[dear] * 12)
    policies.bind()
    await policies.passes(config_map())
    policies.policy(*[dear] * 60)
    assert await policies.said(config_map()) == (
        "failed messageExpression: validation failed due to running out of cost budget, no further validation rules "
        "will be run"
    )
    policies.policy(*[dear] * 60, failurePolicy="Ignore")
    await policies.passes(config_map())


async def test_messages_and_annotations_cannot_ask_the_authorizer(policies: Policies) -> None:
    may = "authorizer.group('').resource('pods').check('get').allowed()"
    variables = [{"name": "may", "expression": may}]
    rule = {"expression": "variables.may", "messageExpression": "string(variables.may)", "message": "plain"}
    policies.policy(rule, variables=variables)
    policies.bind()
    assert await policies.said(config_map()) == "plain"
    policies.policy("true", auditAnnotations=[{"key": "k", "valueExpression": f"string({may})"}])
    assert await policies.said(config_map()) == (
        f"expression 'string({may})' resulted in error: no such attribute(s): authorizer"
    )


# --- type checking


def _checked(*validations: Object, rules: Any = (), **spec: Any) -> list[tuple[str, str]]:
    apps = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}
    constraints = {"resourceRules": list(rules) or [apps]}
    body = {"matchConstraints": constraints, "validations": list(validations), **spec}
    found = check(body, Resources.built_in(), lambda kind: schema_for(kind.group, kind.version, kind.kind))
    return [(entry["fieldRef"], entry["warning"]) for entry in found]


def test_types_are_checked_against_the_kinds_that_rules_name() -> None:
    assert _checked({"expression": "object.spec.replicas > 1", "messageExpression": "'x' + object.metadata.name"}) == []
    assert _checked({"expression": "object.spec.replicas > '1'", "messageExpression": "object.replicas"}) == [
        (
            "spec.validations[0].expression",
            "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to "
            "'(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n",
        ),
        (
            "spec.validations[0].messageExpression",
            "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n"
            " | object.replicas\n | ......^\n",
        ),
    ]


def test_types_of_what_wildcards_match_are_not_checked() -> None:
    anything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    assert _checked({"expression": "object.nowhere"}, rules=[anything]) == []


def test_of_variables_only_simple_types_lists_and_maps_are_known() -> None:
    variables = [
        {"name": "name", "expression": "object.metadata.name"},
        {"name": "labels", "expression": "object.metadata.labels"},
        {"name": "metadata", "expression": "object.metadata"},
        {"name": "bad", "expression": "object.nowhere"},
    ]
    fine = [{"expression": f"variables.{name} == 1"} for name in ("metadata.nowhere", "bad", "bad.x")]
    assert _checked(*fine, variables=variables) == []
    wrong = [{"expression": f"variables.{name} == 1"} for name in ("name", "labels.x")]
    assert len(_checked(*wrong, variables=variables)) == 2


def test_maps_of_quantities_cannot_be_named() -> None:
    of_container = "object.spec.template.spec.containers[0]"
    [(_, warning)] = _checked({"expression": f"'cpu' in {of_container}.resources.limits"})
    assert "undefined field 'limits'" in warning
    assert _checked({"expression": f"{of_container}.ports[0].containerPort > 1"}) == []
    assert _checked({"expression": f"{of_container}.livenessProbe.httpGet.port == 1"}) == []


def test_who_asks_about_the_requests_resource_is_warned() -> None:
    [(_, warning)] = _checked({"expression": "authorizer.requestResource.check('delete').allowed()"})
    assert "ERROR: <input>:1:11: unexpected failed resolution of 'kubernetes.authorization.Authorizer'\n" in warning


def test_a_rule_of_the_core_group_names_the_kinds_of_all_groups() -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["events"]}
    [(_, warning)] = _checked({"expression": "object.involvedObject.name == object.regarding.name"}, rules=[rule])
    assert [line.partition(": ")[0] for line in warning.splitlines() if "Kind=" in line] == [
        "/v1, Kind=Event",
        "events.k8s.io/v1, Kind=Event",
    ]


def test_of_a_rule_that_names_many_kinds_ten_are_checked_and_no_other_rule() -> None:
    core = ["configmaps", "endpoints", "events", "limitranges", "namespaces", "nodes", "pods", "secrets", "services"]
    many = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": [*core, "serviceaccounts"]}
    few = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}
    for rules, kinds in (([many, few], 10), ([few, many], 11)):
        [(_, warning)] = _checked({"expression": "object.nowhere"}, rules=rules)
        assert warning.count("Kind=") == kinds


def test_types_of_variables_are_known() -> None:
    variables = [{"name": "n", "expression": "object.spec.replicas"}]
    [(place, warning)] = _checked({"expression": "variables.n == 'x'"}, variables=variables)
    assert place == "spec.validations[0].expression"
    assert "found no matching overload for '_==_' applied to '(int, string)'" in warning
