"""Webhooks: what they are sent, what becomes of their answers, and when they are asked."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from admission_world import World, attributes, refusal, run
from aiohttp import web
from msgspec.structs import replace
from webhook_server import Hooks, hooks, reviewed, webhook, webhook_authority

from kubegate.admission import Attributes, GroupVersionKind, Operation
from kubegate.admission.build import build
from kubegate.admission.chain import Chain
from kubegate.admission.config import PLUGINS, AdmissionOptions
from kubegate.admission.dependencies import AsTheyAre
from kubegate.admission.webhooks import dispatch
from kubegate.api import Object
from kubegate.api.clock import answer_by
from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo

__all__ = ["hooks", "webhook_authority"]

NAMES = ("MutatingAdmissionWebhook", "ValidatingAdmissionWebhook")
GROUP = "admissionregistration.k8s.io"
JANE = UserInfo("jane", groups=("dev",), extra={"scope": ("a", "b")})


def config_map(name: str = "c", **data: str) -> Object:
    metadata = {"name": name, "namespace": "ns"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data or {"a": "1"}}


class Webhooks:
    """A chain of the two plugins alone, and configurations for it."""

    def __init__(self, world: World, **configurations: Object) -> None:
        self.world = world
        self.chain: Chain = world.chain(*NAMES, **configurations)

    def configure(self, kind: str, name: str, *webhooks: Object) -> None:
        self.world.objects.put(
            f"{kind}webhookconfigurations.{GROUP}", {"metadata": {"name": name}, "webhooks": webhooks}
        )

    def mutating(self, name: str, *webhooks: Object) -> None:
        self.configure("mutating", name, *webhooks)

    def validating(self, name: str, *webhooks: Object) -> None:
        self.configure("validating", name, *webhooks)


@pytest.fixture
async def webhooks(world: World) -> AsyncIterator[Webhooks]:
    found = Webhooks(world)
    yield found
    await found.chain.close()


# --- what is sent


async def test_a_webhook_is_sent_the_whole_review(webhooks: Webhooks, hooks: Hooks) -> None:
    hooks.answers["see"] = {"allowed": True}
    webhooks.validating("v", webhook(hooks, "see"))
    asked = attributes("configmaps", config_map(a="2"), config_map(a="1"), user=JANE, dry_run=True)
    asked.options = {"kind": "PatchOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"], "force": True}
    await run(webhooks.chain, asked)
    [review] = hooks.sent("see")
    uid = review["request"].pop("uid")
    kind, resource = ({"group": "", "version": "v1", name: value} for name, value in
                      (("kind", "ConfigMap"), ("resource", "configmaps")))  # fmt: skip
    assert len(uid) == 36
    assert review == {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "name": "c",
            "namespace": "ns",
            "operation": "UPDATE",
            "userInfo": {"username": "jane", "groups": ["dev"], "extra": {"scope": ["a", "b"]}},
            "object": config_map(a="2"),
            "oldObject": config_map(a="1"),
            "dryRun": True,
            "options": {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"]},
        },
    }
    assert list(review["request"])[-4:] == ["object", "oldObject", "dryRun", "options"]
    assert hooks.requests[0].query_string == "timeout=5s"
    assert hooks.requests[0].headers["Content-Type"] == "application/json"


async def test_what_is_deleted_is_the_old_object_alone(webhooks: Webhooks, hooks: Hooks) -> None:
    hooks.answers["see"] = {"allowed": True}
    webhooks.validating("v", webhook(hooks, "see"))
    await run(webhooks.chain, attributes("configmaps", None, config_map()))
    request = hooks.sent("see")[0]["request"]
    assert (request["object"], request["oldObject"]["data"]) == (None, {"a": "1"})


async def test_the_first_version_that_both_know_is_spoken(webhooks: Webhooks, hooks: Hooks) -> None:
    hooks.answers["old"] = lambda review: {"allowed": True, "uid": "", "patch": [
        {"op": "add", "path": "/data/b", "value": "2"}], "patchType": None}  # fmt: skip
    webhooks.mutating("m", webhook(hooks, "old", admissionReviewVersions=["v7", "v1beta1", "v1"]))
    stored = await run(webhooks.chain, attributes("configmaps", config_map()))
    assert hooks.sent("old")[0]["apiVersion"] == "admission.k8s.io/v1beta1"
    assert stored["data"] == {"a": "1", "b": "2"}


async def test_an_equivalent_resource_is_sent_in_the_version_of_the_rule(world: World, hooks: Hooks) -> None:
    class Converting(AsTheyAre):
        async def convert(self, object: Object, kind: GroupVersionKind) -> Object:
            return {**object, "apiVersion": kind.api_version}

    dependencies = world.dependencies()

    chain = build(
        AdmissionOptions(enable=NAMES, disable=tuple(name for name in PLUGINS if name not in NAMES)),
        replace(dependencies, objects=Converting()),
    )
    rule = {"operations": ["*"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
            "resources": ["horizontalpodautoscalers"]}  # fmt: skip
    # conditions see the object in the rule's version, and the resource that was asked for
    condition = "object.apiVersion == 'autoscaling/v2' && request.resource.version == 'v1'"
    hooks.answers |= {
        "same": {"allowed": True, "patch": [{"op": "add", "path": "/spec", "value": {"maxReplicas": 3}}]},
        "exact": {"allowed": False},
    }
    world.objects.put(
        f"mutatingwebhookconfigurations.{GROUP}",
        {"metadata": {"name": "m"}, "webhooks": [
            webhook(hooks, "same", rules=[rule], matchConditions=[{"name": "c", "expression": condition}]),
            webhook(hooks, "exact", rules=[rule], matchPolicy="Exact")]},
    )  # fmt: skip
    scaler = {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}}
    asked = attributes("horizontalpodautoscalers.autoscaling", scaler)
    asked.kind = GroupVersionKind("autoscaling", "v1", "HorizontalPodAutoscaler")
    asked.resource = type(asked.resource)("autoscaling", "v1", "horizontalpodautoscalers")
    stored = await run(chain, asked)
    await chain.close()
    request = hooks.sent("same")[0]["request"]
    assert request["kind"]["version"] == "v2"
    assert request["requestKind"]["version"] == "v1"
    assert request["object"]["apiVersion"] == "autoscaling/v2"
    assert (stored["apiVersion"], stored["spec"]) == ("autoscaling/v1", {"maxReplicas": 3})
    assert hooks.sent("exact") == []


# --- order


async def test_mutating_webhooks_are_asked_one_after_the_other_by_name(webhooks: Webhooks, hooks: Hooks) -> None:
    for name in ("one", "two", "three"):
        hooks.answers[name] = {"allowed": True, "patch": [{"op": "add", "path": f"/data/{name}", "value": "seen"}]}
    webhooks.mutating("z", webhook(hooks, "three"))
    webhooks.mutating("a", webhook(hooks, "one"), webhook(hooks, "two"))
    stored = await run(webhooks.chain, attributes("configmaps", config_map()))
    assert [path for path, _ in hooks.reviews] == ["one", "two", "three"]
    assert list(hooks.sent("three")[0]["request"]["object"]["data"]) == ["a", "one", "two"]
    assert list(stored["data"]) == ["a", "one", "two", "three"]


async def test_a_webhook_looks_again_where_one_after_it_changed_the_object(webhooks: Webhooks, hooks: Hooks) -> None:
    hooks.answers["early"] = {"allowed": True, "patch": [{"op": "add", "path": "/data/early", "value": "1"}]}
    hooks.answers["once"] = {"allowed": True}
    hooks.answers["late"] = {"allowed": True, "patch": [{"op": "add", "path": "/data/late", "value": "1"}]}
    webhooks.mutating("m", webhook(hooks, "early", reinvocationPolicy="IfNeeded"), webhook(hooks, "once"))
    await run(webhooks.chain, attributes("configmaps", config_map()))
    assert len(hooks.sent("early")) == 1
    webhooks.mutating("n", webhook(hooks, "late", reinvocationPolicy="IfNeeded"))
    asked = attributes("configmaps", config_map())
    await run(webhooks.chain, asked)
    assert len(hooks.sent("early")) == 3
    assert hooks.sent("early")[2]["request"]["object"]["data"] == {"a": "1", "early": "1", "late": "1"}
    assert len(hooks.sent("once")) == 2
    assert len(hooks.sent("late")) == 1
    annotation = asked.trace.audit_annotations["mutation.webhook.admission.k8s.io/round_1_index_0"]
    assert json.loads(annotation) == {"configuration": "m", "webhook": "early.example.org", "mutated": False}


async def test_validating_webhooks_are_asked_at_the_same_time(webhooks: Webhooks, hooks: Hooks) -> None:
    together = asyncio.Barrier(3)

    async def meet(review: Object) -> Object:
        await together.wait()
        return {"allowed": True}

    hooks.answers |= dict.fromkeys(("one", "two", "three"), meet)
    webhooks.validating("v", *(webhook(hooks, name) for name in ("one", "two", "three")))
    await asyncio.wait_for(run(webhooks.chain, attributes("configmaps", config_map())), 5)
    assert len(hooks.reviews) == 3


async def test_the_first_refusal_to_arrive_is_the_one_told(webhooks: Webhooks, hooks: Hooks) -> None:
    refused = asyncio.Event()

    async def late(review: Object) -> Object:
        await refused.wait()
        return {"allowed": False, "status": {"message": "late"}}

    def quick(review: Object) -> Object:
        asyncio.get_running_loop().call_later(0.05, refused.set)
        return {"allowed": False, "status": {"message": "quick"}}

    hooks.answers |= {"late": late, "quick": quick}
    webhooks.validating("v", webhook(hooks, "late"), webhook(hooks, "quick"))
    text = await refusal(webhooks.chain, attributes("configmaps", config_map()))
    assert text == 'admission webhook "quick.example.org" denied the request: quick'


# --- answers


@pytest.mark.parametrize(
    ("status", "code", "reason", "text"),
    [
        ({}, 400, "", "denied the request without explanation"),
        ({"message": "no"}, 400, "", "denied the request: no"),
        ({"reason": "NotFound"}, 400, "NotFound", "denied the request: NotFound"),
        ({"code": 200, "message": "odd"}, 400, "", "denied the request: odd"),
        ({"code": 418, "message": "tea"}, 418, "", "denied the request: tea"),
    ],
)
async def test_a_refusal_is_told_in_the_webhooks_words(
    webhooks: Webhooks, hooks: Hooks, status: Object, code: int, reason: str, text: str
) -> None:
    hooks.answers["no"] = {"allowed": False, "status": status}
    webhooks.validating("v", webhook(hooks, "no"))
    with pytest.raises(StatusError) as caught:
        await run(webhooks.chain, attributes("configmaps", config_map()))
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert caught.value.message == f'admission webhook "no.example.org" {text}'


async def test_a_refusal_keeps_its_details_and_list_metadata(webhooks: Webhooks, hooks: Hooks) -> None:
    status = {"code": 429, "reason": "TooManyRequests", "details": {"retryAfterSeconds": 7},
              "metadata": {"resourceVersion": "5", "name": "dropped"}}  # fmt: skip
    hooks.answers["no"] = {"allowed": False, "status": status}
    webhooks.validating("v", webhook(hooks, "no"))
    with pytest.raises(StatusError) as caught:
        await run(webhooks.chain, attributes("configmaps", config_map()))
    body = caught.value.status()
    assert (body["details"], body["metadata"]) == ({"retryAfterSeconds": 7}, {"resourceVersion": "5"})
    assert caught.value.headers == {"Retry-After": "7"}


def bare(review: Object) -> bytes:
    """As in many a blog post: no apiVersion, no kind."""
    return json.dumps({"response": {"uid": review["request"]["uid"], "allowed": True}}).encode()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "failed to call webhook: 0-length response with status code: 200 and content type: application/json"),
        (b"{}", "received invalid webhook response: webhook response was absent"),
        (b"null", "received invalid webhook response: webhook response was absent"),
        (b'{"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "m"}',
         "failed to call webhook: converting (v1.Status) to (v1.AdmissionReview): unknown conversion"),
        (b'{"apiVersion": "a/b/c", "kind": "AdmissionReview"}',
         "failed to call webhook: unexpected GroupVersion string: a/b/c"),
        ({"allowed": True, "patch": "W10=", "patchType": ""},
         'received invalid webhook response: webhook returned invalid response.patchType of ""'),
        ({"allowed": True, "patchType": 1}, "failed to call webhook: json: cannot unmarshal number into Go struct "
         "field AdmissionResponse.response.patchType of type v1.PatchType"),
        (
            bare,
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, "
            "Kind=AdmissionReview, got /, Kind=",
        ),
        ({"allowed": True, "uid": "x"}, 'received invalid webhook response: expected response.uid="UID", got "x"'),
        (
            b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "response": {"allowed": true}}',
            "failed to call webhook: converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion",
        ),
        ({"allowed": "yes"}, "failed to call webhook: json: cannot unmarshal string into Go struct field "
         "AdmissionResponse.response.allowed of type bool"),
        ({"allowed": True, "patch": "W10="}, "received invalid webhook response: webhook returned response.patch but "
         "not response.patchType"),
        ({"allowed": True, "patch": "W10=", "patchtype": "JSONPatch"}, "received invalid webhook response: webhook "
         "returned response.patch but not response.patchType"),
        ({"allowed": True, "patchType": "JSONPatch"}, "received invalid webhook response: webhook returned "
         "response.patchType but not response.patch"),
        ({"allowed": False, "status": {"code": "x"}}, "failed to call webhook: json: cannot unmarshal string into Go "
         "struct field Status.response.status.code of type int32"),
        ({"allowed": True, "patch": "***", "patchType": "JSONPatch"},
         "failed to call webhook: illegal base64 data at input byte 0"),
        ({"allowed": True, "patch": "aGVsbG8=", "patchType": "JSONPatch"}, "received undecodable patch in webhook "
         "response: invalid character 'h' looking for beginning of value"),
        ({"allowed": True, "patch": [{"op": "add", "path": "/data/b", "value": "2"}], "patchType": "Merge"},
         'unsupported patch type "Merge"'),
        (lambda review: web.Response(status=500, text="boom"),
         'failed to call webhook: an error on the server ("boom") has prevented the request from succeeding'),
        (lambda review: web.Response(status=404), "failed to call webhook: the server could not find the requested "
         "resource"),
    ],
)  # fmt: skip
async def test_an_answer_that_cannot_be_used_is_told_as_such_or_ignored(
    webhooks: Webhooks, hooks: Hooks, answer: Any, text: str
) -> None:
    hooks.answers["odd"] = answer
    webhooks.mutating("m", webhook(hooks, "odd"))
    told = await refusal(webhooks.chain, attributes("configmaps", config_map()))
    told = told.replace(hooks.sent("odd")[0]["request"]["uid"], "UID")
    assert told == f'Internal error occurred: failed calling webhook "odd.example.org": {text}'
    webhooks.mutating("m", webhook(hooks, "odd", failurePolicy="Ignore"))
    asked = attributes("configmaps", config_map())
    assert await run(webhooks.chain, asked) == config_map()
    annotations = asked.trace.audit_annotations
    assert annotations["failed-open.mutation.webhook.admission.k8s.io/round_0_index_0"] == "odd.example.org"


@pytest.mark.parametrize(
    ("patch", "text"),
    [
        ([{"op": "replace", "path": "/metadata/labels/x", "value": "y"}],
         "replace operation does not apply: doc is missing path: /metadata/labels/x: missing value"),
        ([{"op": "test", "path": "/data/a", "value": "2"}], "testing value /data/a failed: test failed"),
        ([{"op": "remove", "path": "/data/b"}],
         "error in remove for path: '/data/b': Unable to remove nonexistent key: b: missing value"),
        ([{"op": "add", "path": "/data/b/c", "value": "1"}],
         'add operation does not apply: doc is missing path: "/data/b/c": missing value'),
        ([{"op": "grow", "path": "/data"}], "Unexpected kind: grow"),
        ([None], "Unexpected kind: unknown"),
        ([{"op": "add"}], "add operation failed to decode path: missing value"),
        ([{"op": "replace"}], "replace operation failed to decode path: operation missing path field: missing value"),
        ([{"op": "move", "path": "/data"}],
         "move operation failed to decode from: operation, missing from field: missing value"),
        ([{"op": "test", "path": 1}], "test operation failed to decode path: json: cannot unmarshal number into Go "
         "value of type string"),
        ([{"op": "add", "path": "/data/l", "value": []}, {"op": "replace", "path": "/data/l/+7", "value": "y"}],
         "replace operation does not apply: doc is missing key: /data/l/+7: missing value"),
        ([{"op": "add", "path": "/data/l", "value": []}, {"op": "remove", "path": "/data/l/07"}],
         "error in remove for path: '/data/l/07': Unable to access invalid index: 7: invalid index referenced"),
        ([{"op": "replace", "path": "", "value": []}], "couldn't get version/kind; json parse error: json: cannot "
         "unmarshal array into Go value of type struct "
         '{ APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'),
    ],
)  # fmt: skip
async def test_a_patch_that_does_not_fit_is_an_error_whatever_the_failure_policy(
    webhooks: Webhooks, hooks: Hooks, patch: list[Object], text: str
) -> None:
    hooks.answers["patch"] = {"allowed": True, "patch": patch}
    webhooks.mutating("m", webhook(hooks, "patch", failurePolicy="Ignore"))
    told = await refusal(webhooks.chain, attributes("configmaps", config_map()))
    assert told == f"Internal error occurred: {text}"


async def test_replacing_what_is_not_there_adds_it_and_the_whole_by_no_object_does_nothing(
    webhooks: Webhooks, hooks: Hooks
) -> None:
    whole = {"op": "replace", "path": "", "value": 5}
    hooks.answers["patch"] = {"allowed": True, "patch": [whole, {"op": "replace", "path": "/data/new", "value": "1"}]}
    webhooks.mutating("m", webhook(hooks, "patch"))
    before = config_map()
    after = await run(webhooks.chain, attributes("configmaps", config_map()))
    assert after == {**before, "data": {**before["data"], "new": "1"}}


async def test_what_is_being_deleted_cannot_be_changed(webhooks: Webhooks, hooks: Hooks) -> None:
    hooks.answers["patch"] = {"allowed": True, "patch": [{"op": "add", "path": "/data/b", "value": "1"}]}
    webhooks.mutating("m", webhook(hooks, "patch"))
    assert await refusal(webhooks.chain, attributes("configmaps", None, config_map())) == (
        'Internal error occurred: admission webhook "patch.example.org" attempted to modify the object, which is not '
        "supported for this operation"
    )


async def test_warnings_and_audit_annotations_are_told(webhooks: Webhooks, hooks: Hooks) -> None:
    hooks.answers["warn"] = {"allowed": True, "warnings": ["one", "two", "one"], "auditAnnotations": {"team": "a"}}
    webhooks.validating("v", webhook(hooks, "warn"))
    asked = attributes("configmaps", config_map())
    await run(webhooks.chain, asked)
    assert asked.trace.warnings == ["one", "two"]
    assert asked.trace.audit_annotations == {"warn.example.org/team": "a"}


async def test_the_trace_shows_what_each_webhook_changed_but_for_secrets(webhooks: Webhooks, hooks: Hooks) -> None:
    patch = [{"op": "add", "path": "/data/b", "value": "2"}]
    hooks.answers["patch"] = {"allowed": True, "patch": patch}
    rule = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps", "secrets"]}
    webhooks.mutating("m", webhook(hooks, "patch", rules=[rule]))
    for resource, shown in (("configmaps", patch), ("secrets", [])):
        asked = attributes(resource, config_map())
        await run(webhooks.chain, asked)
        stage = next(stage for stage in asked.trace.stages if stage.name == "webhook/patch.example.org")
        assert (stage.decision, stage.changes()) == ("changed", shown)


# --- failures


async def test_a_webhook_that_hangs_holds_up_only_what_it_is_about(webhooks: Webhooks, hooks: Hooks) -> None:
    released = asyncio.Event()

    async def hang(review: Object) -> Object:
        await released.wait()
        return {"allowed": True}

    hooks.answers["hang"] = hang
    selector = {"matchLabels": {"hang": "yes"}}
    webhooks.validating("v", webhook(hooks, "hang", timeoutSeconds=1, failurePolicy="Ignore", objectSelector=selector))
    slow = attributes("configmaps", {**config_map(), "metadata": {"name": "c", "labels": {"hang": "yes"}}})
    start = time.monotonic()
    waiting = asyncio.create_task(run(webhooks.chain, slow))
    await run(webhooks.chain, attributes("configmaps", config_map()))
    assert time.monotonic() - start < 0.5
    await waiting
    assert 0.9 < time.monotonic() - start < 3
    released.set()


async def test_a_webhook_slower_than_its_timeout_has_not_answered(webhooks: Webhooks, hooks: Hooks) -> None:
    released = asyncio.Event()

    async def hang(review: Object) -> Object:
        await released.wait()
        return {"allowed": True}

    hooks.answers["hang"] = hang
    webhooks.validating("v", webhook(hooks, "hang", timeoutSeconds=1))
    told = await refusal(webhooks.chain, attributes("configmaps", config_map()))
    released.set()
    assert told == (
        'Internal error occurred: failed calling webhook "hang.example.org": failed to call webhook: '
        f'Post "{hooks.url("hang")}?timeout=1s": context deadline exceeded'
    )


async def test_a_webhook_has_no_more_time_than_the_request_has_left(webhooks: Webhooks, hooks: Hooks) -> None:
    hooks.answers["x"] = lambda review: web.Response(status=404)
    webhooks.validating("v", webhook(hooks, "x", timeoutSeconds=5))
    told = answer_by.set(asyncio.get_running_loop().time() + 2.5)
    try:
        await refusal(webhooks.chain, attributes("configmaps", config_map()))
    finally:
        answer_by.reset(told)
    await refusal(webhooks.chain, attributes("configmaps", config_map()))
    assert [request.query["timeout"] for request in hooks.requests] == ["3s", "5s"]


async def test_a_webhook_that_is_busy_is_asked_again_when_it_says(webhooks: Webhooks, hooks: Hooks) -> None:
    busy = [web.Response(status=429, headers={"Retry-After": "0"})]
    hooks.answers["x"] = lambda review: busy.pop() if busy else web.json_response(reviewed(review, {"allowed": True}))
    webhooks.validating("v", webhook(hooks, "x"))
    await run(webhooks.chain, attributes("configmaps", config_map()))
    first, second = hooks.sent("x")
    assert first == second


async def test_a_server_that_the_bundle_does_not_vouch_for_is_not_asked(webhooks: Webhooks, hooks: Hooks) -> None:
    from kubegate.pki import certificates

    other = base64.b64encode(certificates.new_authority("other").pem).decode()
    client = {"url": hooks.url("x"), "caBundle": other}
    webhooks.validating("v", webhook(hooks, "x", clientConfig=client))
    told = await refusal(webhooks.chain, attributes("configmaps", config_map()))
    assert told.endswith("tls: failed to verify certificate: x509: certificate signed by unknown authority")
    assert hooks.reviews == []


async def test_a_webhook_with_side_effects_is_not_called_in_a_dry_run(webhooks: Webhooks, hooks: Hooks) -> None:
    webhooks.validating("v", webhook(hooks, "x", sideEffects="Some"))
    told = await refusal(webhooks.chain, attributes("configmaps", config_map(), dry_run=True))
    assert told == 'admission webhook "x.example.org" does not support dry run'
    assert hooks.reviews == []


# --- services


async def test_a_service_is_called_at_its_endpoints_under_its_own_name(webhooks: Webhooks, hooks: Hooks) -> None:
    hooks.answers["check/it"] = {"allowed": False, "status": {"message": "reached"}}
    service = {"namespace": "ns", "name": "hook", "path": "/check/it", "port": 443}
    webhooks.validating("v", webhook(hooks, "x", clientConfig={"service": service, "caBundle": hooks.bundle}))

    async def told() -> str:
        text = await refusal(webhooks.chain, attributes("configmaps", config_map()))
        return text.removeprefix('Internal error occurred: failed calling webhook "x.example.org": ')

    post = 'failed to call webhook: Post "https://hook.ns.svc:443/check/it?timeout=5s"'
    put = webhooks.world.objects.put
    assert await told() == f'{post}: service "hook" not found'
    meta = {"metadata": {"name": "hook", "namespace": "ns"}}
    put("services", {**meta, "spec": {"clusterIP": "None", "ports": [{"port": 443}]}})
    assert await told() == f'{post}: cannot route to service with ClusterIP "None"'
    put("services", {**meta, "spec": {"clusterIP": "10.0.0.7", "ports": [{"port": 80}]}})
    assert await told() == f'{post}: no service port 443 found for service "hook"'
    put("services", {**meta, "spec": {"clusterIP": "10.0.0.7", "ports": [{"port": 443, "name": "https"}]}})
    assert await told() == f'{post}: no endpoints available for service "hook"'
    ports = [{"port": hooks.port, "name": "https"}]
    put("endpoints", {**meta, "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": ports}]})
    assert await told() == 'admission webhook "x.example.org" denied the request: reached'
    assert hooks.requests[0].headers["Host"] == "hook.ns.svc"
    put("endpoints", {**meta, "subsets": []})
    put(
        "endpointslices.discovery.k8s.io",
        {
            "metadata": {"name": "h1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "hook"}},
            "endpoints": [
                {"addresses": ["127.0.0.2"], "conditions": {"ready": False}},
                {"addresses": ["127.0.0.1"], "conditions": {"ready": True}},
            ],
            "ports": ports,
        },
    )
    assert await told() == 'admission webhook "x.example.org" denied the request: reached'


async def test_a_service_that_is_mapped_to_an_address_needs_no_api(world: World, hooks: Hooks) -> None:
    dependencies = replace(world.dependencies(), services={"hook.ns.svc": ("127.0.0.1", hooks.port)})
    chain = build(
        AdmissionOptions(enable=NAMES, disable=tuple(name for name in PLUGINS if name not in NAMES)), dependencies
    )
    hooks.answers[""] = {"allowed": False, "status": {"message": "reached"}}
    client = {"service": {"namespace": "ns", "name": "hook", "port": 443}, "caBundle": hooks.bundle}
    world.objects.put(
        f"validatingwebhookconfigurations.{GROUP}",
        {"metadata": {"name": "v"}, "webhooks": [webhook(hooks, "x", clientConfig=client)]},
    )
    text = await refusal(chain, attributes("configmaps", config_map()))
    await chain.close()
    assert text.endswith("denied the request: reached")


async def test_credentials_are_chosen_by_the_host_that_is_called(world: World, hooks: Hooks, tmp_path: Path) -> None:
    users = [
        {"name": f"127.0.0.1:{hooks.port}", "user": {"token": "for-this-port"}},
        {"name": "*", "user": {"token": "for-everybody"}},
    ]
    file = tmp_path / "hooks.kubeconfig"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "users": users}))
    configuration = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration",
                     "kubeConfigFile": str(file)}  # fmt: skip
    chain = world.chain(*NAMES, ValidatingAdmissionWebhook=configuration)
    hooks.answers["x"] = {"allowed": True}
    world.objects.put(
        f"validatingwebhookconfigurations.{GROUP}", {"metadata": {"name": "v"}, "webhooks": [webhook(hooks, "x")]}
    )
    await run(chain, attributes("configmaps", config_map()))
    await chain.close()
    assert hooks.requests[0].headers["Authorization"] == "Bearer for-this-port"


# --- whom is asked


def about(**rule: Any) -> Object:
    return {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], **rule}


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        (about(), True),
        (about(operations=["CREATE", "DELETE"]), True),
        (about(operations=["UPDATE"]), False),
        (about(apiGroups=["apps"]), False),
        (about(apiGroups=["*"], apiVersions=["*"], resources=["*"]), True),
        (about(apiVersions=["v2"]), False),
        (about(resources=["*/*"]), True),
        (about(resources=["configmaps/*"]), True),
        (about(resources=["*/status"]), False),
        (about(scope="Namespaced"), True),
        (about(scope="Cluster"), False),
    ],
)
async def test_rules_say_what_a_webhook_is_asked_about(
    webhooks: Webhooks, hooks: Hooks, rule: Object, asked: bool
) -> None:
    hooks.answers["x"] = {"allowed": True}
    webhooks.validating("v", webhook(hooks, "x", rules=[about(apiGroups=["none"]), rule]))
    await run(webhooks.chain, attributes("configmaps", config_map()))
    assert bool(hooks.reviews) is asked


async def test_a_namespace_counts_as_cluster_scoped_and_has_its_own_new_labels(
    webhooks: Webhooks, hooks: Hooks
) -> None:
    hooks.answers["x"] = {"allowed": True}
    rule = about(resources=["namespaces"], scope="Cluster")
    selector = {"matchLabels": {"tier": "gold"}}
    webhooks.validating("v", webhook(hooks, "x", rules=[rule], namespaceSelector=selector))
    for labels, count in (({}, 0), ({"tier": "gold"}, 1)):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new", "labels": labels}}
        await run(webhooks.chain, attributes("namespaces", namespace, namespace="new"))
        assert len(hooks.reviews) == count


async def test_selectors_look_at_the_namespace_and_at_the_new_or_the_old_object(
    webhooks: Webhooks, hooks: Hooks
) -> None:
    hooks.answers |= {"tier": {"allowed": True}, "guard": {"allowed": True}}
    webhooks.validating(
        "v",
        webhook(hooks, "tier", namespaceSelector={"matchLabels": {"tier": "gold"}}),
        webhook(hooks, "guard", objectSelector={"matchLabels": {"guard": "on"}}),
    )
    guarded = config_map()
    guarded["metadata"]["labels"] = {"guard": "on"}
    await run(webhooks.chain, attributes("configmaps", config_map()))
    assert hooks.reviews == []
    await run(webhooks.chain, attributes("configmaps", config_map(), guarded))
    await run(webhooks.chain, attributes("configmaps", None, guarded))
    assert len(hooks.sent("guard")) == 2
    webhooks.world.namespace("ns", labels={"tier": "gold"})
    await run(webhooks.chain, attributes("configmaps", config_map()))
    assert len(hooks.sent("tier")) == 1


async def test_an_object_in_a_namespace_that_is_not_there_is_an_error_for_a_namespace_selector(
    webhooks: Webhooks, hooks: Hooks
) -> None:
    webhooks.validating("v", webhook(hooks, "x", namespaceSelector={"matchLabels": {"a": "b"}}))
    told = await refusal(webhooks.chain, attributes("configmaps", config_map(), namespace="nowhere"))
    assert told == 'namespaces "nowhere" not found'


async def test_all_match_conditions_must_be_true(webhooks: Webhooks, hooks: Hooks) -> None:
    hooks.answers["x"] = {"allowed": True}
    conditions = [
        {"name": "who", "expression": "request.userInfo.username == 'jane' && 'dev' in request.userInfo.groups"},
        {"name": "what", "expression": "request.operation == 'CREATE' && object.data.size() > 0 && oldObject == null"},
        {"name": "may", "expression": "!authorizer.requestResource.check('delete').allowed()"},
    ]
    webhooks.validating("v", webhook(hooks, "x", matchConditions=conditions))
    bob, jane_elsewhere = UserInfo("bob", groups=("dev",)), UserInfo("jane", groups=("qa",))
    for user, count in ((JANE, 1), (bob, 1), (jane_elsewhere, 1), (JANE, 2)):
        await run(webhooks.chain, attributes("configmaps", config_map(), user=user))
        assert len(hooks.reviews) == count
    webhooks.world.allowed.add(("jane", "delete", "configmaps", "c"))
    await run(webhooks.chain, attributes("configmaps", config_map(), user=JANE))
    assert len(hooks.reviews) == 2


async def test_patches_are_told_where_request_bodies_are_but_not_those_of_secrets(
    webhooks: Webhooks, hooks: Hooks
) -> None:
    operations = [{"op": "add", "path": "/data/b", "value": "2"}]
    hooks.answers["x"] = {"allowed": True, "patch": operations}
    webhooks.mutating("m", webhook(hooks, "x", rules=[about(resources=["configmaps", "secrets"])]))
    key = "patch.webhook.admission.k8s.io/round_0_index_0"
    asked = attributes("configmaps", config_map())
    await run(webhooks.chain, asked)
    assert key not in asked.trace.audit_annotations
    assert json.loads(asked.trace.request_annotations[key]) == {
        "configuration": "m",
        "webhook": "x.example.org",
        "patch": operations,
        "patchType": "JSONPatch",
    }
    asked = attributes("secrets", {**config_map(), "kind": "Secret"})
    changed = await run(webhooks.chain, asked)
    assert changed["data"] == {"a": "1", "b": "2"}
    assert asked.trace.request_annotations == {}


async def test_a_match_condition_that_fails_refuses_unless_another_is_false(webhooks: Webhooks, hooks: Hooks) -> None:
    broken = {"name": "broken", "expression": "object.none == 1"}
    false = {"name": "false", "expression": "object.data.size() > 7"}
    webhooks.validating("v", webhook(hooks, "x", matchConditions=[broken]))
    told = await refusal(webhooks.chain, attributes("configmaps", config_map()))
    assert told == ("configmaps \"c\" is forbidden: expression 'object.none == 1' resulted in error: no such key: none")
    webhooks.validating("v", webhook(hooks, "x", matchConditions=[broken, false]))
    await run(webhooks.chain, attributes("configmaps", config_map()))
    webhooks.validating("v", webhook(hooks, "x", matchConditions=[broken], failurePolicy="Ignore"))
    await run(webhooks.chain, attributes("configmaps", config_map()))
    assert hooks.reviews == []


async def test_match_conditions_know_the_namespace_but_not_its_value(webhooks: Webhooks, hooks: Hooks) -> None:
    hooks.answers["x"] = {"allowed": True}
    none = {"name": "none", "expression": "namespaceObject == null"}
    webhooks.validating("v", webhook(hooks, "x", matchConditions=[none]))
    await run(webhooks.chain, attributes("configmaps", config_map()))
    assert len(hooks.reviews) == 1
    named = {"name": "named", "expression": "namespaceObject.metadata.name == 'ns'"}
    webhooks.validating("v", webhook(hooks, "x", matchConditions=[named]))
    told = await refusal(webhooks.chain, attributes("configmaps", config_map()))
    assert told.endswith("resulted in error: no such key: metadata")


@pytest.mark.parametrize(
    "resource",
    [
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ],
)
async def test_no_webhook_is_asked_about_what_configures_admission(
    webhooks: Webhooks, hooks: Hooks, resource: str
) -> None:
    everything = about(apiGroups=["*"], apiVersions=["*"], resources=["*"])
    webhooks.mutating("m", webhook(hooks, "x", rules=[everything]))
    webhooks.validating("v", webhook(hooks, "x", rules=[everything]))
    await run(webhooks.chain, attributes(f"{resource}.{GROUP}", {"metadata": {"name": "n"}}))
    assert hooks.reviews == []


async def test_a_configuration_holds_from_when_it_is_there_until_it_is_gone(webhooks: Webhooks, hooks: Hooks) -> None:
    from kubegate.storage import ObjectEvent

    hooks.answers["x"] = {"allowed": True}
    webhooks.validating("v", webhook(hooks, "x"))
    await run(webhooks.chain, attributes("configmaps", config_map()))
    stored = webhooks.world.objects.get(f"validatingwebhookconfigurations.{GROUP}", "", "v")
    assert stored is not None
    for resource, listener in webhooks.world.objects.listeners:
        if resource.startswith("validatingwebhookconfigurations"):
            listener(ObjectEvent.DELETED, stored, stored)
    await run(webhooks.chain, attributes("configmaps", config_map()))
    assert len(hooks.reviews) == 1


# --- published holes


async def test_cve_2020_8561_a_redirect_is_not_followed(webhooks: Webhooks, hooks: Hooks) -> None:
    """CVE-2020-8561: a webhook could send the server's request on into networks that only the server reaches."""
    hooks.answers["go"] = lambda review: web.Response(status=302, headers={"Location": hooks.url("inside")})
    hooks.answers["inside"] = {"allowed": True}
    webhooks.validating("v", webhook(hooks, "go"))
    told = await refusal(webhooks.chain, attributes("configmaps", config_map()))
    assert told.endswith("the server responded with the status code 302 but did not return more information")
    assert hooks.sent("inside") == []


@pytest.mark.parametrize("subresource", ["", "status", "scale"])
async def test_cve_2021_25735_the_old_object_is_the_stored_one_in_updates_of_subresources_too(
    webhooks: Webhooks, hooks: Hooks, subresource: str
) -> None:
    """CVE-2021-25735: webhooks were sent an old Node with fields of the new one, and let pass what they would not."""
    hooks.answers["x"] = {"allowed": True}
    rule = about(resources=["nodes", "nodes/*"])
    webhooks.validating("v", webhook(hooks, "x", rules=[rule]))
    old = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"guard": "on"}}}
    new = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    asked: Attributes = attributes("nodes", new, old, subresource=subresource, operation=Operation.UPDATE)
    await run(webhooks.chain, asked)
    request = hooks.sent("x")[0]["request"]
    assert request["oldObject"]["metadata"]["labels"] == {"guard": "on"}
    assert "labels" not in request["object"]["metadata"]
    assert request.get("subResource", "") == subresource


async def test_a_rule_for_a_resource_alone_does_not_cover_its_subresources_and_a_star_does(
    webhooks: Webhooks, hooks: Hooks
) -> None:
    hooks.answers |= {"plain": {"allowed": True}, "all": {"allowed": True}}
    webhooks.validating(
        "v",
        webhook(hooks, "plain", rules=[about(resources=["pods"])]),
        webhook(hooks, "all", rules=[about(resources=["pods/*"])]),
    )
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    await run(webhooks.chain, attributes("pods", pod, pod, subresource="ephemeralcontainers"))
    assert [path for path, _ in hooks.reviews] == ["all"]


def test_answers_are_reviews(webhook_authority: Any) -> None:
    review = {"apiVersion": "admission.k8s.io/v1", "request": {"uid": "u"}}
    assert reviewed(review, {"allowed": True})["response"] == {"uid": "u", "allowed": True}


async def test_each_webhook_sees_what_those_before_it_made_and_has_a_uid_of_its_own(
    webhooks: Webhooks, hooks: Hooks
) -> None:
    hooks.answers["first"] = {"allowed": True}
    hooks.answers["second"] = {"allowed": True, "patch": [{"op": "add", "path": "/data/b", "value": "2"}]}
    hooks.answers["third"] = {"allowed": True}
    webhooks.mutating("m", *(webhook(hooks, name) for name in ("first", "second", "third")))
    await run(webhooks.chain, attributes("configmaps", config_map(), config_map(a="0")))
    requests = [review["request"] for _, review in hooks.reviews]
    assert [request["object"]["data"] for request in requests] == [{"a": "1"}, {"a": "1"}, {"a": "1", "b": "2"}]
    assert [request["oldObject"]["data"] for request in requests] == [{"a": "0"}] * 3
    assert len({request["uid"] for request in requests}) == 3


async def test_a_webhook_that_hangs_holds_up_no_other_one_of_the_same_server(
    webhooks: Webhooks, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, asked = asyncio.Event(), asyncio.Event()

    async def hang(review: Object) -> Object:
        asked.set()
        await go.wait()
        return {"allowed": True}

    monkeypatch.setattr(dispatch, "_NO_CREDENTIALS", dataclasses.replace(dispatch._NO_CREDENTIALS, in_flight=1))
    hooks.answers |= {"hangs": lambda review: answer_later(review, hang), "other": {"allowed": True}}
    webhooks.validating("v", webhook(hooks, "hangs", rules=[about(resources=["secrets"])]), webhook(hooks, "other"))
    secret = {**config_map(), "kind": "Secret"}
    hung = [asyncio.create_task(run(webhooks.chain, attributes("secrets", secret))) for _ in range(3)]
    await asked.wait()
    for _ in range(3):
        await run(webhooks.chain, attributes("configmaps", config_map()))
    assert len(hooks.sent("other")) == 3
    assert len(hooks.sent("hangs")) == 1
    go.set()
    await asyncio.gather(*hung)


async def answer_later(review: Object, answer: Callable[[Object], Awaitable[Object]]) -> web.Response:
    return web.json_response(reviewed(review, await answer(review)))
