"""What patches may and may not make of an object, and how they are told so."""

from __future__ import annotations

import pytest
from server_client import Answer, Client, Start

CONFIGMAP = "/api/v1/namespaces/default/configmaps/a"
JSON, MERGE, STRATEGIC = (f"application/{kind}+json" for kind in ("json-patch", "merge-patch", "strategic-merge-patch"))
APPLY = "application/apply-patch+yaml"
NAMELESS = "the name of the object (a based on URL) was undeterminable: name must be provided"
ELSEWHERE = "the namespace of the provided object does not match the namespace sent on the request"


@pytest.fixture
async def client(start: Start) -> Client:
    client = (await start("--controllers=none")).client
    body = {"metadata": {"name": "a", "selfLink": "/x"}, "data": {"one": "1"}}
    created = (await client.ask("POST", CONFIGMAP.removesuffix("/a"), body)).json
    assert "selfLink" not in created["metadata"]
    return client


async def patch(client: Client, body: object, kind: str = MERGE, query: str = "") -> Answer:
    return await client.ask("PATCH", CONFIGMAP + query, body, Content_Type=kind)


@pytest.mark.parametrize("kind", [MERGE, STRATEGIC])
@pytest.mark.parametrize(
    ("metadata", "code", "message"),
    [
        ({"name": "b"}, 400, "the name of the object (b) does not match the name on the URL (a)"),
        ({"name": None}, 400, NAMELESS),
        ({"namespace": "other"}, 400, ELSEWHERE),
        ({"uid": "5"}, 422, 'ConfigMap "a" is invalid: metadata.uid: Invalid value: "5": field is immutable'),
        (
            {"deletionGracePeriodSeconds": 5},
            422,
            'ConfigMap "a" is invalid: metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable',
        ),
    ],
)
async def test_what_an_object_is_called_cannot_be_patched(
    client: Client, kind: str, metadata: object, code: int, message: str
) -> None:
    found = await patch(client, {"metadata": metadata}, kind)
    assert (found.status, found.json["message"]) == (code, message)


@pytest.mark.parametrize("metadata", [{"namespace": None}, {"uid": None}, {"creationTimestamp": None}])
async def test_what_a_patch_takes_away_of_it_is_put_back(client: Client, metadata: object) -> None:
    before = (await client.ask("GET", CONFIGMAP)).json
    assert (await patch(client, {"metadata": metadata})).json == before


async def test_of_an_object_of_no_version_nothing_is_left(client: Client) -> None:
    found = await patch(client, {"apiVersion": None})
    assert (found.status, found.json["message"]) == (400, NAMELESS)
    assert found.headers["warning"].endswith('299 - "unknown field \\"metadata\\""')
    found = await patch(client, [{"op": "remove", "path": "/apiVersion"}], JSON, "?fieldValidation=Strict")
    assert found.status == 422
    assert found.json["message"].endswith('strict decoding error: unknown field "data", unknown field "metadata"')
    assert (await patch(client, {"apiVersion": None, "data": {"one": "2"}}, STRATEGIC)).json["data"] == {"one": "2"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "Secret"}, "converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
        ({"kind": "Nope"}, 'no kind "Nope" is registered for version "v1" in scheme'),
        ({"apiVersion": "v2"}, 'no kind "ConfigMap" is registered for version "v2" in scheme'),
        ({"kind": 5}, "couldn't get version/kind; json parse error: json: cannot unmarshal number into"),
    ],
)
async def test_a_merge_patch_that_makes_another_kind_is_unfit(client: Client, change: object, text: str) -> None:
    found = await patch(client, change)
    assert (found.status, found.json["details"]["causes"][0]["field"]) == (422, "patch")
    assert text in found.json["message"]
    strategic = await patch(client, change, STRATEGIC)
    assert strategic.status == 200 or change == {"kind": 5}


@pytest.mark.parametrize(
    ("kind", "body", "texts"),
    [
        (MERGE, b'{"data":{"x":"1","x":"2"},"y":1}', ['duplicate field "data.x"', 'unknown field "y"']),
        (STRATEGIC, b'{"data":{"x":"1","x":"2"},"y":1}', ['duplicate field "data.x"', 'unknown field "y"']),
        (
            JSON,
            b'[{"op":"add","op":"add","path":"/y","value":1,"why":2}]',
            ['json patch duplicate field "[0].op"', 'json patch unknown field "[0].why"', 'unknown field "y"'],
        ),
    ],
)
async def test_a_patch_is_itself_decoded_strictly(client: Client, kind: str, body: bytes, texts: list[str]) -> None:
    strict = await patch(client, body, kind, "?fieldValidation=Strict")
    assert strict.status == 422
    assert strict.json["message"].endswith("strict decoding error: " + ", ".join(texts))
    assert "warning" not in (await patch(client, body, kind, "?dryRun=All&fieldValidation=Ignore")).headers
    warned = await patch(client, body, kind, "?dryRun=All")
    assert warned.status == 200
    assert warned.headers["warning"]


async def test_who_validates_no_fields_is_told_of_bad_patches_in_other_words(client: Client) -> None:
    found = await patch(client, b'{"op":"add"}', JSON, "?fieldValidation=Ignore")
    assert found.json["message"] == "json: cannot unmarshal object into Go value of type jsonpatch.Patch"
    assert (await patch(client, b"{", MERGE, "?fieldValidation=Ignore")).json["message"] == "Invalid JSON Patch"


async def test_an_applied_configuration_names_its_object(client: Client) -> None:
    head = {"apiVersion": "v1", "kind": "ConfigMap"}
    assert (await patch(client, {**head, "data": {"two": "2"}}, APPLY, "?fieldManager=m")).status == 200
    await client.ask("DELETE", CONFIGMAP)
    missing = await patch(client, {**head, "data": {}}, APPLY, "?fieldManager=m")
    assert (missing.status, missing.json["message"]) == (400, NAMELESS)
    other = await patch(client, {**head, "metadata": {"name": "a", "uid": "5"}}, APPLY, "?fieldManager=m")
    assert other.status == 409
    assert (
        "uid mismatch: the provided object specified uid 5, and no existing object was found" in other.json["message"]
    )
    empty = await patch(client, b"", APPLY, "?fieldManager=m")
    assert (empty.status, empty.json["message"]) == (400, "invalid object type: /, Kind=")


async def test_what_an_apply_has_to_say_comes_before_duplicates_in_it(client: Client) -> None:
    body = b'{"apiVersion":"v1","kind":"Secret","kind":"Secret","metadata":{"name":"a"}}'
    found = await patch(client, body, APPLY, "?fieldManager=m&fieldValidation=Strict")
    assert found.json["message"] == "invalid object type: /v1, Kind=Secret"
    body = body.replace(b"Secret", b"ConfigMap")
    found = await patch(client, body, APPLY, "?fieldManager=m&fieldValidation=Strict")
    assert found.json["message"].startswith(
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal"
    )
