"""TokenRequest, TokenReview, SelfSubjectReview and CertificateSigningRequest over the API."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Subject
from kubegate.server.options import parse
from kubegate.server.process import Server

TOKENS = "/api/v1/namespaces/default/serviceaccounts/robot/token"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


@dataclass
class Api:
    """The administrator's way to a server in this process."""

    server: Server
    folder: Path

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The answer's body, with its status under "http" and its Warning header under "warning"."""

        def send() -> Any:
            kind = {"PATCH": "application/merge-patch+json"}.get(method, "application/json")
            pki = self.folder / "pki"
            answer = requests.request(
                method,
                self.server.url + path,
                data=json.dumps(body) if body is not None else None,
                headers={"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}},
                cert=(str(pki / "admin.crt"), str(pki / "admin.key")),
                verify=str(pki / "ca.crt"),
                timeout=10,
            )
            return {**answer.json(), "http": answer.status_code, "warning": answer.headers.get("warning", "")}

        return await asyncio.to_thread(send)

    async def make(self, path: str, body: Any) -> Any:
        found = await self.ask("POST", path, body)
        assert found["http"] == 201, found
        return found

    async def token(self, **spec: Any) -> Any:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return await self.ask("POST", TOKENS, body)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    flags = [
        "--secure-port=0",
        "--storage=memory",
        f"--data-dir={tmp_path}",
        "--service-account-max-token-expiration=24h",
        "--controllers=none",
    ]
    server = Server(parse(flags).options)
    await server.start()
    found = Api(server, tmp_path)
    await found.make("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}})
    yield found
    await server.stop()


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def pod(name: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "i"}]
    base = {"serviceAccountName": "robot", "automountServiceAccountToken": False, "containers": containers}
    return {"metadata": {"name": name}, "spec": base | spec}


async def test_a_token_lasts_as_long_as_was_asked_and_no_longer_than_is_allowed(api: Api) -> None:
    plain = await api.token()
    assert claims(plain["status"]["token"])["exp"] - claims(plain["status"]["token"])["iat"] == 3600
    long = await api.token(expirationSeconds=100_000)
    assert long["spec"]["expirationSeconds"] == 86_400
    assert "requested expiration of 100000 seconds shortened to 86400 seconds" in long["warning"]
    issued = claims(long["status"]["token"])
    assert issued["exp"] - issued["iat"] == 86_400


async def test_a_pods_token_lives_on_with_a_mark_when_it_is_not_renewed(api: Api) -> None:
    await api.make("/api/v1/namespaces/default/pods", pod("host"))
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "host"}
    found = await api.token(boundObjectRef=reference, expirationSeconds=3607)
    issued = claims(found["status"]["token"])
    assert issued["kubernetes.io"]["warnafter"] - issued["iat"] == 3607
    assert issued["exp"] - issued["iat"] == 86_400  # a year, but for the flag
    for spec in ({"audiences": ["vault"]}, {"expirationSeconds": 3600}):
        other = await api.token(**{"boundObjectRef": reference, "expirationSeconds": 3607} | spec)
        assert "warnafter" not in claims(other["status"]["token"])["kubernetes.io"]


async def test_a_pods_token_names_the_node_also_where_there_is_no_such_node(api: Api) -> None:
    await api.make("/api/v1/namespaces/default/pods", pod("host", nodeName="lost"))
    found = await api.token(boundObjectRef={"apiVersion": "v1", "kind": "Pod", "name": "host"})
    assert claims(found["status"]["token"])["kubernetes.io"]["node"] == {"name": "lost"}


async def test_another_accounts_pod_is_no_anchor(api: Api) -> None:
    await api.make("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "other"}})
    await api.make("/api/v1/namespaces/default/pods", pod("host", serviceAccountName="other"))
    found = await api.token(boundObjectRef={"apiVersion": "v1", "kind": "Pod", "name": "host"})
    text = 'cannot bind token for serviceaccount "robot" to pod running with different serviceaccount name.'
    assert (found["http"], found["message"]) == (400, text)


async def test_a_request_for_an_account_that_was_made_anew_is_a_conflict(api: Api) -> None:
    account = await api.ask("GET", TOKENS.removesuffix("/token"))
    uid = account["metadata"]["uid"]
    found = await api.ask("POST", TOKENS, {"metadata": {"uid": "older"}, "spec": {}})
    text = f"the UID in the token request (older) does not match the UID of the service account ({uid})"
    whole = f'Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "robot": {text}'
    assert (found["http"], found["message"]) == (409, whole)
    assert found["details"] == {"name": "robot", "group": "authentication.k8s.io", "kind": "TokenRequest"}
    assert (await api.ask("POST", TOKENS, {"metadata": {"uid": uid}, "spec": {}}))["http"] == 201


async def test_a_token_is_bound_to_what_can_have_such_a_name_and_is_no_table(api: Api) -> None:
    found = await api.token(boundObjectRef={"kind": "Secret", "name": "a/b"})
    assert (found["http"], found["message"]) == (400, "Name parameter invalid: \"a/b\": may not contain '/'")
    table = await api.ask("POST", TOKENS, {"spec": {}}, Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert table["http"] == 406


async def test_a_review_without_a_token_is_a_bad_request(api: Api) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}}
    found = await api.ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
    assert (found["http"], found["message"]) == (400, "token is required for TokenReview in authentication")


async def test_who_writes_too_much_space_before_a_token_is_told_and_taken_as_without_one(api: Api) -> None:
    found = await api.ask("GET", "/version", Authorization="Bearer  x")
    assert found["warning"] == ""  # a certificate is asked first
    answer = await asyncio.to_thread(
        requests.get,
        f"{api.server.url}/nothing",
        headers={"Authorization": "Bearer  x"},
        verify=str(api.folder / "pki" / "ca.crt"),
        timeout=10,
    )
    text = "the provided Authorization header contains extra space before the bearer token, and is ignored"
    assert (answer.status_code, answer.headers["warning"]) == (403, f'299 - "{text}"')
    assert answer.headers["x-content-type-options"] == "nosniff"


# ---------------------------------------------------------------------- requests for certificates
def wanted(name: str = "csr", **spec: Any) -> dict[str, Any]:
    request = certificates.request_pem(certificates.new_request(keys.generate(), Subject("jane", ("dev",))))
    base = {"request": base64.b64encode(request).decode(), "signerName": "example.org/hand", "usages": ["client auth"]}
    return {"metadata": {"name": name}, "spec": base | spec}


def condition(kind: str, **more: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "reason": "Test", "message": "by hand", **more}


def decided(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return {"status": {"conditions": list(conditions), **status}}


async def test_who_asks_is_written_down_by_the_server_alone(api: Api) -> None:
    made = await api.make(REQUESTS, wanted(username="eve", groups=["system:masters"], uid="u", extra={"a": ["b"]}))
    assert made["spec"]["username"] == "kubernetes-admin"
    assert made["spec"]["groups"] == ["system:masters", "system:authenticated"]
    assert "uid" not in made["spec"]
    assert list(made["spec"]["extra"]) == ["authentication.kubernetes.io/credential-id"]
    changed = {**made, "spec": {**made["spec"], "username": "eve", "usages": ["server auth"]}}
    del changed["http"], changed["warning"]
    again = await api.ask("PUT", f"{REQUESTS}/csr", changed)
    assert again["spec"] == made["spec"]


async def test_a_decision_is_made_by_approval_alone_and_stays(api: Api) -> None:
    await api.make(REQUESTS, wanted())
    by_status = await api.ask("PATCH", f"{REQUESTS}/csr/status", decided(condition("Approved")))
    assert (by_status["http"], by_status["details"]["causes"][0]["message"]) == (
        422,
        'Forbidden: updates may not add a condition of type "Approved"',
    )
    approved = await api.ask("PATCH", f"{REQUESTS}/csr/approval", decided(condition("Approved")))
    (kept,) = approved["status"]["conditions"]
    assert kept["lastUpdateTime"] == kept["lastTransitionTime"]
    taken_back = await api.ask("PATCH", f"{REQUESTS}/csr/approval", decided())
    assert taken_back["details"]["causes"][0]["message"] == (
        'Forbidden: updates may not remove a condition of type "Approved"'
    )
    both = await api.ask("PATCH", f"{REQUESTS}/csr/approval", decided(kept, condition("Denied")))
    assert "Approved and Denied conditions are mutually exclusive" in both["message"]
    twice = await api.ask("PATCH", f"{REQUESTS}/csr/approval", decided(kept, condition("Approved")))
    assert twice["details"]["causes"][0]["reason"] == "FieldValueDuplicate"


async def test_a_certificate_is_set_once_by_status_alone(api: Api) -> None:
    await api.make(REQUESTS, wanted())
    ca = certificates.new_authority("ca")
    first = base64.b64encode(ca.pem).decode()
    second = base64.b64encode(certificates.new_authority("other").pem).decode()
    by_approval = await api.ask("PATCH", f"{REQUESTS}/csr/approval", decided(certificate=first))
    assert "certificate" not in by_approval["status"]
    assert (await api.ask("PATCH", f"{REQUESTS}/csr/status", {"status": {"certificate": first}}))["http"] == 200
    again = await api.ask("PATCH", f"{REQUESTS}/csr/status", {"status": {"certificate": second}})
    assert again["details"]["causes"][0]["message"] == (
        "Forbidden: updates may not modify existing certificate content"
    )


async def test_certificates_may_stand_one_after_the_other(api: Api) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    await api.make(REQUESTS, wanted())
    ders = [certificates.new_authority(name).certificate.public_bytes(Encoding.DER) for name in ("a", "b")]
    body = base64.encodebytes(b"".join(ders)).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"
    status = {"status": {"certificate": base64.b64encode(pem.encode()).decode()}}
    assert (await api.ask("PATCH", f"{REQUESTS}/csr/status", status))["http"] == 200


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            'only CERTIFICATE PEM blocks are allowed, found "PRIVATE KEY"',
        ),
        (
            b"-----BEGIN CERTIFICATE-----\nA: b\n\nAAAA\n-----END CERTIFICATE-----\n",
            "no PEM block headers are permitted",
        ),
        (b"nonsense", "must contain at least one CERTIFICATE PEM block"),
    ],
)
async def test_what_is_no_certificate_is_not_shown_again(api: Api, pem: bytes, why: str) -> None:
    await api.make(REQUESTS, wanted())
    body = {"status": {"certificate": base64.b64encode(pem).decode()}}
    found = await api.ask("PATCH", f"{REQUESTS}/csr/status", body)
    assert found["details"]["causes"][0]["message"] == f'Invalid value: "<certificate data>": {why}'


def changed_request(change: str, to: bytes) -> str:
    """The usual request, some of its bytes (a regular expression) changed, as a CertificateSigningRequest has it."""
    from cryptography.hazmat.primitives.serialization import Encoding

    der = certificates.parse_request(base64.b64decode(wanted()["spec"]["request"])).public_bytes(Encoding.DER)
    changed, count = re.subn(change.encode("latin-1"), lambda _: to, der, count=1, flags=re.DOTALL)
    assert count == 1
    lines = base64.encodebytes(changed).decode()
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{lines}-----END CERTIFICATE REQUEST-----\n"
    return base64.b64encode(pem.encode()).decode()


@pytest.mark.parametrize(
    ("change", "to", "why"),
    [
        ("jane", b"john", "x509: ECDSA verification failure"),
        (r"\x03\x42\x00\x04.{64}", b"\x03\x42\x00\x04" + bytes(64), "P256 point not on curve"),
        (r"\xce\x3d\x03\x01\x07", b"\xce\x3d\x03\x01\x09", "x509: unsupported elliptic curve"),
        (r"\xce\x3d\x04\x03\x02", b"\xce\x3d\x04\x03\x09", "x509: cannot verify signature: algorithm unimplemented"),
    ],
    ids=["subject", "point", "curve", "algorithm"],
)
async def test_a_request_whose_key_did_not_sign_it_is_refused(api: Api, change: str, to: bytes, why: str) -> None:
    found = await api.ask("POST", REQUESTS, wanted(request=changed_request(change, to)))
    assert found["http"] == 422
    cause = found["details"]["causes"][0]
    assert (cause["field"], cause["message"].split('": ')[1]) == ("spec.request", why)


async def test_a_request_may_have_any_name_that_a_path_can_hold(api: Api) -> None:
    await api.make(REQUESTS, wanted("Any_Name:of.mine"))
    found = await api.ask("POST", REQUESTS, wanted("a/b"))
    assert (found["http"], found["message"]) == (400, "Name parameter invalid: \"a/b\": may not contain '/'")


async def test_a_node_lists_the_resource_slices_that_are_its_own(api: Api) -> None:
    slices = "/apis/resource.k8s.io/v1/resourceslices"
    for node in ("one", "two"):
        pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
        await api.make(slices, {"metadata": {"name": node}, "spec": {"nodeName": node, "driver": "a.b", "pool": pool}})
    as_one = {"Impersonate_User": "system:node:one", "Impersonate_Group": "system:nodes"}
    own = await api.ask("GET", f"{slices}?fieldSelector=spec.nodeName%3Done", **as_one)
    assert [found["metadata"]["name"] for found in own["items"]] == ["one"]
    assert (await api.ask("GET", f"{slices}?fieldSelector=spec.nodeName%3Dtwo", **as_one))["http"] == 403
    assert len((await api.ask("GET", f"{slices}?fieldSelector=spec.driver%3Da.b"))["items"]) == 2
