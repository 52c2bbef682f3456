"""Custom resources in another version than the stored one, made by a real webhook on the loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from hook_service import bundle_and_context, serving
from server_client import Answer, Client, Start

Object = dict[str, Any]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
STORED = "/apis/forms.example.org/v1/namespaces/default/forms"
OTHER = "/apis/forms.example.org/v2/namespaces/default/forms"


@dataclass
class Converter:
    """Moves spec.size (v1) to spec.length (v2) and back; `change` may spoil what it answers."""

    url: str = ""
    bundle: str = ""
    reviews: list[Object] = field(default_factory=list)
    change: Callable[[Object], Any] = field(default=lambda answer: answer)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        review = json.loads(await request.read())
        self.reviews.append(review)
        wanted = review["request"]
        objects = [self._converted(obj, wanted["desiredAPIVersion"]) for obj in wanted["objects"]]
        response = {"uid": wanted["uid"], "result": {"status": "Success"}, "convertedObjects": objects}
        answer = {"apiVersion": review["apiVersion"], "kind": "ConversionReview", "response": response}
        changed = self.change(answer)
        return changed if isinstance(changed, web.StreamResponse) else web.json_response(changed)

    def _converted(self, obj: Object, api_version: str) -> Object:
        spec = dict(obj.get("spec") or {})
        old, new = ("size", "length") if api_version.endswith("/v2") else ("length", "size")
        if old in spec:
            spec[new] = spec.pop(old)
        meta = {**obj["metadata"], "labels": {"converted-to": api_version.rpartition("/")[2]}}
        return {**obj, "apiVersion": api_version, "metadata": meta, "spec": {**spec, "unknown": 1}}


@pytest.fixture
async def converter(tmp_path: Path) -> AsyncIterator[Converter]:
    bundle, context = bundle_and_context(tmp_path)
    found = Converter(bundle=bundle)
    async with serving(context, found.handle) as url:
        found.url = f"{url}/convert"
        yield found


def version(name: str, member: str, **more: Any) -> Object:
    spec: Object = {"type": "object", "properties": {member: {"type": "integer"}, "color": {"type": "string"}}}
    schema = {"type": "object", "properties": {"spec": spec, "status": {"type": "object", "properties": {}}}}
    return {
        "name": name,
        "served": True,
        "storage": name == "v1",
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        **more,
    }


def definition(converter: Converter) -> Object:
    older = version("v1", "size")
    older["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["color"]["default"] = "red"
    webhook = {
        "clientConfig": {"url": converter.url, "caBundle": converter.bundle},
        "conversionReviewVersions": ["v1", "v1beta1"],
    }
    return {
        "metadata": {"name": "forms.forms.example.org"},
        "spec": {
            "group": "forms.example.org",
            "scope": "Namespaced",
            "names": {"plural": "forms", "kind": "Form"},
            "versions": [older, version("v2", "length")],
            "conversion": {"strategy": "Webhook", "webhook": webhook},
        },
    }


async def until(client: Client, path: str, holds: Callable[[Answer], bool]) -> Answer:
    """Ask again and again until the answer is so."""
    async with asyncio.timeout(20):
        while not holds(found := await client.ask("GET", path)):
            pass
    return found


@pytest.fixture
async def client(start: Start, converter: Converter) -> Client:
    """A client of a server that serves the definition."""
    client = (await start("--controllers=none")).client
    made = await client.ask("POST", CRDS, definition(converter))
    assert made.status == 201, made.json
    await until(client, OTHER, lambda found: found.status == 200)
    return client


def form(name: str, spec: Object, version: str = "v1") -> Object:
    return {"apiVersion": f"forms.example.org/{version}", "kind": "Form", "metadata": {"name": name}, "spec": spec}


async def test_what_is_stored_in_one_version_is_read_in_the_other(client: Client, converter: Converter) -> None:
    made = await client.ask("POST", STORED, form("a", {"size": 1}))
    assert converter.reviews == [], "the version that is stored costs no call"
    found = await client.ask("GET", f"{OTHER}/a")
    assert found.json["apiVersion"] == "forms.example.org/v2"
    assert found.json["spec"] == {"color": "red", "length": 1}, "defaulted before, pruned after"
    assert found.json["metadata"]["labels"] == {"converted-to": "v2"}
    assert found.json["metadata"]["uid"] == made.json["metadata"]["uid"]
    [review] = converter.reviews
    assert (review["kind"], review["apiVersion"]) == ("ConversionReview", "apiextensions.k8s.io/v1")
    assert review["request"]["desiredAPIVersion"] == "forms.example.org/v2"
    assert [obj["spec"] for obj in review["request"]["objects"]] == [{"color": "red", "size": 1}]


async def test_what_is_written_in_the_other_version_is_stored_converted(client: Client) -> None:
    made = await client.ask("POST", OTHER, form("a", {"length": 2}, "v2"))
    assert (made.status, made.json["spec"]["length"]) == (201, 2)
    assert (await client.ask("GET", f"{STORED}/a")).json["spec"]["size"] == 2
    merge = {"Content_Type": "application/merge-patch+json"}
    patched = await client.ask("PATCH", f"{OTHER}/a", {"spec": {"length": 3}}, **merge)
    assert patched.json["spec"]["length"] == 3
    assert (await client.ask("GET", f"{STORED}/a")).json["spec"]["size"] == 3
    replaced = await client.ask("PUT", f"{OTHER}/a", {**patched.json, "spec": {"length": 4}})
    assert (replaced.status, replaced.json["metadata"]["generation"]) == (200, 3)
    assert (await client.ask("GET", f"{STORED}/a")).json["spec"]["size"] == 4
    apply = {"Content_Type": "application/apply-patch+yaml"}
    applied = await client.ask("PATCH", f"{OTHER}/a?fieldManager=m&force=true", form("a", {"length": 5}, "v2"), **apply)
    assert (applied.status, applied.json["spec"]["length"]) == (200, 5)
    assert (await client.ask("DELETE", f"{OTHER}/a")).status == 200
    assert (await client.ask("GET", f"{STORED}/a")).status == 404


async def test_what_was_stored_before_another_version_was_is_converted_as_well(
    client: Client, converter: Converter
) -> None:
    await client.ask("POST", STORED, form("a", {"size": 1}))
    found = definition(converter)["spec"]["versions"]
    for version in found:
        version["storage"] = version["name"] == "v2"
    merge = {"Content_Type": "application/merge-patch+json"}
    patch = {"spec": {"versions": found}}
    assert (await client.ask("PATCH", f"{CRDS}/forms.forms.example.org", patch, **merge)).status == 200
    there = await until(client, f"{OTHER}/a", lambda found: "labels" in found.json["metadata"])
    assert (there.json["apiVersion"], there.json["spec"]["length"]) == ("forms.example.org/v2", 1)
    await client.ask("POST", OTHER, form("b", {"length": 2}, "v2"))
    listed = await client.ask("GET", OTHER)
    assert [item["spec"]["length"] for item in listed.json["items"]] == [1, 2]
    listed = await client.ask("GET", STORED)
    assert [item["spec"]["size"] for item in listed.json["items"]] == [1, 2]


async def test_lists_ask_once_for_all(client: Client, converter: Converter) -> None:
    for name in ("a", "b", "c"):
        await client.ask("POST", STORED, form(name, {"size": 1}))
    found = await client.ask("GET", OTHER)
    assert found.json["metadata"]["continue"] == "", "as in the version that is stored"
    assert [item["spec"]["length"] for item in found.json["items"]] == [1, 1, 1]
    assert {item["apiVersion"] for item in found.json["items"]} == {"forms.example.org/v2"}
    [review] = converter.reviews
    assert len(review["request"]["objects"]) == 3


async def test_watches_are_told_of_what_is_converted_and_ask_once_for_all(client: Client, converter: Converter) -> None:
    await client.ask("POST", STORED, form("a", {"size": 1}))
    headers = {"Authorization": "Bearer admin-token"}
    url = f"{client.url}{OTHER}?watch=1"
    async with (
        client.session.get(url, headers=headers, ssl=client.context) as one,
        client.session.get(url, headers=headers, ssl=client.context) as two,
    ):
        for answer in (one, two):
            event = orjson.loads(await answer.content.readline())
            assert (event["type"], event["object"]["spec"]["length"]) == ("ADDED", 1)
        assert len(converter.reviews) == 1
        await client.ask("POST", STORED, form("b", {"size": 2}))
        await client.ask("DELETE", f"{STORED}/b")
        for kind in ("ADDED", "DELETED"):
            for answer in (one, two):
                event = orjson.loads(await answer.content.readline())
                assert (event["type"], event["object"]["spec"]["length"]) == (kind, 2)
        assert len(converter.reviews) == 3


async def test_a_watch_ends_with_an_error_where_conversion_fails(client: Client, converter: Converter) -> None:
    await client.ask("POST", STORED, form("a", {"size": 1}))
    converter.change = lambda answer: web.Response(status=503, text="no")
    found = await client.ask("GET", f"{OTHER}?watch=1")
    event = orjson.loads(found.body)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 500)
    assert event["object"]["message"].startswith("conversion webhook for forms.example.org/v1, Kind=Form failed: ")


async def test_failures_are_told_in_kube_apiserver_s_words(client: Client, converter: Converter) -> None:
    await client.ask("POST", STORED, form("a", {"size": 1}))
    failed = "conversion webhook for forms.example.org/v1, Kind=Form "

    def renamed(answer: Object) -> Object:
        answer["response"]["convertedObjects"][0]["metadata"]["name"] = "b"
        return answer

    def refused(answer: Object) -> Object:
        return {**answer, "response": {**answer["response"], "result": {"status": "Failed", "message": "no way"}}}

    for change, text in (
        (renamed, "returned invalid object: must have the same name: a != b"),
        (refused, "failed: no way"),
        (lambda answer: web.Response(status=404), "failed: the server could not find the requested resource"),
    ):
        converter.change = change
        found = await client.ask("GET", f"{OTHER}/a")
        assert found.status == 500
        assert found.json["message"] == failed + text
        assert "reason" not in found.json
        assert (await client.ask("GET", f"{STORED}/a")).status == 200


async def test_a_webhook_that_is_not_there_is_named_with_its_address(client: Client, converter: Converter) -> None:
    await client.ask("POST", STORED, form("a", {"size": 1}))
    service = {"service": {"name": "gone", "namespace": "default", "path": "/c"}, "url": None}
    patch = {"spec": {"conversion": {"webhook": {"clientConfig": service}}}}
    merge = {"Content_Type": "application/merge-patch+json"}
    assert (await client.ask("PATCH", f"{CRDS}/forms.forms.example.org", patch, **merge)).status == 200
    found = await until(client, f"{OTHER}/a", lambda found: found.status != 200)
    assert found.json["message"] == (
        "conversion webhook for forms.example.org/v1, Kind=Form failed: "
        'Post "https://gone.default.svc:443/c?timeout=30s": service "gone" not found'
    )


async def test_admission_policies_see_the_version_that_they_name(client: Client) -> None:
    admission = "/apis/admissionregistration.k8s.io/v1"
    rule = {"apiGroups": ["forms.example.org"], "apiVersions": ["v1"], "resources": ["forms"], "operations": ["CREATE"]}
    policy = {
        "metadata": {"name": "small"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "object.spec.size < 5", "message": "too large"}],
        },
    }
    await client.ask("POST", f"{admission}/validatingadmissionpolicies", policy)
    binding = {"metadata": {"name": "small"}, "spec": {"policyName": "small", "validationActions": ["Deny"]}}
    await client.ask("POST", f"{admission}/validatingadmissionpolicybindings", binding)
    found = await client.ask("POST", OTHER, form("a", {"length": 9}, "v2"))
    assert found.status == 422
    assert "too large" in found.json["message"]
    assert (await client.ask("POST", OTHER, form("a", {"length": 4}, "v2"))).status == 201


async def test_whoever_uses_a_deprecated_version_is_warned_of_it(start: Start, converter: Converter) -> None:
    client = (await start("--controllers=none")).client
    old = definition(converter)
    old["spec"]["conversion"] = {"strategy": "None"}
    old["spec"]["versions"][1]["deprecated"] = True
    old["spec"]["versions"].append(
        {**version("v2beta1", "length"), "deprecated": True, "deprecationWarning": "no more"}
    )
    await client.ask("POST", CRDS, old)
    await until(client, OTHER, lambda found: found.status == 200)
    for found in (await client.ask("GET", OTHER), await client.ask("GET", f"{OTHER}/none")):
        assert found.headers["warning"] == (
            '299 - "forms.example.org/v2 Form is deprecated; use forms.example.org/v1 Form"'
        )
    assert (await client.ask("GET", OTHER.replace("v2", "v2beta1"))).headers["warning"] == '299 - "no more"'
    assert "warning" not in (await client.ask("GET", STORED)).headers
