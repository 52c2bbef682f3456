"""No secret that clients send is written down by the server: not in its log, its audit events, nor its answers."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import requests

from kubegate.authentication.signing import BoundObjects
from kubegate.server.options import parse
from kubegate.server.process import Server

POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n"


@pytest.fixture
async def server(tmp_path: Path) -> Any:
    (tmp_path / "tokens.csv").write_text("known-secret-token,bob,u-bob\n")
    (tmp_path / "passwords.csv").write_text("known-secret-password,ben,u-ben\n")
    (tmp_path / "policy.yaml").write_text(POLICY)
    flags = [
        "--secure-port=0",
        "--storage=memory",
        f"--data-dir={tmp_path}",
        f"--token-auth-file={tmp_path}/tokens.csv",
        f"--basic-auth-file={tmp_path}/passwords.csv",
        "--enable-bootstrap-token-auth=true",
        f"--audit-policy-file={tmp_path}/policy.yaml",
        f"--audit-log-path={tmp_path}/audit.log",
        "--v=9",
    ]
    found = Server(parse(flags).options)
    await found.start()
    yield found
    await found.stop()


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


async def test_no_secret_is_written_down(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """CVE-2019-11250, 2020-8563, 2020-8564, 2020-8565 and 2020-8566: tokens and passwords in logs."""
    caplog.set_level(logging.DEBUG)
    account = {"metadata": {"namespace": "default", "name": "robot", "uid": "u"}}
    signer = server._authentication.signer
    assert signer is not None
    audiences, now = server._authentication.api_audiences, server.clock.now()
    bound = signer.bound(account, BoundObjects(), audiences=audiences, now=now, seconds=600)
    expired = signer.bound(account, BoundObjects(), audiences=audiences, now=now - 9000, seconds=600)
    secrets = {
        "known-secret-token": "Bearer known-secret-token",
        "unknown-secret-token": "Bearer unknown-secret-token",
        "known-secret-password": basic("ben:known-secret-password"),
        "wrong-secret-password": basic("ben:wrong-secret-password"),
        "abcdef.0123456789abcdef": "Bearer abcdef.0123456789abcdef",
        bound: f"Bearer {bound}",
        expired: f"Bearer {expired}",
        expired[:-3] + "AAA": f"Bearer {expired[:-3]}AAA",
    }

    def ask(authorization: str) -> str:
        answers = [
            requests.get(f"{server.url}/api/v1/pods", headers={"Authorization": authorization}, verify=ca, timeout=10),
            requests.post(f"{server.url}/nothing", headers={"Authorization": authorization}, verify=ca, timeout=10),
        ]
        return "".join(answer.text + json.dumps(dict(answer.headers)) for answer in answers)

    ca = str(tmp_path / "pki" / "ca.crt")
    told = [await asyncio.to_thread(ask, authorization) for authorization in secrets.values()]
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": expired}}

    def ask_review() -> dict[str, Any]:
        pair = (str(tmp_path / "pki" / "admin.crt"), str(tmp_path / "pki" / "admin.key"))
        url = f"{server.url}/apis/authentication.k8s.io/v1/tokenreviews"
        found: dict[str, Any] = requests.post(url, json=review, cert=pair, verify=ca, timeout=10).json()
        return found

    def ask_token() -> str:
        """A token that the server itself gives."""
        pair = (str(tmp_path / "pki" / "admin.crt"), str(tmp_path / "pki" / "admin.key"))
        accounts = f"{server.url}/api/v1/namespaces/default/serviceaccounts"
        body = {"metadata": {"name": "given"}}
        assert requests.post(accounts, json=body, cert=pair, verify=ca, timeout=10).status_code == 201
        given = requests.post(f"{accounts}/given/token", json={"spec": {}}, cert=pair, verify=ca, timeout=10)
        return str(given.json()["status"]["token"])

    answer = await asyncio.to_thread(ask_review)
    assert answer["status"]["error"]
    given = await asyncio.to_thread(ask_token)
    await server.stop()  # the audit log is whole then
    audited = (tmp_path / "audit.log").read_text()
    written = {"answers": "".join(told) + json.dumps(answer["status"]), "log": caplog.text, "audit": audited}
    assert '"username":"bob"' in audited.replace(" ", "")
    events = [event for event in map(json.loads, audited.splitlines()) if "requestObject" in event]
    shown = {event["objectRef"]["resource"]: event for event in events}
    assert shown["tokenreviews"]["requestObject"]["spec"]["token"] == "<redacted>"
    assert shown["serviceaccounts"]["responseObject"]["status"]["token"] == "<redacted>"
    for place, text in written.items():
        for secret in (*secrets, given):
            assert secret not in text, f"a secret is in the {place}"
            assert secret.rpartition(".")[2] not in text or "." not in secret, f"a signature is in the {place}"
