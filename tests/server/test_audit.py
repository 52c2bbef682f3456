"""The audit log: by policy, with who was impersonated, what was decided and why, and never a secret."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from audit_log import EVERYTHING, events, logged
from server_client import Start


async def test_an_event_tells_who_asked_what_and_how_it_was_decided(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    refused = await running.client.ask("GET", "/api/v1/namespaces/default/pods", token="alice-token")
    await running.server.stop()
    event = events(tmp_path / "audit.log")[-1]
    assert refused.status == 403
    assert event["auditID"] == refused.headers["audit-id"]
    assert (event["user"]["username"], event["verb"], event["responseStatus"]["code"]) == ("alice", "list", 403)
    assert event["objectRef"] == {"resource": "pods", "namespace": "default", "apiVersion": "v1"}
    assert event["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert event["stage"] == "ResponseComplete"


async def test_an_event_tells_who_was_impersonated_by_whom(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    await running.client.ask("GET", "/api/v1/namespaces", Impersonate_User="bob")
    await running.server.stop()
    event = events(tmp_path / "audit.log")[-1]
    assert event["user"]["username"] == "admin"
    assert event["impersonatedUser"]["username"] == "bob"


async def test_no_secret_and_no_token_is_written(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    secret = {"metadata": {"name": "s"}, "stringData": {"password": "hunter2-hunter2"}}
    await running.client.ask("POST", "/api/v1/namespaces/default/secrets", secret)
    await running.client.ask("GET", "/api/v1/namespaces/default/secrets")
    await running.client.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "bob-token"}})
    account = {"metadata": {"name": "robot"}}
    await running.client.ask("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    path = "/api/v1/namespaces/default/serviceaccounts/robot/token"
    token = (await running.client.ask("POST", path, {})).json["status"]["token"]
    await running.server.stop()
    issued = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))["jti"]
    told = [e["annotations"] for e in events(tmp_path / "audit.log") if e["objectRef"].get("subresource") == "token"]
    assert told[0]["authentication.kubernetes.io/issued-credential-id"] == f"JTI={issued}"
    text = (tmp_path / "audit.log").read_text()
    assert "serviceaccounts" in text and "secrets" in text
    for secret_text in ("hunter2", "aHVudGVyMi1odW50ZXIy", "bob-token", "admin-token", token, token.split(".")[2]):
        assert secret_text not in text


async def test_nothing_that_quotes_a_secret_is_written_either(start: Start, tmp_path: Path) -> None:
    """Patches, tables, what kubectl keeps of what it applied, and refusals that show what was sent."""
    running = await logged(start, tmp_path)
    ask, path = running.client.ask, "/api/v1/namespaces/default/secrets"
    kept = {"kubectl.kubernetes.io/last-applied-configuration": '{"data":{"password":"aHVudGVyMg=="}}'}
    await ask("POST", path, {"metadata": {"name": "s", "annotations": kept}, "data": {"password": "aHVudGVyMg=="}})
    steps = [{"op": "add", "path": "/data/more", "value": "aHVudGVyMg=="}]
    patched = await ask("PATCH", f"{path}/s", steps, Content_Type="application/json-patch+json")
    merged = await ask(
        "PATCH", f"{path}/s", {"data": {"more": "aHVudGVyMg=="}}, Content_Type="application/merge-patch+json"
    )
    table = await ask("GET", f"{path}?includeObject=Object", Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    cut = await ask("POST", path, b'{"data": {"password": "aHVudGVyMg=="')
    steps = [{"op": "add", "path": "/data/more/deep", "value": "x"}, {"op": "add", "path": "/data", "value": 1}]
    wrong = await ask("PATCH", f"{path}/s", steps, Content_Type="application/json-patch+json")
    yaml = await ask("GET", f"{path}/s", Accept="application/yaml")
    review = b'{"spec": {"token": "hunter2"'
    await ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    await running.server.stop()
    answers = (patched.status, merged.status, table.status, cut.status, wrong.status, yaml.status)
    assert answers == (200, 200, 200, 400, 422, 200)
    text = (tmp_path / "audit.log").read_text()
    assert "aHVudGVyMg" not in text
    assert "hunter2" not in text
    shown = {e["verb"]: e["requestObject"] for e in events(tmp_path / "audit.log") if "requestObject" in e}
    assert shown["patch"][0] == {"op": "add", "path": "/data/more/deep", "value": "<redacted>"}
    assert shown["create"]["data"] == {"password": "<redacted>"}


async def test_an_event_has_the_object_that_was_sent_with_its_kind_and_name(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    path = "/api/v1/namespaces/default/configmaps"
    sent = {"metadata": {"name": "a", "uid": "mine"}, "data": {"k": "v"}}
    await running.client.ask("POST", path, sent)
    await running.client.ask("POST", path, b"metadata: {name: b}", Content_Type="application/yaml")
    await running.client.ask("PATCH", f"{path}/a", {"data": {"k": "w"}}, Content_Type="application/merge-patch+json")
    await running.client.ask("DELETE", f"{path}/a", {"gracePeriodSeconds": 0})
    await running.client.ask("POST", path, b"{")
    await running.server.stop()
    created, from_yaml, patched, deleted, broken = events(tmp_path / "audit.log")
    reference = {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
    assert created["objectRef"] == {**reference, "name": "a", "uid": "mine"}
    assert created["requestObject"] == {"kind": "ConfigMap", "apiVersion": "v1", **sent}
    assert from_yaml["requestObject"]["metadata"]["name"] == from_yaml["objectRef"]["name"] == "b"
    assert patched["requestObject"] == {"data": {"k": "w"}}
    assert deleted["requestObject"] == {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
    assert broken["objectRef"] == reference
    assert "requestObject" not in broken


async def test_the_status_of_an_event_is_that_of_the_answer(start: Start, tmp_path: Path) -> None:
    policy = EVERYTHING.replace("RequestResponse", "Metadata")
    running = await logged(start, tmp_path, policy)
    path = "/api/v1/namespaces/default/configmaps"
    await running.client.ask("GET", f"{path}/a", token="alice-token")
    created = await running.client.ask("POST", path, {"metadata": {"name": "a"}})
    await running.client.ask("DELETE", f"{path}/a")
    await running.client.ask("GET", "/version")
    await running.client.ask("GET", "/version", token="nobody's")
    await running.server.stop()
    refused, made, deleted, version, unknown = events(tmp_path / "audit.log")
    assert refused["responseStatus"]["details"] == {"name": "a", "kind": "configmaps"}
    assert made["responseStatus"] == {"metadata": {}, "code": 201}
    assert deleted["responseStatus"] == {
        "metadata": {},
        "status": "Success",
        "details": {"name": "a", "kind": "configmaps", "uid": created.json["metadata"]["uid"]},
        "code": 200,
    }
    assert version["responseStatus"] == {"metadata": {}, "code": 200}
    assert unknown["responseStatus"] == {
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized",
        "reason": "Unauthorized",
        "code": 401,
    }
    assert (unknown["stage"], unknown["user"]) == ("ResponseStarted", {})
    assert "annotations" not in unknown


async def test_what_lasts_is_told_of_when_it_is_answered_and_when_it_is_over(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    path = "/api/v1/namespaces/default"
    await running.client.ask("GET", f"{path}/configmaps?watch=true&timeoutSeconds=1")
    await running.client.ask("GET", f"{path}/pods/p/log", token="alice-token")
    await running.server.stop()
    found = [(e["verb"], e["stage"], e["responseStatus"]["code"]) for e in events(tmp_path / "audit.log")]
    assert found == [
        ("watch", "ResponseStarted", 200),
        ("watch", "ResponseComplete", 200),
        ("get", "ResponseStarted", 403),
        ("get", "ResponseComplete", 403),
    ]


async def test_an_event_tells_where_the_request_came_from_as_it_was_sent(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    headers = {
        "X_Forwarded_For": "192.0.2.7, nowhere, 2001:DB8::1",
        "X_Real_Ip": "198.51.100.4",
        "Audit_ID": "one-of-mine",
        "User_Agent": "a" * 1030,
    }
    answer = await running.client.ask("GET", "/no%20thing?a=%20b", **headers)
    await running.client.ask("GET", "/version", X_Forwarded_For="127.0.0.1")
    await running.server.stop()
    first, second = events(tmp_path / "audit.log")
    assert first["sourceIPs"] == ["192.0.2.7", "2001:db8::1", "198.51.100.4", "127.0.0.1"]
    assert second["sourceIPs"] == ["127.0.0.1"]
    assert first["auditID"] == answer.headers["audit-id"] == "one-of-mine"
    assert first["userAgent"] == "a" * 1024 + "...TRUNCATED"
    assert first["requestURI"] == "/no%20thing?a=%20b"


async def test_constrained_impersonation_is_told_by_its_verb(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    await running.client.ask("GET", "/version", Impersonate_User="bob")
    await running.server.stop()
    (event,) = events(tmp_path / "audit.log")
    assert event["authenticationMetadata"] == {"impersonationConstraint": "impersonate:user-info"}


@pytest.mark.parametrize(
    ("entry", "path", "matches"),
    [
        ('{group: "", resources: [pods]}', "/api/v1/namespaces/n/pods/p", True),
        ('{group: "", resources: [pods]}', "/api/v1/namespaces/n/pods/p/log", False),
        ('{group: "", resources: [pods/log]}', "/api/v1/namespaces/n/pods/p/log", True),
        ('{group: "", resources: ["pods/*"]}', "/api/v1/namespaces/n/pods/p/log", True),
        ('{group: "", resources: ["pods/*"]}', "/api/v1/namespaces/n/pods/p", True),
        ('{group: "", resources: ["*/log"]}', "/api/v1/namespaces/n/pods/p/log", True),
        ('{group: "", resources: ["*"]}', "/api/v1/namespaces/n/pods/p/log", True),
        ('{group: "", resources: ["*"]}', "/apis/apps/v1/deployments", False),
        ("{group: apps}", "/apis/apps/v1/deployments", True),
        ('{group: "", resources: [pods], resourceNames: [p]}', "/api/v1/namespaces/n/pods/p", True),
        ('{group: "", resources: [pods], resourceNames: [p]}', "/api/v1/namespaces/n/pods/q", False),
        ('{group: ""}', "/version", False),
    ],
)
async def test_what_a_rule_says_of_resources(
    start: Start, tmp_path: Path, entry: str, path: str, matches: bool
) -> None:
    policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\n"
    running = await logged(start, tmp_path, f"{policy}rules: [{{level: Metadata, resources: [{entry}]}}]\n")
    await running.client.ask("GET", path, token="alice-token")
    await running.server.stop()
    assert len(events(tmp_path / "audit.log")) == matches


async def test_the_first_rule_that_matches_decides(start: Start, tmp_path: Path) -> None:
    policy = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: [alice]}
- {level: Metadata, resources: [{group: "", resources: [configmaps]}]}
"""
    running = await logged(start, tmp_path, policy)
    await running.client.ask("GET", "/api/v1/namespaces/default/configmaps", token="alice-token")
    await running.client.ask("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}})
    await running.client.ask("GET", "/api/v1/namespaces")
    await running.server.stop()
    found = events(tmp_path / "audit.log")
    assert [(e["verb"], e["level"]) for e in found] == [("create", "Metadata")]
    assert "requestObject" not in found[0]


async def test_a_refusal_in_a_form_that_nobody_asked_for_is_logged_by_its_code(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    await running.client.ask("GET", "/api/v1/namespaces/nobody", Accept="image/png")
    await running.client.ask("GET", "/api/v1/namespaces/nobody")
    await running.server.stop()
    odd, plain = events(tmp_path / "audit.log")[-2:]
    assert (odd["responseStatus"], "responseObject" in odd) == ({"metadata": {}, "code": 406}, False)
    assert plain["responseStatus"]["reason"] == "NotFound"


async def test_the_object_is_logged_as_it_was_sent(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    sent = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    made = await running.client.ask("POST", "/api/v1/namespaces/default/services", sent)
    await running.server.stop()
    assert made.status == 201, made.body
    assert events(tmp_path / "audit.log")[-1]["requestObject"]["metadata"] == {"name": "s"}


async def test_requests_for_deprecated_resources_are_marked(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    for what in ("endpoints", "services"):
        await running.client.ask("GET", f"/api/v1/namespaces/default/{what}")
    await running.server.stop()
    told = [event["annotations"].get("k8s.io/deprecated") for event in events(tmp_path / "audit.log")[-2:]]
    assert told == ["true", None]


async def test_an_ipv4_address_is_logged_as_one(start: Start, tmp_path: Path) -> None:
    running = await logged(start, tmp_path)
    await running.client.ask("GET", "/version", X_Real_Ip="::ffff:10.1.2.3")
    await running.server.stop()
    assert events(tmp_path / "audit.log")[-1]["sourceIPs"][0] == "10.1.2.3"
