"""Quotas, limits, disruption budgets and evictions, priorities, autoscalers, network policies, ingresses and leases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from kinds_world import KindsWorld, kinds_world, meta, pod

from kubegate.admission import Attributes

SCALED = {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 3}


@pytest.fixture
async def w() -> AsyncIterator[KindsWorld]:
    async with kinds_world() as found:
        yield found


# --- quotas and limits ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        ({"hard": {"pods": "-1"}}, ['spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0']),
        ({"hard": {"pods": "1.5"}}, ['spec.hard[pods]: Invalid value: "1500m": must be an integer']),
        ({"hard": {"sheep": "1"}}, ['spec.hard[sheep]: Invalid value: "sheep": must be a standard resource type or '
                                    "fully qualified",
                                    'spec.hard[sheep]: Invalid value: "sheep": must be a standard resource for quota']),
        (
            {"scopes": ["BestEffort", "NotBestEffort"]},
            ['spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes'],
        ),
        (
            {"hard": {"requests.cpu": "1"}, "scopes": ["BestEffort"]},
            ['spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource'],
        ),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}},
            ["spec.scopeSelector.matchExpressions.values: Required value: "
             "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"],
        ),
    ],
)  # fmt: skip
async def test_what_a_quota_may_not_say(w: KindsWorld, spec: Any, texts: list[str]) -> None:
    assert await w.wrong(w.create("resourcequotas", {**meta("q"), "spec": spec})) == texts


async def test_a_quotas_scopes_do_not_change(w: KindsWorld) -> None:
    await w.create("resourcequotas", {**meta("q"), "spec": {"hard": {"pods": "1"}, "scopes": ["BestEffort"]}})
    texts = await w.wrong(w.patch("resourcequotas", "q", {"spec": {"scopes": ["Terminating"]}}))
    assert texts == ['spec.scopes: Invalid value: ["Terminating"]: field is immutable']


async def test_a_limit_range_fills_in_defaults_for_containers(w: KindsWorld) -> None:
    limit = {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"memory": "1Gi"}}
    [found] = (await w.create("limitranges", {**meta("l"), "spec": {"limits": [limit]}}))["spec"]["limits"]
    assert found["default"] == {"cpu": "2", "memory": "1Gi"}
    assert found["defaultRequest"] == {"cpu": "2", "memory": "1Gi"}


async def test_amounts_of_a_limit_range_agree(w: KindsWorld) -> None:
    limit = {"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "default": {"cpu": "3"}}
    texts = await w.wrong(w.create("limitranges", {**meta("l"), "spec": {"limits": [limit]}}))
    path = "spec.limits[0]"
    assert texts == [
        f'{path}.min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
        f'{path}.defaultRequest[cpu]: Invalid value: "3": default request value 3 is greater than max value 1',
        f'{path}.default[cpu]: Invalid value: "1": default value 3 is greater than max value 1',
    ]


# --- disruptions ----------------------------------------------------------------------------------------------------
def budget(**spec: Any) -> dict[str, Any]:
    return {**meta("b"), "spec": {"selector": {"matchLabels": {"a": "b"}}, **spec}}


async def _budget_and_pod(w: KindsWorld, allowed: int) -> None:
    await w.create("poddisruptionbudgets.policy", budget(minAvailable=1))
    status = {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "observedGeneration": 1}
    await w.patch("poddisruptionbudgets.policy", "b", {"status": status}, "status")
    await w.create("pods", {**pod(), **meta("p", labels={"a": "b"})})
    await w.patch(
        "pods", "p", {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}, "status"
    )


async def test_an_eviction_waits_for_the_budget(w: KindsWorld) -> None:
    await _budget_and_pod(w, 0)
    error = await w.refusal(w.post("pods", "p", "eviction", meta("p")))
    assert (error.code, error.reason) == (429, "TooManyRequests")
    assert error.message == "Cannot evict pod as it would violate the pod's disruption budget."
    assert w.get("pods", "p")


async def test_an_eviction_counts_in_the_budget(w: KindsWorld) -> None:
    await _budget_and_pod(w, 1)
    assert (await w.post("pods", "p", "eviction", meta("p")))["status"] == "Success"
    assert (await w.refusal(w.delete("pods", "p"))).code == 404
    status = w.get("poddisruptionbudgets.policy", "b")["status"]
    assert status["disruptionsAllowed"] == 0
    assert list(status["disruptedPods"]) == ["p"]


async def test_who_watches_an_evicted_pod_sees_why_it_goes(w: KindsWorld) -> None:
    await w.create("pods", {**pod(nodeName="n"), **meta("p")})
    before = w.get("pods", "p")["metadata"]
    assert (await w.post("pods", "p", "eviction", meta("p")))["status"] == "Success"
    found = w.get("pods", "p")
    assert found["metadata"]["deletionTimestamp"]
    [told] = found["status"]["conditions"]
    assert told == {
        "type": "DisruptionTarget",
        "lastTransitionTime": found["metadata"]["creationTimestamp"],
        "status": "True",
        "lastProbeTime": None,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    assert found["metadata"]["managedFields"] == before["managedFields"]
    revision = found["metadata"]["resourceVersion"]
    await w.post("pods", "p", "eviction", meta("p"))
    assert w.get("pods", "p")["metadata"]["resourceVersion"] == revision


async def test_an_eviction_of_another_pod_than_is_meant_leaves_it_alone(w: KindsWorld) -> None:
    await w.create("pods", {**pod(nodeName="n"), **meta("p")})
    body = {**meta("p"), "deleteOptions": {"preconditions": {"uid": "other"}}}
    error = await w.refusal(w.post("pods", "p", "eviction", body))
    assert (error.code, error.reason) == (409, "Conflict")
    assert "conditions" not in w.get("pods", "p")["status"]
    revision = w.get("pods", "p")["metadata"]["resourceVersion"]
    body = {**meta("p"), "deleteOptions": {"preconditions": {"resourceVersion": revision}}}
    assert (await w.post("pods", "p", "eviction", body))["status"] == "Success"


async def test_no_delete_is_admitted_for_an_eviction(w: KindsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await w.create("pods", {**pod(), **meta("p")})
    operations = []

    async def admit(attributes: Attributes) -> None:
        operations.append((str(attributes.operation), attributes.subresource))

    monkeypatch.setattr(w.registry.admission, "admit", admit)
    await w.post("pods", "p", "eviction", meta("p"))
    assert operations == [("CREATE", "eviction")]


@pytest.mark.parametrize(("policy", "code"), [("AlwaysAllow", 0), ("IfHealthyBudget", 429)])
async def test_pods_that_are_not_ready_may_go_where_the_budget_says_so(w: KindsWorld, policy: str, code: int) -> None:
    await w.create("poddisruptionbudgets.policy", budget(minAvailable=1, unhealthyPodEvictionPolicy=policy))
    status = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 1, "observedGeneration": 1}
    await w.patch("poddisruptionbudgets.policy", "b", {"status": status}, "status")
    await w.create("pods", {**pod(), **meta("p", labels={"a": "b"})})
    await w.patch("pods", "p", {"status": {"phase": "Running"}}, "status")
    if code:
        assert (await w.refusal(w.post("pods", "p", "eviction", meta("p")))).code == code
    else:
        assert (await w.post("pods", "p", "eviction", meta("p")))["status"] == "Success"


async def test_a_budget_with_an_empty_selector_is_about_all_pods(w: KindsWorld) -> None:
    await w.create(
        "poddisruptionbudgets.policy", {**budget(minAvailable=1), "spec": {"minAvailable": 1, "selector": {}}}
    )
    await w.create("pods", {**pod(), **meta("p")})
    await w.patch("pods", "p", {"status": {"phase": "Running"}}, "status")
    assert (await w.refusal(w.post("pods", "p", "eviction", meta("p")))).code == 429


@pytest.mark.parametrize(
    ("healthy", "condition", "text"),
    [
        (1, {}, "The disruption budget b needs 1 healthy pods and has 1 currently"),
        (2, {}, "The disruption budget b does not allow evicting pods currently"),
        (
            1,
            {"reason": "SyncFailed", "message": "no controller"},
            "The disruption budget b does not allow evicting pods currently because it failed sync: no controller",
        ),
        (
            2,
            {"reason": "Other", "message": "just so"},
            "The disruption budget b does not allow evicting pods currently (Other): just so",
        ),
    ],
)
async def test_what_holds_a_pod_is_told(w: KindsWorld, healthy: int, condition: dict[str, str], text: str) -> None:
    await _budget_and_pod(w, 0)
    told = {"type": "DisruptionAllowed", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z", **condition}
    status = {"currentHealthy": healthy, "conditions": [told] if condition else []}
    await w.patch("poddisruptionbudgets.policy", "b", {"status": status}, "status")
    error = await w.refusal(w.post("pods", "p", "eviction", meta("p")))
    assert error.details == {"causes": [{"reason": "DisruptionBudget", "message": text}]}


async def test_a_budget_says_one_thing(w: KindsWorld) -> None:
    [text] = await w.wrong(w.create("poddisruptionbudgets.policy", budget(minAvailable=1, maxUnavailable="5%")))
    assert text.endswith(": minAvailable and maxUnavailable cannot be both set")


# --- priority classes -----------------------------------------------------------------------------------------------
async def test_priorities_of_users_have_a_limit_and_no_name_of_the_systems(w: KindsWorld) -> None:
    kind = "priorityclasses.scheduling.k8s.io"
    assert await w.wrong(w.create(kind, {**meta("p"), "value": 1_000_000_001})) == [
        "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"
    ]
    assert await w.wrong(w.create(kind, {**meta("system-mine"), "value": 1})) == [
        "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. "
        "error: system-mine is not a known system priority class"
    ]


async def test_a_priority_does_not_change(w: KindsWorld) -> None:
    kind = "priorityclasses.scheduling.k8s.io"
    made = await w.create(kind, {**meta("p"), "value": 5})
    assert made["preemptionPolicy"] == "PreemptLowerPriority"
    assert await w.wrong(w.patch(kind, "p", {"value": 6})) == ["value: Forbidden: may not be changed in an update."]


async def test_the_systems_priority_classes_cannot_be_deleted(w: KindsWorld) -> None:
    kind = "priorityclasses.scheduling.k8s.io"
    refused = await w.refusal(w.delete(kind, "system-node-critical"))
    assert (refused.code, refused.message) == (
        403,
        'priorityclasses.scheduling.k8s.io "system-node-critical" is forbidden:'
        " this is a system priority class and cannot be deleted",
    )


# --- autoscalers ----------------------------------------------------------------------------------------------------
async def test_both_versions_of_an_autoscaler_are_one_object(w: KindsWorld) -> None:
    first, second = "horizontalpodautoscalers.autoscaling@v1", "horizontalpodautoscalers.autoscaling@v2"
    await w.create(first, {**meta("h"), "spec": {**SCALED, "targetCPUUtilizationPercentage": 70}})
    [metric] = w.get(second, "h")["spec"]["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    changed = await w.patch(second, "h", {"spec": {"maxReplicas": 5}})
    assert changed["spec"]["minReplicas"] == 1
    assert w.get(first, "h")["spec"]["targetCPUUtilizationPercentage"] == 70


async def test_metrics_that_could_not_be_had_are_nothing_in_both_versions(w: KindsWorld) -> None:
    first, second = "horizontalpodautoscalers.autoscaling@v1", "horizontalpodautoscalers.autoscaling@v2"
    await w.create(second, {**meta("h"), "spec": SCALED})
    nothing = [{"type": ""}, {"type": ""}]
    await w.patch(second, "h", {"status": {"currentMetrics": nothing, "desiredReplicas": 0}}, "status")
    old = w.get(first, "h")
    assert (
        old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/current-metrics"] == '[{"type":""},{"type":""}]'
    )
    await w.update(first, {**old, "spec": {**old["spec"], "maxReplicas": 7}})
    assert w.get(second, "h")["status"]["currentMetrics"] == nothing


async def test_an_autoscaler_that_names_no_metric_looks_at_the_cpu(w: KindsWorld) -> None:
    first, second = "horizontalpodautoscalers.autoscaling@v1", "horizontalpodautoscalers.autoscaling@v2"
    assert (await w.create(first, {**meta("h"), "spec": SCALED}))["spec"]["targetCPUUtilizationPercentage"] == 80
    made = await w.create(second, {**meta("i"), "spec": SCALED})
    assert made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80


async def test_metrics_are_kept_in_notes_of_the_first_version_as_its_types_have_them(w: KindsWorld) -> None:
    first, second = "horizontalpodautoscalers.autoscaling@v1", "horizontalpodautoscalers.autoscaling@v2"
    described = {"apiVersion": "v1", "kind": "Service", "name": "s"}
    metrics = [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 7}}},
        {
            "type": "Object",
            "object": {
                "metric": {"selector": {"matchLabels": {"b": "c", "a": "b"}}, "name": "m"},
                "describedObject": described,
                "target": {"type": "Value", "value": "5"},
            },
        },
        {"type": "External", "external": {"metric": {"name": "e"}, "target": {"type": "Value", "value": "2"}}},
    ]
    await w.create(second, {**meta("h"), "spec": {**SCALED, "metrics": metrics}})
    current = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 5}}}
    status = {"currentMetrics": [current], "conditions": [{"status": "True", "message": "a > b", "type": "T"}]}
    await w.patch(second, "h", {"status": {**status, "desiredReplicas": 1}}, "status")
    old = w.get(first, "h")
    assert (old["spec"]["targetCPUUtilizationPercentage"], old["status"]["currentCPUUtilizationPercentage"]) == (7, 5)
    notes = old["metadata"]["annotations"]
    prefix = "autoscaling.alpha.kubernetes.io/"
    assert notes[f"{prefix}metrics"] == (
        '[{"type":"Object","object":{"target":{"kind":"Service","name":"s","apiVersion":"v1"},"metricName":"m",'
        '"targetValue":"5","selector":{"matchLabels":{"a":"b","b":"c"}}}},'
        '{"type":"External","external":{"metricName":"e","targetValue":"2"}}]'
    )
    assert notes[f"{prefix}current-metrics"] == (
        '[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":5,"currentAverageValue":"0"}}]'
    )
    assert notes[f"{prefix}conditions"] == (
        '[{"type":"T","status":"True","lastTransitionTime":null,"message":"a \\u003e b"}]'
    )
    await w.patch(first, "h", {"spec": {"maxReplicas": 5}})
    new = w.get(second, "h")
    assert [metric["type"] for metric in new["spec"]["metrics"]] == ["Object", "External", "Resource"]
    assert new["spec"]["metrics"][0] == metrics[1]
    assert new["status"]["currentMetrics"][0]["resource"]["current"] == {"averageUtilization": 5, "averageValue": "0"}


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("metrics", "[1]"),
        ("metrics", '[{"type":5}]'),
        ("metrics", '[{"type":"Pods","pods":[]}]'),
        ("metrics", "{"),
        ("current-metrics", '[{"type":[]}]'),
        ("conditions", '[{"type":5}]'),
        ("behavior", '{"ScaleUp":{"Policies":[1]}}'),
    ],
)
async def test_notes_that_no_autoscaler_made_count_for_nothing(w: KindsWorld, name: str, note: str) -> None:
    first, second = "horizontalpodautoscalers.autoscaling@v1", "horizontalpodautoscalers.autoscaling@v2"
    await w.create(first, {**meta("h", annotations={f"autoscaling.alpha.kubernetes.io/{name}": note}), "spec": SCALED})
    found = w.get(second, "h")
    assert [metric["type"] for metric in found["spec"]["metrics"]] == ["Resource"]
    assert "annotations" not in found["metadata"]
    assert "conditions" not in found["status"]


async def test_how_an_autoscaler_behaves_is_kept_in_a_note_of_the_first_version(w: KindsWorld) -> None:
    first, second = "horizontalpodautoscalers.autoscaling@v1", "horizontalpodautoscalers.autoscaling@v2"
    made = await w.create(second, {**meta("h"), "spec": {**SCALED, "behavior": {"scaleDown": {"tolerance": "0.1"}}}})
    note = w.get(first, "h")["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"]
    assert note.startswith('{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","Policies":[{"Type":"Pods"')
    assert note.endswith('"Tolerance":"100m"}}')
    await w.patch(first, "h", {"spec": {"maxReplicas": 5}})
    assert w.get(second, "h")["spec"]["behavior"] == made["spec"]["behavior"]


async def test_an_autoscalers_bounds_agree(w: KindsWorld) -> None:
    kind = "horizontalpodautoscalers.autoscaling@v2"
    spec = {"minReplicas": 4, "maxReplicas": 3, "scaleTargetRef": {"kind": "", "name": "d"}}
    assert await w.wrong(w.create(kind, {**meta("h"), "spec": spec})) == [
        "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
        "spec.scaleTargetRef.kind: Required value",
        'spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group',
    ]
    spec = {"scaleTargetRef": {"kind": "ReplicationController", "name": "r"}}
    assert await w.wrong(w.create(kind, {**meta("h"), "spec": spec})) == [
        "spec.maxReplicas: Required value: must be set and greater than 0",
        "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
    ]


async def test_what_an_autoscaler_scales_tells_its_group(w: KindsWorld) -> None:
    kind = "horizontalpodautoscalers.autoscaling@v2"
    target = {"apiVersion": "v1", "kind": "ReplicationController", "name": "d"}
    made = await w.create(kind, {**meta("h"), "spec": {"maxReplicas": 3, "scaleTargetRef": target}})
    assert made["spec"]["scaleTargetRef"] == target
    change = {"spec": {"scaleTargetRef": {"kind": "Deployment"}}}
    assert await w.wrong(w.patch(kind, "h", change)) == [
        'spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group'
    ]
    change = {"spec": {"scaleTargetRef": {"kind": "Deployment", "apiVersion": "a/b/c"}}}
    assert await w.wrong(w.patch(kind, "h", change)) == [
        'spec.scaleTargetRef.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c'
    ]


# --- networking -----------------------------------------------------------------------------------------------------
async def test_a_network_policy_is_about_what_it_speaks_of(w: KindsWorld) -> None:
    kind = "networkpolicies.networking.k8s.io"
    made = await w.create(kind, {**meta("a"), "spec": {"podSelector": {}}})
    assert made["spec"]["policyTypes"] == ["Ingress"]
    made = await w.create(kind, {**meta("b"), "spec": {"podSelector": {}, "egress": [{"ports": [{"port": 1}]}]}})
    assert made["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert made["spec"]["egress"] == [{"ports": [{"port": 1, "protocol": "TCP"}]}]


async def test_an_exception_lies_within_its_block(w: KindsWorld) -> None:
    block = {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "192.168.0.0/16", "10.0.0.0/8"]}
    spec = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": block}]}]}
    path, text = "spec.ingress[0].from[0].ipBlock.except", "must be a strict subset of `cidr`"
    assert await w.wrong(w.create("networkpolicies.networking.k8s.io", {**meta("a"), "spec": spec})) == [
        f'{path}[1]: Invalid value: "192.168.0.0/16": {text}',
        f'{path}[2]: Invalid value: "10.0.0.0/8": {text}',
    ]


async def test_what_an_ingress_may_not_say(w: KindsWorld) -> None:
    kind = "ingresses.networking.k8s.io"
    assert await w.wrong(w.create(kind, {**meta("i"), "spec": {}})) == [
        "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"
    ]
    path = {"path": "x", "pathType": "Prefix", "backend": {"service": {"name": "s"}}}
    rules = [{"host": "10.0.0.1", "http": {"paths": [path]}}]
    where = "spec.rules[0].http.paths[0]"
    assert await w.wrong(w.create(kind, {**meta("i"), "spec": {"rules": rules}})) == [
        'spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address',
        f'{where}.path: Invalid value: "x": must be an absolute path',
        f"{where}.backend: Required value: port name or number is required",
    ]


async def test_leases_are_put_with_their_version_alone(w: KindsWorld) -> None:
    kind = "leases.coordination.k8s.io"
    made = await w.update(kind, {**meta("l"), "spec": {"holderIdentity": "a"}})
    texts = await w.wrong(w.update(kind, {**meta("l"), "spec": {"holderIdentity": "b"}}))
    assert texts == ["metadata.resourceVersion: Invalid value: 0: must be specified for an update"]
    made["spec"]["holderIdentity"] = "b"
    assert (await w.update(kind, made))["spec"] == {"holderIdentity": "b"}


async def test_blocks_that_were_mistakable_before_stay(w: KindsWorld) -> None:
    kind = "networkpolicies.networking.k8s.io"
    policy = {**meta("n"), "spec": {"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.5/24"}}]}]}}
    text = "must not have bits set beyond the prefix length"
    assert await w.wrong(w.create(kind, policy)) == [
        f'spec.egress[0].to[0].ipBlock.cidr: Invalid value: "10.0.0.5/24": {text}'
    ]
    policy["spec"]["egress"][0]["to"][0]["ipBlock"] = {"cidr": "2001:db8:0::/64", "except": ["2001:db8:0::/65"]}
    path, canonical = "spec.egress[0].to[0].ipBlock", "should be in RFC 5952 canonical format"
    assert await w.warnings(kind, policy) == [
        f'{path}.cidr: IPv6 CIDR value "2001:db8:0::/64" {canonical} ("2001:db8::/64")',
        f'{path}.except[0]: IPv6 CIDR value "2001:db8:0::/65" {canonical} ("2001:db8::/65")',
    ]


async def test_parameters_of_an_ingress_class_are_the_clusters(w: KindsWorld) -> None:
    spec = {"controller": "example.org/c", "parameters": {"kind": "K", "name": "n"}}
    made = await w.create("ingressclasses.networking.k8s.io", {**meta("i"), "spec": spec})
    assert made["spec"]["parameters"]["scope"] == "Cluster"
