"""What a hostile client may send: the answer is a 4xx or a closed connection, never a 500, and memory stays bounded."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_process import ServerProcess, serving

from kubegate.pki.cluster import ensure
from kubegate.transport import Listener, Transport

MEGABYTE = 1024 * 1024
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
ADMIN = b"Authorization: Bearer admin-token\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("hostile")) as running:
        yield running


# ------------------------------------------------------------------ asking without a client library in the way
def exchange(server: ServerProcess, sent: bytes, timeout: float = 10.0) -> bytes:
    """Send these bytes on a new connection, and read the answer; b"" where it is closed without one."""
    with server.connect(timeout) as connection:
        with contextlib.suppress(OSError):  # it may close before it took everything: what it said is still to be read
            connection.sendall(sent)
        return read_answer(connection)


def read_answer(connection: ssl.SSLSocket) -> bytes:
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
            head, found, body = received.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if found and length and len(body) >= int(length[1]):
                break
    except (ConnectionError, ssl.SSLError):
        pass
    return received


def status_of(answer: bytes) -> int:
    """0 where there is no answer at all."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


def request(method: str, path: str, body: bytes = b"", content_type: str = "application/json", more: str = "") -> bytes:
    more = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}"
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{more}".encode() + ADMIN + b"\r\n" + body


def posted(headers: str, rest: bytes) -> bytes:
    return f"POST /api HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode() + rest


def assert_refused(answer: bytes) -> None:
    """A 4xx with a Status, or with nothing and the connection closed; or closed without a word."""
    if not answer:
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    assert 400 <= status_of(answer) < 500, answer[:300]
    if body:
        said = orjson.loads(body)
        assert (said["kind"], said["code"]) == ("Status", status_of(answer))
    else:
        assert b"connection: close" in head


def assert_alive(server: ServerProcess) -> None:
    assert status_of(exchange(server, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + ADMIN + b"\r\n")) == 200
    assert "Traceback" not in server.log


# ------------------------------------------------------------------ request lines and headers
HEADS = {
    "a path of a million characters": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path of a hundred thousand segments": b"GET " + b"/a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "ten thousand headers": b"GET /api HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n",
    "a header of a megabyte": b"GET /api HTTP/1.1\r\nHost: x\r\nX-A: " + b"y" * MEGABYTE + b"\r\n\r\n",
    "headers without end": b"GET /api HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(300_000)),
    "no request at all": b"\x16\x03\x01 garbage\r\n\r\n",
    "zeros": b"\0" * 10_000 + b"\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.7\r\n\r\n",
    "a version that never was": b"GET /api HTTP/9.9\r\nHost: x\r\n\r\n",
    "no host": b"GET /api HTTP/1.1\r\n\r\n",
    "a zero byte in the path": b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path that is no UTF-8": b"GET /api/%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path with a broken escape": b"GET /api/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method of ten thousand letters": b"A" * 10_000 + b" /api HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method that is none": b"BREW /api/v1/pods HTTP/1.1\r\nHost: x\r\n\r\n",
    "a folded header": b"GET /api HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",
    "a space before the colon": b"GET /api HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n",
    "two lengths": posted("Content-Length: 5\r\nContent-Length: 6", b"abcdef"),
    "a length and chunks": posted("Transfer-Encoding: chunked\r\nContent-Length: 5", b"0\r\n\r\n"),
    "a negative length": posted("Content-Length: -5", b""),
    "a length past all bounds": posted("Content-Length: 99999999999999999999", b""),
    "chunks that are none": posted("Transfer-Encoding: chunked", b"ZZ\r\n"),
    "a chunk of negative size": posted("Transfer-Encoding: chunked", b"-1\r\n"),
    "a chunk larger than memory": posted("Transfer-Encoding: chunked", b"ffffffffffffffff\r\n"),
    "an encoding that is none": posted("Transfer-Encoding: gzip", b""),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_request_that_is_none_is_refused(server: ServerProcess, name: str) -> None:
    """CVE-2019-16276 (a space before the colon) and other ways for two readers to read two requests."""
    assert_refused(exchange(server, HEADS[name]))
    assert_alive(server)


PATH_TRICKS = [
    "//api/v1/secrets",
    "/api//v1/secrets",
    "/./api/v1/secrets",
    "/api/v1/../v1/secrets",
    "/healthz/../api/v1/secrets",
    "/livez/%2e%2e/api/v1/secrets",
    "/livez%2f..%2fapi/v1/secrets",
    "/api/v1/namespaces/default/secrets/..%2f..%2fkube-system%2fsecrets",
    "/api/v1/namespaces/%2e%2e/secrets",
    "/version/../api/v1/secrets",
    "/api/v1/secrets;x=y",
    "/API/V1/secrets",
    "/api/v1/secrets%00",
    "/api/v1/secrets%20",
    "/openapi/v3/../../api/v1/secrets",
    "/.well-known/../api/v1/secrets",
    "/api/v1/secrets/",
    "/api/v1/proxy/namespaces/default/pods/x:99999999999/",
    "http://elsewhere/api/v1/secrets",
]


@pytest.mark.parametrize("path", PATH_TRICKS)
def test_no_trick_with_a_path_gets_past_authorization(server: ServerProcess, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice-token\r\n\r\n"
    answer = exchange(server, head.encode())
    assert 400 <= status_of(answer) < 500, answer[:200]
    assert b"SecretList" not in answer


# ------------------------------------------------------------------ bodies
NESTED = 100_000
DEEP_JSON = b'{"a":' * NESTED + b"1" + b"}" * NESTED
BOMB = "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}' if level else 'x'] * 10)}]\n" for level in range(9)
).encode()
META = b'{"metadata":{"name":"x"},'
BODIES: dict[str, tuple[str, bytes]] = {
    "JSON that nests a hundred thousand deep": ("application/json", DEEP_JSON),
    "lists that nest a hundred thousand deep": ("application/json", b"[" * NESTED),
    "deep data in an object": ("application/json", META + b'"data":' + DEEP_JSON + b"}"),
    "YAML of bytes that are no UTF-8": ("application/yaml", b"metadata: {name: \xff\xfe}"),
    "half a surrogate pair as a name": ("application/json", b'{"metadata":{"name":"\\ud800"}}'),
    "a number past all bounds": ("application/json", META + b'"data":{"a":1' + b"0" * 100_000 + b"}}"),
    "not a number": ("application/json", META + b'"data":{"a":NaN}}'),
    "nothing": ("application/json", b""),
    "an object cut short": ("application/json", META),
    "zeros": ("application/json", b"\0" * 1000),
    "the wrong type everywhere": ("application/json", b'{"metadata":[[[]]],"data":7,"kind":{},"apiVersion":[]}'),
    "a kind of a megabyte": ("application/json", b'{"kind":"' + b"k" * MEGABYTE + b'","metadata":{"name":"x"}}'),
    "a name of a megabyte": ("application/json", b'{"metadata":{"name":"' + b"n" * MEGABYTE + b'"}}'),
    "a YAML bomb": ("application/yaml", BOMB),
    "YAML that refers to itself": ("application/yaml", b"metadata: &a\n  name: x\n  annotations: *a\n"),
    "YAML that nests deep": ("application/yaml", b"[" * NESTED),
    "YAML that makes objects": ("application/yaml", b"!!python/object/apply:os.system ['true']\n"),
    "YAML of a hundred thousand lines": ("application/yaml", b"- a\n" * 100_000),
    "YAML that indents on and on": ("application/yaml", b"".join(b" " * i + b"a:\n" for i in range(1500))),
    "protobuf that is none": ("application/vnd.kubernetes.protobuf", b"k8s\0" + b"\xff" * 10_000),
    "protobuf that nests deep": ("application/vnd.kubernetes.protobuf", b"k8s\0" + b"\x0a\x80\x08" * 10_000),
    "YAML of half a character": ("application/yaml", b"\xff\xfe\0"),
    "CBOR": ("application/cbor", b"\xd9\xd9\xf7\x9f" * 1000),
    "a media type of a line": ("text/" + "x" * 30_000, b"{}"),
    "more than may be sent": ("application/json", META + b'"data":{"a":"' + b"a" * (4 * MEGABYTE) + b'"}}'),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_cannot_be_taken_is_refused_soon(server: ServerProcess, name: str) -> None:
    """CVE-2019-11253 (bombs of YAML), CVE-2019-11254 (its lines), CVE-2020-14040 (half a character), CVE-2021-3121
    (protobuf), CVE-2021-25738 and CVE-2020-14343 (YAML that makes objects), CVE-2021-4235, CVE-2022-3064,
    CVE-2022-28948, CVE-2024-27454 (depth)."""
    content_type, body = BODIES[name]
    before = time.monotonic()
    assert_refused(exchange(server, request("POST", CONFIGMAPS, body, content_type)))
    assert time.monotonic() - before < 5
    assert_alive(server)


def test_a_field_that_is_there_twice_is_refused_where_the_client_is_strict(server: ServerProcess) -> None:
    body = b'{"metadata":{"name":"twice"},"data":{"a":"1"},"data":{"a":"2"}}'
    answer = exchange(server, request("POST", f"{CONFIGMAPS}?fieldValidation=Strict", body))
    assert_refused(answer)
    assert b'duplicate field \\"data\\"' in answer


def test_chunks_without_end_are_cut_off(server: ServerProcess) -> None:
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    head = f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n".encode() + ADMIN + b"\r\n"
    assert_refused(exchange(server, head + chunk * 200))
    assert_alive(server)


PATCHES = {
    "a JSON patch that doubles": (
        "json-patch",
        orjson.dumps(
            [{"op": "add", "path": "/data", "value": {"a": "x" * 1000}}]
            + [{"op": "copy", "from": "/data", "path": f"/data/a{i}"} for i in range(40)]
        ),
    ),
    "a JSON patch of a hundred thousand steps": (
        "json-patch",
        b"[" + b",".join([b'{"op":"test","path":"/kind","value":"ConfigMap"}'] * 50_000) + b"]",
    ),
    "a pointer of a hundred thousand parts": (
        "json-patch",
        orjson.dumps([{"op": "add", "path": "/a" * NESTED, "value": 1}]),
    ),
    "a merge patch that nests deep": ("merge-patch", DEEP_JSON),
    "a strategic patch that nests deep": ("strategic-merge-patch", DEEP_JSON),
    "an applied bomb": ("apply-patch", BOMB.replace(b"json", b"yaml")),
}


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_that_cannot_be_done_is_refused_soon(server: ServerProcess, name: str) -> None:
    """CVE-2019-1002100: a JSON patch of very many steps."""
    kind, body = PATCHES[name]
    exchange(server, request("POST", CONFIGMAPS, b'{"metadata":{"name":"patched"},"data":{"a":"1"}}'))
    suffix = "yaml" if kind == "apply-patch" else "json"
    path = f"{CONFIGMAPS}/patched?fieldManager=hostile"
    before = time.monotonic()
    assert_refused(exchange(server, request("PATCH", path, body, f"application/{kind}+{suffix}")))
    assert time.monotonic() - before < 5
    assert_alive(server)


# ------------------------------------------------------------------ what is deep
FREES = "/apis/hostile.example.org/v1/namespaces/default/frees"


@pytest.fixture(scope="module")
def free(server: ServerProcess) -> dict[str, Any]:
    """A custom resource that may hold anything, for each test to name."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "metadata": {"name": "frees.hostile.example.org"},
        "spec": {
            "group": "hostile.example.org",
            "scope": "Namespaced",
            "names": {"plural": "frees", "kind": "Free"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert status_of(exchange(server, request("POST", path, orjson.dumps(definition)))) == 201
    while status_of(exchange(server, request("GET", FREES))) != 200:
        pass
    return {"apiVersion": "hostile.example.org/v1", "kind": "Free"}


def nested(depth: int) -> Any:
    return orjson.loads(b'{"a":' * depth + b"1" + b"}" * depth)


def test_an_object_that_may_be_stored_can_be_listed_patched_and_deleted_in_every_form(
    server: ServerProcess, free: dict[str, Any]
) -> None:
    """Lists, tables and managed fields are deeper than the object: one that is too deep would spoil them for all."""
    deepest = 0
    for depth in range(150, 245):
        body = orjson.dumps({**free, "metadata": {"name": f"d{depth}"}, "x": nested(depth)})
        answer = exchange(server, request("POST", FREES, body))
        assert status_of(answer) in (201, 400), answer[:300]
        if status_of(answer) == 201:
            deepest = depth
    assert deepest >= 190
    table = "Accept: application/json;as=Table;g=meta.k8s.io;v=v1\r\n"
    for more in ("", table, "Accept: application/yaml\r\n"):
        assert status_of(exchange(server, request("GET", f"{FREES}?includeObject=Object", more=more))) == 200
    merge = request("PATCH", f"{FREES}/d{deepest}", b'{"y":1}', "application/merge-patch+json")
    assert status_of(exchange(server, merge)) == 200
    assert status_of(exchange(server, request("DELETE", FREES))) == 200
    assert_alive(server)


@pytest.mark.parametrize("op", ["add", "copy", "move"])
def test_a_json_patch_makes_no_object_deeper_than_may_be_sent(
    server: ServerProcess, free: dict[str, Any], op: str
) -> None:
    body = orjson.dumps({**free, "metadata": {"name": op}, "x": nested(150), "y": nested(150)})
    assert status_of(exchange(server, request("POST", FREES, body))) == 201
    step = {"op": op, "from": "/y", "path": "/x" + "/a" * 149 + "/b", "value": nested(150)}
    content_type = "application/json-patch+json"
    answer = exchange(
        server, request("PATCH", f"{FREES}/{op}", orjson.dumps([step] * (op == "copy") + [step]), content_type)
    )
    assert status_of(answer) == 422, answer[:300]
    assert_alive(server)


def test_managed_fields_with_a_key_that_is_nested_deeply_are_left_aside(server: ServerProcess) -> None:
    body = {"metadata": {"name": "keyed"}, "data": {"a": "1"}}
    assert status_of(exchange(server, request("POST", CONFIGMAPS, orjson.dumps(body)))) == 201
    fields = {'k:{"a":' + "[" * 300 + "]" * 300 + "}": {}}
    entry = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields}
    body = {"metadata": {"name": "keyed", "managedFields": [entry]}, "data": {"a": "2"}}
    assert status_of(exchange(server, request("PUT", f"{CONFIGMAPS}/keyed", orjson.dumps(body)))) == 200
    assert_alive(server)


# ------------------------------------------------------------------ what is many
MANY = 20_000
PODS = "/api/v1/namespaces/default/pods"
ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "x"}


def pod(**spec: Any) -> Any:
    return {"metadata": {"generateName": "many-"}, "spec": {"containers": [{"name": "c", "image": "x"}], **spec}}


def config_map(**metadata: Any) -> Any:
    return {"metadata": {"generateName": "many-", **metadata}}


def soon(server: ServerProcess, sent: bytes) -> bytes:
    """The answer, for which the server may work for ten seconds; others work on this machine, too."""
    before = server.worked()
    answer = exchange(server, sent, timeout=120)
    assert server.worked() - before < 10
    return answer


def of_secrets(path: str) -> Any:
    items = [{"secret": {"name": "s", "items": [{"key": "a", "path": path.format(i)}]}} for i in range(MANY)]
    return pod(volumes=[{"name": "v", "projected": {"sources": items}}])


SPREAD = {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
COSTLY: dict[str, tuple[str, Any]] = {
    "owners": (CONFIGMAPS, config_map(ownerReferences=[{**OWNER, "uid": f"u{i}"} for i in range(MANY)])),
    "the same owner": (CONFIGMAPS, config_map(ownerReferences=[{**OWNER, "uid": "u"}] * MANY)),
    "owners that all control": (
        CONFIGMAPS,
        config_map(ownerReferences=[{**OWNER, "uid": f"u{i}", "controller": True} for i in range(MANY // 10)]),
    ),
    "labels that are none": (CONFIGMAPS, config_map(labels={f"a label {i}": "a value" for i in range(MANY)})),
    "finalizers that are none": (CONFIGMAPS, config_map(finalizers=["no finalizer"] * MANY)),
    "files of a volume": (PODS, of_secrets("p{}")),
    "files of a volume that are the same": (PODS, of_secrets("p")),
    "folders in folders": (
        PODS,
        pod(volumes=[{"name": "v", "configMap": {"name": "c", "items": [{"key": "a", "path": "a/" * 500_000 + "b"}]}}]),
    ),
    "ways to spread": (
        PODS,
        pod(topologySpreadConstraints=[{**SPREAD, "topologyKey": f"k{i}"} for i in range(MANY // 2)]),
    ),
    "one way to spread": (PODS, pod(topologySpreadConstraints=[{**SPREAD, "topologyKey": "k"}] * (MANY // 2))),
    "claims of a container": (
        PODS,
        pod(
            resourceClaims=[{"name": f"c{i}"} for i in range(MANY)],
            containers=[{"name": "c", "image": "x", "resources": {"claims": [{"name": f"d{i}"} for i in range(MANY)]}}],
        ),
    ),
    "scopes of a quota": (
        PODS.replace("pods", "resourcequotas"),
        {
            "metadata": {"generateName": "many-"},
            "spec": {
                "hard": {f"count/k{i}.example.org": "1" for i in range(MANY)} | {"secrets": "1", "services": "1"},
                "scopes": ["BestEffort"] * MANY,
                "scopeSelector": {"matchExpressions": [{"scopeName": "Nothing", "operator": "Exists"}] * MANY},
            },
        },
    ),
    "exit codes of a Job": (
        "/apis/batch/v1/namespaces/default/jobs",
        {
            "metadata": {"generateName": "many-"},
            "spec": {
                "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}},
                "podFailurePolicy": {
                    "rules": [
                        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": list(range(1, 15 * MANY))}}
                    ]
                },
            },
        },
    ),
    "usages of a certificate": (
        "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        {
            "metadata": {"generateName": "many-"},
            "spec": {
                "request": "",
                "signerName": "example.org/s",
                "usages": [f"u{number}" for number in range(5 * MANY)],
            },
        },
    ),
    "tolerations that are none": (PODS, pod(tolerations=[{"key": "k", "operator": "Nothing"}] * MANY)),
}


@pytest.mark.parametrize("name", COSTLY)
def test_an_object_with_very_many_parts_holds_up_the_server_for_seconds_at_most(
    server: ServerProcess, name: str
) -> None:
    """What takes as long as the square of what is sent would stop everybody for minutes."""
    path, body = COSTLY[name]
    answer = soon(server, request("POST", path, orjson.dumps(body)))
    assert status_of(answer) in (201, 422), answer[:300]
    assert_alive(server)


def settings_of(count: int, value: str) -> list[dict[str, str]]:
    return [{"name": f"k{number}", "value": value} for number in range(count)]


def test_patches_of_very_many_elements_hold_up_the_server_for_seconds_at_most(server: ServerProcess) -> None:
    """Elements are put in order, and what may not change is told as a difference: neither by the square of both."""
    made = pod() | {"metadata": {"name": "patched"}}
    made["spec"]["containers"][0]["env"] = settings_of(MANY, "v")
    assert status_of(exchange(server, request("POST", PODS, orjson.dumps(made)))) == 201
    names = [{"name": f"c{number}"} for number in range(MANY)]
    ordered = {"$setElementOrder/containers": names, "containers": [{**name, "image": "x"} for name in names]}
    retained = {f"k{number}": "v" for number in range(3 * MANY)}
    applied = {"apiVersion": "v1", "kind": "Pod", **made}
    applied["spec"] = {"containers": [{"name": "c", "image": "x", "env": settings_of(MANY, "w")}]}
    for kind, body, expected in (
        ("strategic-merge-patch+json", {"spec": ordered}, 422),
        ("strategic-merge-patch+json", {"metadata": {"labels": {"$retainKeys": list(retained), **retained}}}, 422),
        ("apply-patch+yaml", applied, 422),
    ):
        path = f"{PODS}/patched?fieldManager=hostile&force=true"
        answer = soon(server, request("PATCH", path, orjson.dumps(body), f"application/{kind}"))
        assert status_of(answer) in (expected, 413), answer[:300]
    assert_alive(server)


def test_patches_add_up_to_no_object_without_end(server: ServerProcess) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    labels = {"app": "grows"}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod()["spec"]}}
    body = orjson.dumps({"metadata": {"name": "grows"}, "spec": {"replicas": 0, **spec}})
    assert status_of(exchange(server, request("POST", path, body))) == 201
    codes = []
    for number in range(4):
        added = [{"name": f"k{number}-{i}", "value": "v" * 9000} for i in range(150)]
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "env": added}]}}}}
        sent = request("PATCH", f"{path}/grows", orjson.dumps(patch), "application/strategic-merge-patch+json")
        codes.append(status_of(answer := exchange(server, sent)))
    assert codes == [200, 200, 413, 413]
    assert b"Request entity too large: limit is 3145728" in answer
    assert status_of(exchange(server, request("DELETE", f"{path}/grows"))) == 200


def message(number: int, content: bytes) -> bytes:
    """A field of protobuf with bytes in it."""
    length, rest = b"", len(content)
    while rest > 127:
        length, rest = length + bytes([rest & 127 | 128]), rest >> 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + content


MILLION = 900_000
EMPTY = {
    "JSON": ("application/json", META + b'"spec":{"containers":[' + b",".join([b"{}"] * MILLION) + b"]}}"),
    "nulls": ("application/json", META + b'"spec":{"containers":[' + b",".join([b"null"] * (MILLION // 2)) + b"]}}"),
    "protobuf": (
        "application/vnd.kubernetes.protobuf",
        b"k8s\0" + message(1, message(1, b"v1") + message(2, b"Pod")) + message(2, message(2, b"\x12\0" * MILLION)),
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_million_of_nothing_is_refused_before_it_is_given_its_defaults(server: ServerProcess, name: str) -> None:
    content_type, body = EMPTY[name]
    memory = server.resident()
    answer = soon(server, request("POST", PODS, body, content_type))
    assert status_of(answer) == 413
    assert b"Request entity too large: limit is 100000 maps and lists" in answer
    assert server.resident() - memory < 300 * MEGABYTE
    for kind in ("merge-patch+json", "apply-patch+yaml"):
        path = f"{PODS.replace('pods', 'services')}/kubernetes?fieldManager=hostile"
        patch = b'{"apiVersion":"v1","kind":"Service","metadata":{"name":"kubernetes"},"spec":{"ports":['
        body = patch + b",".join([b"{}"] * MILLION) + b"]}}"
        answer = soon(server, request("PATCH", path, body, f"application/{kind}"))
        assert 400 <= status_of(answer) < 500, answer[:300]
    assert_alive(server)


def test_defaults_multiply_to_no_object_without_end(server: ServerProcess) -> None:
    item = {"type": "object", "properties": {"text": {"type": "string", "default": "x" * 100_000}}}
    schema = {"type": "object", "properties": {"list": {"type": "array", "items": item}}}
    definition = {
        "metadata": {"name": "bombs.hostile.example.org"},
        "spec": {
            "group": "hostile.example.org",
            "scope": "Namespaced",
            "names": {"plural": "bombs", "kind": "Bomb"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert status_of(exchange(server, request("POST", crds, orjson.dumps(definition)))) == 201
    path = FREES.replace("frees", "bombs")
    while status_of(exchange(server, request("GET", path))) != 200:
        pass
    body = {"apiVersion": "hostile.example.org/v1", "kind": "Bomb", "metadata": {"name": "x"}, "list": [{}] * MANY}
    assert status_of(soon(server, request("POST", path, orjson.dumps(body)))) == 413
    assert status_of(exchange(server, request("POST", path, orjson.dumps({**body, "list": [{}] * 20})))) == 201


def test_a_custom_resource_that_is_wrong_a_hundred_thousand_times_is_refused_soon(server: ServerProcess) -> None:
    texts = {"type": "array", "items": {"type": "string"}}
    properties = {
        "set": {**texts, "x-kubernetes-list-type": "set"},
        "enum": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
    }
    definition = {
        "metadata": {"name": "wrongs.hostile.example.org"},
        "spec": {
            "group": "hostile.example.org",
            "scope": "Namespaced",
            "names": {"plural": "wrongs", "kind": "Wrong"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
                }
            ],
        },
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert status_of(exchange(server, request("POST", crds, orjson.dumps(definition)))) == 201
    path = FREES.replace("frees", "wrongs")
    while status_of(exchange(server, request("GET", path))) != 200:
        pass
    head = {"apiVersion": "hostile.example.org/v1", "kind": "Wrong", "metadata": {"name": "x"}}
    for more, expected in (
        ({"set": ["x"] * MANY}, 422),
        ({"enum": ["c"] * MANY}, 422),
        ({f"unknown{i}": 1 for i in range(2 * MANY)}, 201),
    ):
        answer = soon(server, request("POST", path, orjson.dumps({**head, **more})))
        assert status_of(answer) == expected, answer[:300]
    assert_alive(server)


def test_a_role_that_multiplies_out_to_a_billion_rights_is_refused_soon(server: ServerProcess) -> None:
    """Whoever may create roles (each namespace's admin) makes the server compare them with what they hold."""
    rules = [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["create"]}]
    role = {"metadata": {"name": "creator"}, "rules": rules}
    binding = {
        "metadata": {"name": "creator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "creator"},
        "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    assert status_of(exchange(server, request("POST", ROLES, orjson.dumps(role)))) == 201
    path = ROLES.replace("clusterroles", "clusterrolebindings")
    assert status_of(exchange(server, request("POST", path, orjson.dumps(binding)))) == 201
    words = [f"w{i}" for i in range(1000)]
    rules = [{"apiGroups": words, "resources": words, "verbs": words}]
    body = orjson.dumps({"metadata": {"name": "product"}, "rules": rules})
    asked = request("POST", ROLES, body).replace(ADMIN, b"Authorization: Bearer alice-token\r\n")
    assert status_of(soon(server, asked)) == 403
    assert status_of(soon(server, request("POST", ROLES, body))) == 201  # who holds all of it
    assert_alive(server)


# ------------------------------------------------------------------ numbers and blocks of many letters
JOB = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}
DIGITS = "9" * 5000
SCHEDULES = {
    "a number of many digits": f"{DIGITS} * * * *",
    "a step of many digits": f"0-59/{DIGITS} * * * *",
    "an hour of many digits": f"@every {DIGITS}h",
    "longer than a duration can be": "@every 2562048h",
    "a fraction of many digits": f"@every 0.{DIGITS}x",
    "hours without end": "@every " + "1h" * 500_000 + "x",
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_of_very_many_letters_is_refused_soon(server: ServerProcess, name: str) -> None:
    """int() of Python refuses numbers of more than 4,300 digits: CVE-2020-10735, of what it did before."""
    body = {"metadata": {"name": "scheduled"}, "spec": {"schedule": SCHEDULES[name], "jobTemplate": {"spec": JOB}}}
    path = "/apis/batch/v1/namespaces/default/cronjobs"
    assert status_of(answer := soon(server, request("POST", path, orjson.dumps(body)))) == 422, answer[:300]
    assert_alive(server)


BEGIN = b"-----BEGIN CERTIFICATE REQUEST-----\n"
BLOCKS = {
    "beginnings": BEGIN * 25_000,
    "beginnings with a line": (BEGIN + b"A" * 64 + b"\n") * 9000,
    "beginnings and one end": BEGIN * 25_000 + b"-----END CERTIFICATE REQUEST-----\n",
    "headers": b"-----BEGIN X-----\n" + b"a: b\n" * 150_000,
    "ends": BEGIN + b"-----END X-----\n" * 50_000,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_pem_of_nothing_but_beginnings_is_refused_soon(server: ServerProcess, name: str) -> None:
    """CVE-2025-61723: Go took the square of the time."""
    encoded = base64.b64encode(BLOCKS[name]).decode()
    spec = {"request": encoded, "signerName": "example.com/signer", "usages": ["client auth"]}
    csrs = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    body = orjson.dumps({"metadata": {"name": "many"}, "spec": spec})
    assert status_of(soon(server, request("POST", csrs, body))) == 422
    for pair in ({"tls.crt": encoded, "tls.key": ""}, {"tls.crt": "", "tls.key": encoded}):
        secret = {"metadata": {"generateName": "many-"}, "type": "kubernetes.io/tls", "data": pair}
        answer = soon(server, request("POST", "/api/v1/namespaces/default/secrets", orjson.dumps(secret)))
        assert status_of(answer) == 201, answer[:300]
    assert_alive(server)


# ------------------------------------------------------------------ queries
def token(**value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


QUERIES = {
    "a selector of nothing but brackets": "labelSelector=" + "a%20in%20(" * 5000,
    "a hundred thousand requirements": "labelSelector=" + ",".join(f"a{i}=b" for i in range(100_000)),
    "a selector with a value of a hundred thousand letters": "labelSelector=a%3D" + "b" * 100_000,
    "a field selector that is none": "fieldSelector=" + "%3D" * 1000,
    "a thousand and one parameters": "&".join(f"p{i}=1" for i in range(1001)),
    "a limit past all bounds": "limit=" + "9" * 5000,
    "a token to go on that is none": "limit=1&continue=" + "A" * 50_000,
    "a token to go on that leads out": "limit=1&continue=" + token(v="meta.k8s.io/v1", rv=1, start="../secrets"),
    "a timeout past all bounds": "watch=1&timeoutSeconds=" + "9" * 400,
}


@pytest.mark.parametrize("revision", ["-1", "none", "9" * 5000], ids=["negative", "no number", "past all bounds"])
def test_a_revision_that_makes_no_sense_is_refused(server: ServerProcess, revision: str) -> None:
    answer = exchange(server, request("GET", f"{CONFIGMAPS}?resourceVersion={revision}"))
    assert status_of(answer) == 400
    assert b"resourceVersion: Invalid value" in answer
    assert_alive(server)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_that_makes_no_sense_is_refused(server: ServerProcess, name: str) -> None:
    assert_refused(exchange(server, request("GET", f"{CONFIGMAPS}?{QUERIES[name]}")))
    assert_alive(server)


def test_a_review_with_a_hundred_thousand_requirements_is_answered(server: ServerProcess) -> None:
    requirements = [{"key": f"k{i}", "operator": "In", "values": ["a", "b"]} for i in range(50_000)]
    attributes = {"verb": "list", "resource": "pods", "labelSelector": {"requirements": requirements}}
    review = {"spec": {"user": "alice", "resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    answer = exchange(server, request("POST", path, orjson.dumps(review)))
    assert status_of(answer) in (201, 413, 422)
    assert_alive(server)


# ------------------------------------------------------------------ slow clients
def test_who_does_not_finish_a_request_s_head_is_let_go(server: ServerProcess) -> None:
    with server.connect(timeout=15.0) as connection:
        connection.sendall(b"GET /api HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert_refused(read_answer(connection))
    assert_alive(server)


async def test_who_does_not_finish_a_body_is_let_go(tmp_path: Path) -> None:
    """Through the listener alone, whose patience can be made short."""
    pki = ensure(tmp_path / "pki", ["127.0.0.1"])
    begun, ended = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        while (message := await receive())["type"] == "http.request" and message.get("more_body"):
            pass
        ended.set_result(message["type"])

    files = {"certificate": pki.server_certificate, "private_key": pki.server_key, "client_ca_bundle": None}
    transport = Transport(app, Listener("127.0.0.1", 0, **files, max_body=1000, patience=0.1, grace=1.0))
    port = await transport.start()
    context = ssl.create_default_context(cafile=str(pki.ca_certificate))

    async def dawdle() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this")
        try:
            return await reader.read()
        finally:
            writer.close()

    async with asyncio.timeout(60):
        answer = b""
        while not begun.is_set():  # on a busy machine the handshake alone may take longer than the listener waits
            with contextlib.suppress(OSError):
                answer = await dawdle()
        assert await ended == "http.disconnect"
    assert_refused(answer)
    await transport.stop()


# ------------------------------------------------------------------ anything
def words(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from(text.split(" "))


PLACES = words(
    "api apis v1 apps namespaces default pods secrets configmaps watch proxy log exec token status scale "
    ".. . %2f %2e%2e %00 %ff x:y:z ~ * @  " + "a" * 300
)
METHODS = words("GET HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT get M-X")
PARAMETERS = words(
    "watch limit continue labelSelector fieldSelector resourceVersion resourceVersionMatch pretty sendInitialEvents "
    "dryRun fieldManager force container command tailLines"
)
VALUES = words(" 1 -1 true a+in+( ! = %ff metadata.name=x All null " + "9" * 40)
MEDIA = words(
    "application/json application/yaml application/vnd.kubernetes.protobuf application/apply-patch+yaml "
    "application/json-patch+json application/merge-patch+json application/strategic-merge-patch+json * "
)
NAMES = words("metadata name kind apiVersion data spec status items op path ") | st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
BODY = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
ONE_SERVER = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture], "derandomize": True}


@settings(max_examples=600, **ONE_SERVER)
@given(
    method=METHODS,
    places=st.lists(PLACES, max_size=8),
    query=st.lists(st.tuples(PARAMETERS, VALUES), max_size=4),
    media=MEDIA,
    accept=MEDIA,
    body=BODY,
)
def test_whatever_is_asked_is_answered_and_never_with_a_500(
    server: ServerProcess,
    method: str,
    places: list[str],
    query: list[tuple[str, str]],
    media: str,
    accept: str,
    body: bytes,
) -> None:
    path = "/" + "/".join(places) + "?timeoutSeconds=1&" + "&".join(f"{name}={value}" for name, value in query)
    answer = exchange(server, request(method, path, body, media, f"Accept: {accept}\r\nConnection: close\r\n"))
    assert status_of(answer) < 500, (method, path, body, answer[:500])
    assert "Traceback" not in server.log


@settings(max_examples=150, **ONE_SERVER)
@given(sent=st.binary(min_size=1, max_size=400).map(lambda noise: noise + b"\r\n\r\n"))
def test_noise_is_refused_or_the_connection_closed(server: ServerProcess, sent: bytes) -> None:
    assert_refused(exchange(server, sent))


# ------------------------------------------------------------------ memory
def test_memory_stays_bounded_whatever_was_sent(server: ServerProcess) -> None:
    def barrage() -> None:
        for content_type, body in BODIES.values():
            exchange(server, request("POST", CONFIGMAPS, body, content_type))
        for head in HEADS.values():
            exchange(server, head)

    barrage()
    before = server.resident()
    for _ in range(3):
        barrage()
    assert server.resident() - before < 48 * MEGABYTE
    assert server.resident() < 400 * MEGABYTE


def test_words_that_clients_make_up_are_not_kept(server: ServerProcess) -> None:
    """Metrics, caches and discovery must not grow with the names of what is not there.

    CVE-2020-8552, CVE-2022-21698, CVE-2023-45142 and CVE-2023-47108 (series of metrics without end).
    """

    def ask(first: int, count: int) -> None:
        with server.connect() as connection:
            for number in range(first, first + count):
                pad = f"{number}-{'p' * 2000}"
                for path in (f"/apis/g{pad}/v1/r{pad}", f"/api/{pad}", f"/api/v1/r{pad}/n", f"{CONFIGMAPS}/x{pad}"):
                    connection.sendall(f"G{number} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    read_answer(connection)
                kind = b'{"kind":"K%s","apiVersion":"g%d/v1"}' % (pad.encode(), number)
                connection.sendall(request("POST", CONFIGMAPS, kind))
                read_answer(connection)

    ask(0, 200)
    before = server.resident()
    ask(200, 1000)
    assert server.resident() - before < 12 * MEGABYTE
    listed = exchange(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + ADMIN + b"\r\n")
    assert b"ppppp" not in listed
