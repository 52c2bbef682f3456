"""OpenAPI: the documents, their URLs, and the forms in which clients ask for them."""

from __future__ import annotations

import orjson
import pytest
import yaml
from msgspec.structs import replace

from kubegate.api.requestinfo import RequestInfo
from kubegate.api.resources import Resources
from kubegate.api.schema import Schema
from kubegate.api.structural import CustomResource, Structural
from kubegate.authentication import Headers
from kubegate.server import openapi_proto
from kubegate.server.call import Call, parse_query
from kubegate.server.openapi import OpenApi
from kubegate.server.openapi_documents import document, document_v2

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


@pytest.fixture(scope="module")
def resources():
    return Resources.built_in()


@pytest.fixture
def openapi(resources):
    return OpenApi(resources)


async def nothing():
    return {"type": "http.disconnect"}


def call(path, query="", method="GET", **headers):
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    info = RequestInfo(False, path, method.lower())
    return Call("1", method, path, query, parse_query(query), Headers.of(given), info, nothing, 1000)


def custom(resources):
    schema = {"type": "object", "properties": {"spec": {"type": "object", "description": "what is wanted"}}}
    kind = CustomResource(list_kind="CronTabList", schema=Schema(), structural=Structural(schema), openapi=schema)
    model = resources.get("", "v1", "configmaps")
    return replace(
        model, group="example.org", version="v1", resource="crontabs", kind="CronTab", subresources={}, custom=kind
    )


def references(value):
    if isinstance(value, dict):
        for key, member in value.items():
            yield from [member] if key == "$ref" and isinstance(member, str) else references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


def test_the_index_names_every_document_with_its_hash(openapi):
    answer = openapi.answer(call("/openapi/v3"))
    assert (answer.status, answer.content_type) == (200, b"text/plain; charset=utf-8")
    paths = orjson.loads(answer.body)["paths"]
    assert {"api/v1", "apis/apps/v1", "apis/apps", "version"} <= paths.keys()
    assert paths["api/v1"]["serverRelativeURL"].startswith("/openapi/v3/api/v1?hash=")


def test_documents_may_be_kept_for_ever_by_their_hash(openapi):
    url = orjson.loads(openapi.answer(call("/openapi/v3")).body)["paths"]["apis/apps/v1"]["serverRelativeURL"]
    path, _, query = url.partition("?")
    answer = openapi.answer(call(path, query))
    headers = dict(answer.headers)
    assert answer.status == 200
    assert b"immutable" in headers[b"cache-control"]
    again = openapi.answer(call(path, query, if_none_match=headers[b"etag"].decode()))
    assert (again.status, again.body) == (304, b"")
    moved = openapi.answer(call(path, "hash=OLD"))
    assert (moved.status, dict(moved.headers)[b"location"].decode()) == (301, url)


def test_what_is_not_there_or_not_acceptable_is_empty(openapi):
    assert openapi.answer(call("/openapi/v3/apis/none/v1")).status == 404
    refused = openapi.answer(call("/openapi/v2", accept="text/plain"))
    assert (refused.status, refused.body, refused.content_type) == (406, b"", b"")
    assert openapi.answer(call("/openapi/v2/")).body == openapi.answer(call("/openapi")).body == b"404 page not found\n"
    assert openapi.answer(call("/openapi/v2", method="POST")).status == 200


def test_every_reference_leads_to_a_schema(resources):
    for name in ("api/v1", "apis/apps/v1", "apis/rbac.authorization.k8s.io/v1", "api", "version"):
        found = document(resources, name)
        known = {f"#/components/schemas/{schema}" for schema in found["components"]["schemas"]}
        assert set(references(found)) <= known
    swagger = document_v2(resources)
    assert set(references(swagger)) <= {f"#/definitions/{name}" for name in swagger["definitions"]}


def test_every_operation_has_an_id_of_its_own(resources):
    found = document_v2(resources)
    ids = [operation["operationId"] for item in found["paths"].values() for operation in _operations(item)]
    assert len(ids) == len(set(ids)) > 500


def _operations(item):
    return [operation for method, operation in item.items() if method != "parameters"]


def test_clients_find_kinds_and_patch_parameters_by_path(resources):
    found = document(resources, "apis/apps/v1")["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    patch = found["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    assert patch["operationId"] == "patchAppsV1NamespacedDeployment"


def test_custom_resources_have_documents_while_they_are_there(resources, openapi):
    crontabs = custom(resources)
    assert openapi.answer(call("/openapi/v3/apis/example.org/v1")).status == 404
    resources.add(crontabs)
    try:
        found = orjson.loads(openapi.answer(call("/openapi/v3/apis/example.org/v1")).body)
        schema = found["components"]["schemas"]["org.example.v1.CronTab"]
        assert schema["properties"]["spec"]["description"] == "what is wanted"
        assert schema["x-kubernetes-group-version-kind"][0]["kind"] == "CronTab"
        assert "/apis/example.org/v1/namespaces/{namespace}/crontabs/{name}" in found["paths"]
        accepted = found["paths"]["/apis/example.org/v1/namespaces/{namespace}/crontabs/{name}"]["patch"]
        assert "application/strategic-merge-patch+json" not in accepted["requestBody"]["content"]
    finally:
        resources.remove("example.org", "crontabs")
    assert openapi.answer(call("/openapi/v3/apis/example.org/v1")).status == 404


def test_swagger_comes_as_protobuf_where_that_is_asked_for(openapi):
    answer = openapi.answer(call("/openapi/v2", accept=PROTOBUF))
    assert (answer.status, answer.content_type) == (200, PROTOBUF.replace("@", ".").encode())
    fields = dict(_fields(answer.body))
    assert fields[1] == b"2.0"
    assert openapi.answer(call("/openapi/v2")).body[:1] == b"{"


def _fields(message):
    """(number, value) of a protobuf message."""
    position = 0

    def varint():
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = varint()
            yield key >> 3, message[position : position + size]
            position += size


def test_schemas_survive_protobuf():
    schema = {
        "type": "object",
        "description": "d",
        "required": ["a"],
        "properties": {"a": {"type": "array", "items": {"$ref": "#/definitions/b"}}},
        "additionalProperties": {"type": "string"},
        "x-kubernetes-group-version-kind": [{"group": "", "kind": "K", "version": "v1"}],
    }
    encoded = dict(_fields(openapi_proto.encode({"definitions": {"k": schema}})))
    named = dict(_fields(dict(_fields(encoded[9]))[1]))
    assert named[1] == b"k"
    found = dict(_fields(named[2]))
    assert (found[4], found[19]) == (b"d", b"a")
    assert dict(_fields(found[22]))[1] == b"object"
    member = dict(_fields(dict(_fields(found[25]))[1]))
    assert member[1] == b"a"
    items = dict(_fields(dict(_fields(member[2]))[23]))
    assert dict(_fields(items[1]))[1] == b"#/definitions/b"
    extension = dict(_fields(found[31]))
    assert extension[1] == b"x-kubernetes-group-version-kind"
    assert yaml.safe_load(dict(_fields(extension[2]))[2])[0]["kind"] == "K"
