"""--request-trace-path: a line for each request with what every stage decided and changed, and never a secret."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from hook_service import bundle_and_context, serving
from server_client import Client, Running, Start

from kubegate.api import requestinfo
from kubegate.authentication import Headers
from kubegate.server.call import Call
from kubegate.server.linefile import LineFile
from kubegate.server.options import UsageError
from kubegate.server.request_traces import FLAG, RequestTraces
from kubegate.server.responses import Response

Object = dict[str, Any]
DEFAULT = "/api/v1/namespaces/default"
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"


def pod(name: str) -> Object:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}]}}


def lines(path: Path) -> list[Object]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def stage(line: Object, name: str) -> Object:
    """The first stage of this name."""
    found: Object = next(stage for stage in line["stages"] if stage["name"] == name)
    return found


async def traced(start: Start, tmp_path: Path, *flags: str) -> Running:
    return await start(f"--request-trace-path={tmp_path / 'traces'}", "--controllers=none", *flags)


async def ended(running: Running, tmp_path: Path) -> list[Object]:
    await running.server.stop()
    return lines(tmp_path / "traces")


# ---------------------------------------------------------------------- who was refused, where and why
async def test_a_refusal_of_the_authorizers_tells_who_asked_what_and_that_nobody_allowed_it(
    start: Start, tmp_path: Path
) -> None:
    running = await traced(start, tmp_path)
    refused = await running.client.ask("GET", f"{DEFAULT}/pods", token="alice-token")
    (line,) = await ended(running, tmp_path)
    assert line["id"] == refused.headers["audit-id"]
    assert (line["method"], line["uri"], line["verb"]) == ("GET", f"{DEFAULT}/pods", "list")
    assert line["objectRef"] == {"apiVersion": "v1", "resource": "pods", "namespace": "default"}
    assert line["user"] == {"username": "alice", "groups": ["dev", "system:authenticated"]}
    assert "impersonator" not in line
    assert (line["code"], line["reason"], line["message"]) == (403, "Forbidden", refused.json["message"])
    assert line["refusedBy"] == "authorization"
    first, second = line["stages"]
    assert (first["name"], first["decision"], first["by"]) == ("authentication", "authenticated", "token-file")
    assert (second["name"], second["decision"]) == ("authorization", "no opinion")
    assert 0 < first["seconds"] < line["seconds"]


async def test_an_allowance_tells_the_binding_that_gave_it(start: Start, tmp_path: Path) -> None:
    running = await traced(start, tmp_path)
    await running.client.ask("GET", "/version", token="alice-token")
    (line,) = await ended(running, tmp_path)
    assert stage(line, "authorization")["by"] == "rbac"
    assert 'ClusterRoleBinding "system:' in stage(line, "authorization")["reason"]
    assert "refusedBy" not in line and "objectRef" not in line


async def test_a_token_that_is_refused_leaves_why_and_nothing_of_itself(start: Start, tmp_path: Path) -> None:
    running = await traced(start, tmp_path)
    await running.client.ask("GET", f"{DEFAULT}/pods", token="nobody-knows-this-token")
    (line,) = await ended(running, tmp_path)
    assert (line["code"], line["refusedBy"]) == (401, "authentication")
    assert stage(line, "authentication")["reason"] == "invalid bearer token"
    assert "user" not in line
    assert "nobody-knows" not in (tmp_path / "traces").read_text()


async def test_a_request_without_a_credential_is_refused_where_anonymous_is_off(start: Start, tmp_path: Path) -> None:
    running = await traced(start, tmp_path, "--anonymous-auth=false")
    await running.client.ask("GET", "/version", token="")
    (line,) = await ended(running, tmp_path)
    assert stage(line, "authentication")["reason"] == "no credential, and anonymous is off"


async def test_who_is_impersonated_is_told_with_the_impersonator(start: Start, tmp_path: Path) -> None:
    running = await traced(start, tmp_path)
    await running.client.ask("GET", "/version", Impersonate_User="bob")
    refused = await running.client.ask("GET", "/version", token="alice-token", Impersonate_User="bob")
    good, bad = await ended(running, tmp_path)
    assert (good["user"]["username"], good["impersonator"]["username"]) == ("bob", "admin")
    assert stage(good, "impersonation")["decision"] == "impersonated"
    assert (bad["user"]["username"], bad["refusedBy"]) == ("alice", "impersonation")
    assert stage(bad, "impersonation")["reason"] == refused.json["message"]


async def test_an_object_that_is_not_valid_is_refused_by_validation(start: Start, tmp_path: Path) -> None:
    running = await traced(start, tmp_path)
    refused = await running.client.ask("POST", f"{DEFAULT}/configmaps", {"metadata": {"name": "Not_a_name"}})
    (line,) = await ended(running, tmp_path)
    assert (line["code"], line["refusedBy"]) == (422, "validation")
    assert stage(line, "validation")["reason"] == refused.json["message"]


# ---------------------------------------------------------------------- what admission did
async def test_what_each_plugin_changed_is_told_as_a_patch(start: Start, tmp_path: Path) -> None:
    running = await traced(start, tmp_path)
    await running.client.ask("POST", f"{DEFAULT}/serviceaccounts", {"metadata": {"name": "default"}})
    created = await running.client.ask("POST", f"{DEFAULT}/pods", pod("a"))
    _, line = await ended(running, tmp_path)
    assert (created.status, line["code"], line["objectRef"]["name"]) == (201, 201, "a")
    assert stage(line, "admission/NamespaceLifecycle")["decision"] == "allow"
    changed = {each["name"]: each["changes"] for each in line["stages"] if each.get("decision") == "changed"}
    assert {"op": "add", "path": "/spec/serviceAccountName", "value": "default"} in changed["admission/ServiceAccount"]
    assert {"op": "add", "path": "/spec/priority", "value": 0} in changed["admission/Priority"]
    assert [change["path"] for change in changed["admission/DefaultTolerationSeconds"]] == ["/spec/tolerations"]
    assert line["stages"][-1]["name"] == "store"


async def test_a_policy_s_change_and_another_s_refusal_are_told_by_name(start: Start, tmp_path: Path) -> None:
    running = await traced(start, tmp_path)
    rules = [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]
    constraints = {"matchConstraints": {"resourceRules": rules}}
    label = "Object{metadata: Object.metadata{labels: {'by': 'policy'}}}"
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": label}}
    await register(
        running.client,
        "mutatingadmissionpolic",
        {
            "metadata": {"name": "label"},
            "spec": {**constraints, "mutations": [mutation], "reinvocationPolicy": "Never"},
        },
        {"metadata": {"name": "label-all"}, "spec": {"policyName": "label"}},
    )
    validation = {"expression": "object.metadata.name != 'bad'", "message": "bad names are refused"}
    await register(
        running.client,
        "validatingadmissionpolic",
        {"metadata": {"name": "names"}, "spec": {**constraints, "validations": [validation]}},
        {"metadata": {"name": "names-all"}, "spec": {"policyName": "names", "validationActions": ["Deny"]}},
    )
    await running.client.ask("POST", f"{DEFAULT}/configmaps", {"metadata": {"name": "good"}})
    await running.client.ask("POST", f"{DEFAULT}/configmaps", {"metadata": {"name": "bad"}})
    good, bad = (await ended(running, tmp_path))[-2:]
    assert stage(good, "policy/label")["changes"] == [
        {"op": "add", "path": "/metadata/labels", "value": {"by": "policy"}}
    ]
    assert stage(good, "policy/names")["decision"] == "allow"
    assert bad["refusedBy"] == "policy/names"
    denied = stage(bad, "policy/names")
    assert (denied["decision"], denied["by"], denied["reason"]) == (
        "deny",
        "binding names-all",
        "bad names are refused",
    )


async def test_a_webhook_s_change_and_another_s_refusal_are_told_by_name(
    start: Start, tmp_path: Path, hooks: Hooks
) -> None:
    running = await traced(start, tmp_path)
    patch = [{"op": "add", "path": "/metadata/labels", "value": {"by": "webhook"}}]
    hooks.answers = {
        "mutate": {"allowed": True, "patch": patch},
        "validate": {"allowed": True, "warnings": ["careful"]},
    }
    await hooks.register(running.client, "configmaps")
    await running.client.ask("POST", f"{DEFAULT}/configmaps", {"metadata": {"name": "a"}})
    hooks.answers["validate"] = {"allowed": False, "status": {"message": "not on Fridays"}}
    await running.client.ask("POST", f"{DEFAULT}/configmaps", {"metadata": {"name": "b"}})
    good, bad = (await ended(running, tmp_path))[-2:]
    changed = stage(good, "webhook/mutate.example.org")
    assert (changed["decision"], changed["by"], changed["changes"]) == ("changed", "mutating webhook of mutate", patch)
    assert good["warnings"] == ["careful"]
    assert bad["refusedBy"] == "webhook/validate.example.org"
    assert stage(bad, "webhook/validate.example.org")["reason"].endswith("denied the request: not on Fridays")
    assert "mutation.webhook.admission.k8s.io/round_0_index_0" in bad["annotations"]


async def test_a_policy_of_the_gate_is_told_by_name(start: Start, tmp_path: Path) -> None:
    (tmp_path / "gate.py").write_text(
        "from kubegate import Deny, Gate\n\ngate = Gate()\n\n\n@gate.validate('configmaps')\n"
        "def no_more(obj):\n    if obj['metadata']['name'] == 'a':\n        raise Deny('there are enough')\n"
    )
    running = await traced(start, tmp_path, f"--gate={tmp_path / 'gate.py'}")
    await running.client.ask("POST", f"{DEFAULT}/configmaps", {"metadata": {"name": "a"}})
    (line,) = await ended(running, tmp_path)
    assert line["refusedBy"] == "policy/no-more"
    assert stage(line, "policy/no-more")["reason"].endswith("there are enough")


# ---------------------------------------------------------------------- secrets
async def test_no_secret_and_no_token_is_written(start: Start, tmp_path: Path, hooks: Hooks) -> None:
    """Not what is sent, not what webhooks make of it or say about it, nor what clients put where it does not belong."""
    running = await traced(start, tmp_path)
    ask = running.client.ask

    def repeat(review: Object) -> Object:
        data = review["request"]["object"].get("data") or {}
        annotations = {"seen": json.dumps(data), **{f"k{n}": value for n, value in enumerate(data.values())}}
        patch = [{"op": "add", "path": "/data/more", "value": data.get("password", "")}]
        return {"allowed": True, "patch": patch, "warnings": [json.dumps(data)], "auditAnnotations": annotations}

    def quote(review: Object) -> Object:
        text = json.dumps(review["request"]["object"])
        return {"allowed": "refuse" not in review["request"]["name"], "status": {"message": f"seen {text}"}}

    hooks.answers = {"mutate": repeat, "validate": quote}
    await hooks.register(running.client, "secrets")
    for name in ("kept", "refused"):
        secret = {"metadata": {"name": name}, "stringData": {"password": "hunter2-hunter2"}}
        await ask("POST", f"{DEFAULT}/secrets", secret)
    broken = {"metadata": {"name": "broken"}, "type": "kubernetes.io/dockerconfigjson", "stringData": {"hunter2": "x"}}
    await ask("POST", f"{DEFAULT}/secrets", broken)
    await ask(
        "PATCH", f"{DEFAULT}/secrets/kept", {"data": {"password": 7}}, Content_Type="application/merge-patch+json"
    )
    await ask("POST", f"{DEFAULT}/secrets", b'{"data": {"hunter2": hunter2}}')
    await ask("GET", f"{DEFAULT}/secrets")
    await ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "bob-token"}})
    await ask("POST", f"{DEFAULT}/serviceaccounts", {"metadata": {"name": "robot"}})
    token = (await ask("POST", f"{DEFAULT}/serviceaccounts/robot/token", {})).json["status"]["token"]
    await ask("GET", "/version", token=token)
    await ask("GET", "/version", token=token[:-4] + "AAAA")
    await ask("GET", f"{DEFAULT}/pods?access_token=in-the-query&watch=false&Token=in-the-query")
    await ask("GET", f"{DEFAULT}/pods/admin-token")
    basic = base64.b64encode(b"ben:wrong-password").decode()
    await ask("GET", f"{DEFAULT}/pods?note=wrong-password", token="", Authorization=f"Basic {basic}")
    found = await ended(running, tmp_path)
    text = (tmp_path / "traces").read_text()
    encoded = base64.b64encode(b"hunter2-hunter2").decode()
    for secret_text in ("hunter2", encoded, "bob-token", "admin-token", token, token.split(".")[2], "in-the-query"):
        assert secret_text not in text
    for secret_text in (basic, "wrong-password", token[:-4]):
        assert secret_text not in text
    about = [line for line in found if line.get("objectRef", {}).get("resource") == "secrets"]
    assert [line["code"] for line in about] == [201, 400, 422, 422, 400, 200]
    assert all(("withheld" in line) is (line["method"] != "GET") for line in about)
    assert stage(about[0], "webhook/mutate.example.org")["decision"] == "changed"
    assert f"{DEFAULT}/pods?access_token=<redacted>&watch=false&Token=<redacted>" in [line["uri"] for line in found]


# ---------------------------------------------------------------------- the file, and its bounds
async def test_nothing_is_made_where_the_flag_is_not_given(start: Start, tmp_path: Path) -> None:
    running = await start("--controllers=none")
    assert running.server.app._traces is None
    assert "request_traces" not in (await running.client.ask("GET", "/metrics")).body.decode()


async def test_the_file_is_its_owner_s_alone_and_a_path_that_cannot_be_is_told(start: Start, tmp_path: Path) -> None:
    running = await traced(start, tmp_path)
    assert (tmp_path / "traces").stat().st_mode & 0o777 == 0o600
    metrics = (await running.client.ask("GET", "/metrics")).body.decode()
    assert "kubegate_request_traces_dropped_total 0" in metrics
    with pytest.raises(UsageError, match=r"--request-trace-path: .*: Is a directory"):
        await start(f"--request-trace-path={tmp_path}")


class Held:
    """Stands for a file on a disk that hangs until it is let go."""

    path = "held"

    def __init__(self) -> None:
        self.writing, self.let_go = threading.Event(), threading.Event()
        self.data = b""

    def append(self, data: bytes) -> None:
        self.writing.set()
        self.let_go.wait(10)
        self.data += data

    def close(self) -> None:
        pass


class Still:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def call(id: str) -> Call:
    async def receive() -> Object:
        return {}

    info = requestinfo.parse("GET", "/version", {})
    return Call(id, "GET", "/version", "", {}, Headers([]), info, receive, 0)


async def test_only_so_many_wait_and_those_that_were_left_out_are_counted() -> None:
    file = Held()
    traces = RequestTraces(file, Still(), most=3)  # type: ignore[arg-type]
    traces(call("first"), Response(200), 0.1)
    assert file.writing.wait(10)
    for number in range(5):
        traces(call(str(number)), Response(200), 0.1)
    assert traces.dropped == 2  # three wait beside the one that is being written
    file.let_go.set()
    while traces._came - traces._taken:  # the thread does it without our doing
        pass
    traces(call("later"), Response(200), 0.1)
    await traces.close()
    found = [orjson.loads(line) for line in file.data.splitlines()]
    assert [(line["id"], line.get("missing")) for line in found] == [
        ("first", None),
        ("0", None),
        ("1", None),
        ("2", None),
        ("later", 2),
    ]


async def test_what_waits_is_bounded_in_bytes_too() -> None:
    file = Held()
    traces = RequestTraces(file, Still(), most_bytes=1000)  # type: ignore[arg-type]
    for _ in range(3):
        traces(call("large"), Response(404, b"x" * 400), 0.1)
    assert traces.dropped == 1
    file.let_go.set()
    await traces.close()


async def test_more_than_so_many_a_second_are_left_out_after_a_burst() -> None:
    file, clock = Held(), Still()
    file.let_go.set()
    traces = RequestTraces(file, clock, qps=2)  # type: ignore[arg-type]
    for _ in range(30):
        traces(call("burst"), Response(200), 0.1)
    assert traces.dropped == 10
    clock.time += 1
    for _ in range(3):
        traces(call("later"), Response(200), 0.1)
    assert traces.dropped == 11
    await traces.close()


async def test_a_disk_that_is_full_is_survived_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    class Full(Held):
        def append(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    traces = RequestTraces(Full(), Still())  # type: ignore[arg-type]
    traces(call("a"), Response(200), 0.1)
    await traces.close()
    assert traces.dropped == 1
    assert "No space left on device" in caplog.text


async def test_a_dash_is_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    traces = RequestTraces(LineFile("-", FLAG, standard=2), Still())
    traces(call("a"), Response(200), 0.1)
    await traces.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert json.loads(err)["id"] == "a"


# ---------------------------------------------------------------------- helpers
@dataclass
class Hooks:
    """Answers of a webhook server by path: a response, or a function of the review that gives one."""

    url: str = ""
    bundle: str = ""
    answers: dict[str, Any] = field(default_factory=dict)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        review = json.loads(await request.read())
        answer = self.answers[request.path.lstrip("/")]
        response = {"uid": review["request"]["uid"], **(answer(review) if callable(answer) else answer)}
        if "patch" in response:
            response["patch"] = base64.b64encode(json.dumps(response["patch"]).encode()).decode()
            response["patchType"] = "JSONPatch"
        return web.json_response({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response})

    async def register(self, client: Client, resource: str) -> None:
        """Webhooks `mutate` and `validate` for whatever is written to the resource."""
        for path, kind in (("mutate", "mutating"), ("validate", "validating")):
            webhook = {
                "name": f"{path}.example.org",
                "clientConfig": {"url": f"{self.url}/{path}", "caBundle": self.bundle},
                "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]}],
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
            body = {"metadata": {"name": path}, "webhooks": [webhook]}
            assert (await client.ask("POST", f"{REGISTRATION}/{kind}webhookconfigurations", body)).status == 201


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[Hooks]:
    bundle, context = bundle_and_context(tmp_path)
    found = Hooks(bundle=bundle)
    async with serving(context, found.handle) as url:
        found.url = url
        yield found


async def register(client: Client, kind: str, policy: Object, binding: Object) -> None:
    assert (await client.ask("POST", f"{REGISTRATION}/{kind}ies", policy)).status == 201
    assert (await client.ask("POST", f"{REGISTRATION}/{kind}ybindings", binding)).status == 201
