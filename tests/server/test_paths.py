"""Which paths and methods there are besides those of resources, and what is said of all others."""

from __future__ import annotations

import pytest
from server_client import Client, Start

PAGE, NOTHING, METHOD = "404 page not found", "the server could not find the requested resource", "does not allow this"


@pytest.fixture
async def client(start: Start) -> Client:
    return (await start("--controllers=none")).client


@pytest.mark.parametrize(
    ("method", "path", "code", "said"),
    [
        ("POST", "/healthz", 200, "ok"),
        ("GET", "/healthz/", 404, PAGE),
        ("GET", "/readyz/informer-sync", 200, "ok"),
        ("GET", "/version/", 200, "gitVersion"),
        ("GET", "/version/x", 404, NOTHING),
        ("PUT", "/version", 405, METHOD),
        ("POST", "/api", 405, METHOD),
        ("GET", "/api//", 200, "APIVersions"),
        ("GET", "/api//v1", 404, NOTHING),
        ("POST", "/apis", 200, "APIGroupList"),
        ("POST", "/apis/apps/", 200, "APIGroup"),
        ("GET", "/apis//", 404, PAGE),
        ("GET", "/apis/apps//", 404, PAGE),
        ("PUT", "/apis/apps/v1", 405, METHOD),
        ("GET", "/apis/apps/v1//", 200, "APIResourceList"),
        ("GET", "/api/v1//namespaces", 404, NOTHING),
        ("GET", "//api/v1/namespaces", 404, PAGE),
        ("GET", "//healthz", 404, PAGE),
        ("GET", "/api/v1/namespaces/default//configmaps", 404, NOTHING),
        ("POST", "/api/v1/watch/namespaces/default/configmaps", 405, METHOD),
        ("DELETE", "/api/v1/watch/namespaces/default/configmaps/a", 405, METHOD),
        ("GET", "/index.html", 200, "/readyz/poststarthook/rbac/bootstrap-roles"),
        ("GET", "/openapi/v3/", 404, ""),
        ("DELETE", "/.well-known/openid-configuration", 405, METHOD),
        ("GET", "/.well-known/openid-configuration/", 200, "jwks_uri"),
        ("GET", "/.well-known/openid-configuration/x", 404, NOTHING),
        ("GET", "/.well-known/", 404, PAGE),
        ("GET", "/openid/v1/jwks", 200, "keys"),
        ("GET", "/openid/v1", 404, PAGE),
    ],
)
async def test_paths_and_methods(client: Client, method: str, path: str, code: int, said: str) -> None:
    found = await client.ask(method, path)
    assert (found.status, said in found.body.decode()) == (code, True)


@pytest.mark.parametrize(("path", "first"), [("/version", '{\n  "major": "1",\n'), ("/", '{\n  "paths": [\n    "/')])
async def test_what_is_no_object_is_always_written_in_lines(client: Client, path: str, first: str) -> None:
    assert (await client.ask("GET", path)).body.decode().startswith(first)


@pytest.mark.parametrize(
    ("path", "accept", "offered"),
    [
        ("/openid/v1/jwks", "application/json", "application/jwk-set+json"),
        ("/openid/v1/jwks", "application/jwk-set+json", ""),
        ("/openid/v1/jwks", "text/html, */*;q=0.1", ""),
        ("/.well-known/openid-configuration", "application/jwk-set+json", "application/json"),
        ("/.well-known/openid-configuration", "application/json", ""),
        ("/version", "application/yaml", "application/json"),
    ],
)
async def test_documents_come_in_their_own_media_type_alone(
    client: Client, path: str, accept: str, offered: str
) -> None:
    found = await client.ask("GET", path, Accept=accept)
    assert found.status == (406 if offered else 200)
    if offered:
        assert f"Available representations: {offered}" in found.body.decode().replace("\\n", " ")


@pytest.mark.parametrize(("path", "code"), [("/api", 405), ("/version", 405), ("/apis", 200), ("/healthz", 200)])
async def test_who_asks_for_heads_alone(client: Client, path: str, code: int) -> None:
    found = await client.ask("HEAD", path)
    assert (found.status, found.body) == (code, b"")


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
async def test_names_that_no_object_can_have(client: Client, method: str) -> None:
    path = "/api/v1/namespaces/default/configmaps/a%25b"
    body = b"{}" if method == "PATCH" else None
    found = await client.ask(method, path, body, Content_Type="application/merge-patch+json")
    assert (found.status, found.json["message"]) == (400, """Name parameter invalid: "a%b": may not contain '%'""")


async def test_authorizers_are_told_of_no_selectors_on_the_old_watch_paths(client: Client) -> None:
    """A node may watch the pods that are bound to it, if it asks for them as lists are asked for."""
    query = "fieldSelector=spec.nodeName%3Dn&timeoutSeconds=1"
    node = {"Impersonate_User": "system:node:n", "Impersonate_Group": "system:nodes"}
    assert (await client.ask("GET", f"/api/v1/pods?watch=1&{query}", **node)).status == 200
    for path, why in (
        ("/api/v1/watch/pods", "can only list/watch pods with spec.nodeName field selector"),
        ("/api/v1/watch/namespaces/default/pods/p", "no relationship found between node 'n' and this object"),
    ):
        refused = await client.ask("GET", f"{path}?{query}", **node)
        assert refused.status == 403
        assert refused.json["message"].endswith(f": {why}")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/version?timeout=soon", 400),
        ("/api/v1/namespaces/default?timeout=5", 400),
        ("/api/v1/namespaces/default?timeout=-1s", 200),
        ("/api/v1/namespaces/default?timeout=0", 200),
        ("/api/v1/namespaces/default?timeout=", 200),
        ("/api/v1/namespaces?watch=1&timeoutSeconds=1&timeout=soon", 200),
        ("/api/v1/namespaces/default/pods/p/log?timeout=soon", 404),
    ],
)
async def test_the_time_that_a_client_gives_is_read_first_but_where_requests_last(
    client: Client, path: str, code: int
) -> None:
    assert (await client.ask("GET", path)).status == code
    if code == 400:
        told = await client.ask("GET", path, token="nobody's")
        assert told.json["message"].startswith("invalid timeout specified in the request URL - time: ")
        assert "audit-id" in told.headers


async def test_what_does_not_end_in_the_time_that_a_client_gives_is_cut_off(client: Client) -> None:
    late = await client.ask("GET", "/api/v1/namespaces/default?timeout=1ns")
    assert (late.status, late.headers["content-type"]) == (504, "text/plain; charset=utf-8")
    assert late.body == (
        b'{"metadata":{},"status":"Failure","message":"Timeout: request did not complete within the allotted timeout",'
        b'"reason":"Timeout","details":{},"code":504}\n'
    )
    assert (await client.ask("GET", "/api/v1/namespaces/default?timeout=30s")).status == 200


async def test_one_check_alone_says_less_of_itself_than_all_of_them(client: Client) -> None:
    one, every = await client.ask("GET", "/livez/ping"), await client.ask("GET", "/livez")
    assert "x-content-type-options" not in one.headers
    assert every.headers["x-content-type-options"] == "nosniff"
    told = await client.ask("GET", "/livez?verbose&exclude=b&exclude=ping&exclude=a")
    assert '\nwarn: some health checks cannot be excluded: no matches for "a","b"\n' in told.body.decode()


async def test_metrics_name_their_format(client: Client) -> None:
    found = await client.ask("GET", "/metrics")
    assert found.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"


@pytest.mark.parametrize("path", ["/apis", "/apis/apps", "/api", "/apis/apps/v1"])
async def test_discovery_of_groups_has_no_route_that_would_refuse_a_media_type(client: Client, path: str) -> None:
    odd, wide = [await client.ask("GET", path, Accept=accept) for accept in ("image/png", "application/*")]
    routed = path in ("/api", "/apis/apps/v1")
    assert odd.json["message"].startswith("406: Not" if routed else "only the following media types are accepted: ")
    assert (odd.status, wide.status) == (406, 406 if routed else 200)


async def test_refusals_of_impersonation_are_no_page(client: Client) -> None:
    nameless = await client.ask("GET", "/version", Impersonate_Group="g")
    refused = await client.ask("GET", "/version", token="alice-token", Impersonate_User="bob")
    assert [(found.status, found.headers["x-content-type-options"]) for found in (nameless, refused)] == [
        (400, "nosniff"),
        (403, "nosniff"),
    ]


async def test_names_are_quoted_in_refusals(client: Client) -> None:
    refused = await client.ask("GET", "/api/v1/namespaces/a%22b", token="alice-token")
    missing = await client.ask("GET", "/api/v1/namespaces/a%22b")
    assert refused.json["message"].startswith(r'namespaces "a\"b" is forbidden: User "alice" cannot get')
    assert missing.json["message"] == r'namespaces "a\"b" not found'


async def test_a_refused_path_without_a_resource_is_told_by_its_group(client: Client) -> None:
    found = await client.ask("GET", "/apis/example.org/v1//x", token="alice-token")
    assert (found.status, found.json["message"]) == (
        403,
        '.example.org "x" is forbidden: User "alice" cannot get resource "" '
        'in API group "example.org" at the cluster scope',
    )
