"""Requests for custom resources, which have no routes of their own: a definition's names decide."""

from __future__ import annotations

from typing import Any

import pytest
from server_client import Client, Start

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ALL = "/apis/example.org/v1/forms"
FORMS = "/apis/example.org/v1/namespaces/default/forms"
MERGE = {"Content-Type": "application/merge-patch+json"}
INTEGER = {"type": "integer"}
EMBEDDED = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "x-kubernetes-preserve-unknown-fields": True,
}
DEFINITION = {
    "metadata": {"name": "forms.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "forms", "kind": "Form"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"},
                },
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"n": INTEGER, "pod": EMBEDDED}},
                            "status": {"type": "object", "properties": {"n": INTEGER}},
                        },
                    }
                },
            }
        ],
    },
}


def form(name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "example.org/v1", "kind": "Form", "metadata": {"name": name}, **fields}


@pytest.fixture
async def client(start: Start) -> Client:
    found = (await start("--controllers=none")).client
    made = await found.ask("POST", CRDS, DEFINITION)
    assert made.status == 201, made.body
    watched = f"{CRDS}?watch=1&fieldSelector=metadata.name%3Dforms.example.org&resourceVersion=0&timeoutSeconds=1"
    for _ in range(20):
        if (await found.ask("GET", FORMS)).status == 200:
            return found
        await found.ask("GET", watched)
    raise AssertionError("the definition is not established")


async def test_what_is_no_name_of_the_definition_is_no_page(client: Client) -> None:
    for method in ("POST", "DELETE"):  # only lists and watches go over all namespaces
        found = await client.ask(method, ALL, form())
        assert (found.status, found.body) == (404, b"404 page not found\n")
    deep = await client.ask("GET", f"{FORMS}/a/b/c")
    assert deep.json["message"] == 'forms.example.org "a" not found'


OTHER_VERSION = "the API version in the data ({}) does not match the expected API version (example.org/v1)"
NO_KIND = "Object 'Kind' is missing in '{}'"
NO_LABELS = "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type map[string]string"


@pytest.mark.parametrize(
    ("body", "validation", "message"),
    [
        ("{}", "Warn", f"the object provided is unrecognized (must be of type Form): {NO_KIND.format('{}')} ({{}})"),
        ("{}", "Ignore", f'Form in version "v1" cannot be handled as a Form: {NO_KIND.format("{}")}'),
        ('{"kind":"Form"}', "Strict", OTHER_VERSION.format("")),
        ('{"kind":"Form","a":1,"a":2}', "Ignore", OTHER_VERSION.format("")),
        ('{"kind":"Form","a":1,"a":2}', "Strict", "Object 'apiVersion' is missing in 'object has no apiVersion field'"),
        (
            '{"kind":"Form","apiVersion":"other/v2","a":1,"a":2}',
            "Strict",
            'Form in version "v2" cannot be handled as a Form: strict decoding error: duplicate field "a"',
        ),
        (
            '{"kind":"Form","metadata":{"labels":5}}',
            "Warn",
            f'Form in version "" cannot be handled as a Form: {NO_LABELS}',
        ),
        (
            '{"kind":"Other","apiVersion":"example.org/v1","metadata":{"labels":5}}',
            "Warn",
            f'Other in version "v1" cannot be handled as a Form: {NO_LABELS}',
        ),
        (
            '{"kind":"Form","apiVersion":"example.org/v1","metadata":{"zz":1,"name":"a","aa":1},'
            '"spec":{"y":1,"x":1,"n" :1,"n":2}}',
            "Strict",
            'Form in version "v1" cannot be handled as a Form: strict decoding error: duplicate field "spec.n", '
            'unknown field "metadata.aa", unknown field "metadata.zz", unknown field "spec.x", unknown field "spec.y"',
        ),
    ],
)
async def test_what_is_wrong_with_a_body_is_told_in_the_words_of_what_it_says_it_is(
    client: Client, body: str, validation: str, message: str
) -> None:
    found = await client.ask("POST", f"{FORMS}?fieldValidation={validation}", body.encode())
    assert (found.status, found.json["message"]) == (400, message)


async def test_a_warning_of_a_name_with_a_line_break_is_not_sent(client: Client) -> None:
    body = b'{"kind":"Form","apiVersion":"example.org/v1","metadata":{"name":"a"},"in\\nvented":1,"other":2}'
    found = await client.ask("POST", FORMS, body)
    assert (found.status, found.headers["warning"]) == (201, '299 - "unknown field \\"other\\""')


async def test_whole_numbers_that_no_int64_holds_are_floats(client: Client) -> None:
    body = b'{"kind":"Form","apiVersion":"example.org/v1","metadata":{"name":"a"},"spec":{"n":9223372036854775808}}'
    found = await client.ask("POST", FORMS, body)
    assert found.status == 422
    assert [cause["message"] for cause in found.json["details"]["causes"]][:2] == [
        'Invalid value: "number": spec.n in body must be of type integer: "number"',
        'Invalid value: "": Checked value must be of type integer (default format) in spec.n',
    ]


async def test_a_create_takes_its_name_from_the_body_alone(client: Client) -> None:
    found = await client.ask("POST", f"{FORMS}/a", form("b"))
    assert (found.status, found.json["metadata"]["name"]) == (201, "b")


async def test_an_update_makes_nothing(client: Client) -> None:
    for version in ({}, {"resourceVersion": "5"}):
        sent = form()
        sent["metadata"] |= version
        found = await client.ask("PUT", f"{FORMS}/a", sent)
        assert (found.status, found.json["message"]) == (404, 'forms.example.org "a" not found')


async def test_what_cannot_be_given_is_told_without_routes(client: Client) -> None:
    found = await client.ask("GET", FORMS, Accept="text/html")
    kinds = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    assert (found.status, found.json["message"]) == (406, f"only the following media types are accepted: {kinds}")
    partial = await client.ask("GET", FORMS, Accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")
    assert partial.json["message"].endswith("(*unstructured.UnstructuredList)")


async def test_subresources_are_discovered_with_status_first(client: Client) -> None:
    found = (await client.ask("GET", "/apis/example.org/v1")).json["resources"]
    assert [resource["name"] for resource in found] == ["forms", "forms/status", "forms/scale"]


async def test_a_patch_may_not_take_the_version_away(client: Client) -> None:
    await client.ask("POST", FORMS, form())
    found = await client.ask("PATCH", f"{FORMS}/a", {"apiVersion": None}, **MERGE)
    text = "Object 'apiVersion' is missing in 'object has no apiVersion field'"
    assert (found.status, found.json["message"]) == (500, f"Internal error occurred: {text}")


@pytest.mark.parametrize(
    ("fields", "code", "texts"),
    [
        ({"spec": {"n": "x"}}, 422, [".spec.n: Invalid value: 0: .spec.n accessor error: x is of the type string"]),
        ({"spec": "x"}, 422, ["expected map[string]interface{}"]),
        ({"spec": {"pod": {}}}, 422, ["[spec.pod.apiVersion: Required value, spec.pod.kind: Required value]"]),
        (
            {"spec": {"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": 5}}}}},
            400,
            [
                'spec.pod.metadata: Invalid value: {"labels":{"a":5}}: json: cannot unmarshal number',
                "ObjectMeta.labels",
            ],
        ),
        ({"spec": {"pod": {"apiVersion": 5}}}, 400, ["spec.pod.apiVersion: Invalid value: 5: must be a string"]),
    ],
)
async def test_values_are_told_as_they_are_read(
    client: Client, fields: dict[str, Any], code: int, texts: list[str]
) -> None:
    found = await client.ask("POST", FORMS, form(**fields))
    assert found.status == code, found.body
    for text in texts:
        assert text in found.json["message"]


async def test_a_status_is_checked_by_itself(client: Client) -> None:
    await client.ask("POST", FORMS, form())
    found = await client.ask("PATCH", f"{FORMS}/a/status", {"status": {"n": "x"}}, **MERGE)
    text = 'status.n: Invalid value: "string": n in body must be of type integer: "string"'
    assert found.status == 422 and text in found.json["message"]


async def test_who_asks_for_what_is_not_yet_there_is_told_when_to_come_back(client: Client) -> None:
    found = await client.ask("GET", f"{FORMS}?resourceVersion=99999999")
    assert (found.status, found.headers["retry-after"]) == (504, "1")


async def test_a_patch_of_all_of_them_is_first_asked_for_its_form(client: Client) -> None:
    odd = await client.ask("PATCH", FORMS, {}, Content_Type="application/json")
    merge = await client.ask("PATCH", FORMS, {}, Content_Type="application/merge-patch+json")
    assert (odd.status, odd.json["reason"]) == (415, "UnsupportedMediaType")
    assert (merge.status, merge.json["message"]) == (400, "name must be provided")


async def test_one_object_is_no_list_of_metadata(client: Client) -> None:
    await client.ask("POST", FORMS, form())
    wanted = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    found = await client.ask("GET", f"{FORMS}/a", Accept=wanted)
    assert (found.status, found.json["message"]) == (500, "content is not a list")
    assert "reason" not in found.json


@pytest.mark.parametrize(
    ("accepted", "encoding"), [("br, gzip", "gzip"), ("gzip;q=1", None), ("GZIP", None), ("*", None)]
)
async def test_large_answers_are_compressed_for_those_who_name_gzip(
    client: Client, accepted: str, encoding: str | None
) -> None:
    await client.ask("POST", FORMS, form(spec={"pod": {"apiVersion": "v1", "kind": "Pod", "note": "x" * 200_000}}))
    found = await client.ask("GET", FORMS, Accept_Encoding=accepted)
    assert found.headers.get("content-encoding") == encoding
    assert found.json["items"][0]["metadata"]["name"] == "a"


async def test_the_scale_of_a_resource_without_replicas_can_be_written(client: Client) -> None:
    await client.ask("POST", FORMS, form(spec={}))
    scale, unset = f"{FORMS}/a/scale", 'the spec replicas field ".spec.n" '
    assert (await client.ask("GET", scale)).json["message"] == f"Internal error occurred: {unset}does not exist"
    refused = await client.ask("PATCH", scale, {}, Content_Type=MERGE["Content-Type"])
    assert (refused.status, refused.json["message"]) == (400, f"{unset}cannot be empty")
    found = await client.ask("PATCH", scale, {"spec": {"replicas": 2}}, Content_Type=MERGE["Content-Type"])
    assert (found.status, found.json["spec"]) == (200, {"replicas": 2})


async def test_of_what_is_not_there_nothing_else_is_told(client: Client) -> None:
    broken = await client.ask(
        "PATCH", f"{FORMS}/x/status?fieldManager=m", b"{", Content_Type="application/apply-patch+yaml"
    )
    assert broken.status == 404
    named = await client.ask("PUT", f"{FORMS}/x/scale", {"metadata": {"name": "y"}})  # but for another name
    assert (named.status, "does not match the name on the URL (x)" in named.json["message"]) == (400, True)


async def test_a_status_sent_with_what_does_not_fit_leaves_no_owners(client: Client) -> None:
    await client.ask("POST", FORMS, form(spec={"n": 1}))
    sent = {"spec": {"n": "x"}, "status": {"n": 2}}
    found = await client.ask("PATCH", f"{FORMS}/a/status", sent, Content_Type=MERGE["Content-Type"])
    assert (found.status, found.json["spec"], found.json["status"]) == (200, {"n": 1}, {"n": 2})
    assert "managedFields" not in found.json["metadata"]


async def test_what_is_applied_to_a_scale_may_change_nothing(client: Client) -> None:
    def itself(replicas: int, **meta: str) -> dict[str, Any]:
        named = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a", **meta}}
        return {**named, "spec": {"replicas": replicas}}

    async def apply(replicas: int, **meta: str) -> Any:
        path = f"{FORMS}/a/scale?fieldManager=m&force=true"
        return await client.ask("PATCH", path, itself(replicas, **meta), Content_Type="application/apply-patch+yaml")

    async def owners() -> list[str | None]:
        found = (await client.ask("GET", f"{FORMS}/a")).json["metadata"]["managedFields"]
        return [one.get("subresource") for one in found if one["fieldsV1"] == {"f:spec": {"f:n": {}}}]

    await client.ask("POST", FORMS, form(spec={"n": 1}))
    cannot = "to proper version: request to convert CR to an invalid group/version: autoscaling/v1"
    refused = await apply(2, namespace="default")
    which = "default/a; autoscaling/v1, Kind=Scale"
    assert (refused.status, refused.json["message"]) == (500, f"failed to convert new object ({which}) {cannot}")
    assert (await apply(1)).status == 200
    assert "scale" in await owners()
    await client.ask("PUT", f"{FORMS}/a/scale", itself(5))
    assert await owners() == ["scale"]
    await client.ask("PUT", f"{FORMS}/a/scale", {"metadata": {"name": "a"}, "spec": {"replicas": 6}})
    assert await owners() == []  # of what does not say its kind nobody can be told to own it
    untracked = "failed to create manager for existing fields: failed to convert live object"
    assert (await apply(7)).json["message"] == f"{untracked} (/; autoscaling/v1, Kind=Scale) {cannot}"
