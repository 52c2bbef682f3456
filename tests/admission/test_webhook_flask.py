"""A mutating webhook as people write them, a small Flask application, asked by a whole server."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask
import jsonpatch
import pytest
import requests
from werkzeug.serving import make_server

from kubegate.admission.webhooks import services
from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Subject
from kubegate.server.options import Options, UsageError
from kubegate.server.process import Server

Object = dict[str, Any]


def application() -> flask.Flask:
    """`/right` answers as it should; `/bare` without apiVersion and kind; `/lower` writes `patchtype`."""
    app = flask.Flask("webhook")

    def patched(review: Object) -> str:
        old = review["request"]["object"]
        new = {**old, "metadata": {**old["metadata"], "labels": {**old["metadata"].get("labels", {}), "mutate": "yes"}}}
        return base64.b64encode(jsonpatch.make_patch(old, new).to_string().encode()).decode()

    @app.post("/<how>")
    def mutate(how: str) -> flask.Response:
        review = flask.request.get_json()
        response: Object = {"uid": review["request"]["uid"], "allowed": True, "patch": patched(review)}
        response["patchtype" if how == "lower" else "patchType"] = "JSONPatch"
        envelope = {} if how == "bare" else {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        return flask.jsonify({**envelope, "response": response})

    return app


@dataclass
class Webhook:
    port: int
    bundle: str


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    """The application in a thread, over TLS, as the service `label.hooks`."""
    authority, key = certificates.new_authority("webhook-ca"), keys.generate()
    certificate = certificates.issue(
        authority, key.public_key(), Subject("label"), usages=certificates.SERVER, hosts=("label.hooks.svc",)
    )
    certificates.save_pair(certificate, key, tmp_path / "webhook")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "webhook.crt", tmp_path / "webhook.key")
    server = make_server("127.0.0.1", 0, application(), threaded=True, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Webhook(server.port, base64.b64encode(authority.pem).decode())
    server.shutdown()
    thread.join()
    server.server_close()


class Client:
    """Asks a server as its administrator."""

    def __init__(self, server: Server) -> None:
        assert server.pki is not None
        self._url, self._ca = server.url, str(server.pki.ca_certificate)

    async def post(self, path: str, body: Object) -> tuple[int, Object]:
        headers = {"Authorization": "Bearer admin-token"}

        def ask() -> tuple[int, Object]:
            answer = requests.post(self._url + path, json=body, headers=headers, verify=self._ca, timeout=30)
            return answer.status_code, answer.json()

        return await asyncio.to_thread(ask)

    async def make(self, path: str, body: Object) -> None:
        status, answer = await self.post(path, body)
        assert status == 201, answer

    async def pod(self, namespace: str) -> tuple[int, Object]:
        pod = {"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        return await self.post(f"/api/v1/namespaces/{namespace}/pods", pod)


@pytest.fixture
async def client(tmp_path: Path, webhook: Webhook) -> AsyncIterator[Client]:
    tokens = tmp_path / "tokens.csv"
    tokens.write_text('admin-token,admin,u-1,"system:masters"\n')
    server = Server(
        Options(
            secure_port=0,
            data_dir=str(tmp_path),
            storage="memory",
            token_auth_file=str(tokens),
            disable_admission_plugins=["ServiceAccount"],
            service_resolver=[f"label.hooks.svc=127.0.0.1:{webhook.port}"],
        )
    )
    await server.start()
    yield Client(server)
    await server.stop()


async def configure(client: Client, webhook: Webhook, how: str) -> None:
    """The webhook for pods in namespaces that are labelled for it, of which `watched` is one."""
    await client.make("/api/v1/namespaces", {"metadata": {"name": "watched", "labels": {"mutate": "on"}}})
    hook = {
        "name": "label.example.com",
        "clientConfig": {
            "service": {"name": "label", "namespace": "hooks", "path": f"/{how}"},
            "caBundle": webhook.bundle,
        },
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"mutate": "on"}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    await client.make(path, {"metadata": {"name": "label"}, "webhooks": [hook]})


async def test_the_application_labels_the_pods_of_one_namespace(client: Client, webhook: Webhook) -> None:
    await configure(client, webhook, "right")
    status, pod = await client.pod("watched")
    assert (status, pod["metadata"]["labels"]) == (201, {"mutate": "yes"})
    status, pod = await client.pod("default")
    assert (status, pod["metadata"].get("labels")) == (201, None)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("bare", "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="),
        ("lower", "webhook returned response.patch but not response.patchType"),
    ],
)
async def test_an_answer_that_lacks_something_is_told_what(
    client: Client, webhook: Webhook, how: str, told: str
) -> None:
    await configure(client, webhook, how)
    status, answer = await client.pod("watched")
    assert (status, answer["reason"]) == (500, "InternalError")
    assert answer["message"] == (
        'Internal error occurred: failed calling webhook "label.example.com": '
        f"received invalid webhook response: {told}"
    )
    assert (await client.pod("default"))[0] == 201


def test_addresses_of_services_are_read_from_flags() -> None:
    assert services.parse(["a.b.svc=127.0.0.1:80", "c.d.svc=[::1]:443"]) == {
        "a.b.svc": ("127.0.0.1", 80),
        "c.d.svc": ("::1", 443),
    }


@pytest.mark.parametrize("entry", ["a.b.svc", "a.b=h:1", "a.b.svc=h", "a.b.svc=:1", "a.b.svc=h:x"])
async def test_what_is_no_address_of_a_service_keeps_the_server_from_starting(entry: str, tmp_path: Path) -> None:
    server = Server(Options(secure_port=0, data_dir=str(tmp_path), storage="memory", service_resolver=[entry]))
    with pytest.raises(UsageError, match=r"is not NAME\.NAMESPACE\.svc=HOST:PORT"):
        await server.start()
