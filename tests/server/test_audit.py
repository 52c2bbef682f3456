"""The audit log: by policy, with who was impersonated, what was decided and why, and never a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from server_client import Start

from kubegate.server.audit_policy import read_policy
from kubegate.server.audit_sinks import LogFile
from kubegate.server.options import UsageError

EVERYTHING = (
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: RequestResponse}]\n"
)


def events(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


async def logged(start: Start, tmp_path: Path, policy: str = EVERYTHING) -> Any:
    (tmp_path / "policy.yaml").write_text(policy)
    return await start(
        f"--audit-policy-file={tmp_path / 'policy.yaml'}",
        f"--audit-log-path={tmp_path / 'audit.log'}",
        "--controllers=none",
    )


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
    text = (tmp_path / "audit.log").read_text()
    assert "serviceaccounts" in text and "secrets" in text
    for secret_text in ("hunter2", "aHVudGVyMi1odW50ZXIy", "bob-token", "admin-token", token, token.split(".")[2]):
        assert secret_text not in text


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


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [", "not YAML"),
        ("kind: Policy\napiVersion: v1\nrules: []\n", "apiVersion"),
        ("kind: Policy\napiVersion: audit.k8s.io/v1\n", "rules"),
        ("kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: Loud}]\n", r"rules\[0\].level"),
        (
            "kind: Policy\napiVersion: audit.k8s.io/v1\nrules: [{level: None, omitStages: [x]}]\n",
            r"rules\[0\].omitStages",
        ),
    ],
)
def test_a_bad_policy_is_refused_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(UsageError, match=place):
        read_policy(tmp_path / "policy.yaml")


def test_the_log_is_rotated_by_size_and_old_files_go(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = LogFile(str(path), max_megabytes=1, max_backups=2)
    line = b'{"x":"' + b"y" * 600_000 + b'"}'
    for _ in range(8):
        log(line)
    log.close()
    assert log.dropped == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.glob("audit-*.log"))) == 2


def test_several_processes_write_whole_lines_to_one_log_and_rotate_it_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    logs = [LogFile(str(path), max_megabytes=1, lock=tmp_path / "lock") for _ in range(3)]
    for number in range(400):
        for name, log in enumerate(logs):
            log(b'{"line": "%d-%d", "filling": "%s"}' % (name, number, b"x" * 3000))
    for log in logs:
        log.close()
        assert log.dropped == 0
    files = [path, *tmp_path.glob("audit-*.log")]
    lines = [json.loads(line)["line"] for file in files for line in file.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{name}-{number}" for name in range(3) for number in range(400))
    assert len(files) > 2
