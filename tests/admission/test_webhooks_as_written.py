"""Webhooks and policies as people write them, those of the documentation among them, asked by a whole server."""

from __future__ import annotations

import asyncio
import base64
import runpy
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask
import pytest
import requests
import yaml
from werkzeug.serving import make_server

from kubegate.admission.webhooks import services
from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Subject
from kubegate.server.options import Options, UsageError
from kubegate.server.process import Server

Object = dict[str, Any]
REGISTRATION = "/apis/admissionregistration.k8s.io/v1"


EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def application() -> flask.Flask:
    """The documentation's `/label`, and what is often got wrong: `/bare` without apiVersion and kind, `/lower` with
    `patchtype`."""
    app: flask.Flask = runpy.run_path(str(EXAMPLES / "webhook" / "label.py"))["app"]
    right = app.view_functions["label"]

    @app.post("/bare")
    def bare() -> flask.Response:
        return flask.jsonify({"response": right().get_json()["response"]})

    @app.post("/lower")
    def lower() -> flask.Response:
        review = right().get_json()
        review["response"]["patchtype"] = review["response"].pop("patchType")
        return flask.jsonify(review)

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
    [configuration] = documents("webhook/configuration.yaml")
    config = configuration["webhooks"][0]["clientConfig"]
    config["caBundle"] = webhook.bundle
    config["service"]["path"] = f"/{how}"
    await client.make(f"{REGISTRATION}/mutatingwebhookconfigurations", configuration)


def documents(name: str) -> list[Object]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


async def test_the_application_labels_the_pods_of_one_namespace(client: Client, webhook: Webhook) -> None:
    await configure(client, webhook, "label")
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


async def apply(client: Client, name: str) -> None:
    for document in documents(name):
        plural = document["kind"].lower().removesuffix("y") + ("ies" if document["kind"].endswith("y") else "s")
        await client.make(f"{REGISTRATION}/{plural}", document)


def deployment(replicas: int) -> Object:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    return {"metadata": {"generateName": "d-"}, "spec": spec}


async def test_the_policy_of_the_documentation_limits_replicas(client: Client) -> None:
    await apply(client, "policies/replicas.yaml")
    await client.make("/api/v1/namespaces", {"metadata": {"name": "big", "labels": {"limits": "own"}}})
    limits = {"metadata": {"name": "limits"}, "data": {"replicas": "10"}}
    await client.make("/api/v1/namespaces/big/configmaps", limits)
    told = {}
    for namespace, replicas in (("default", 3), ("default", 4), ("big", 10), ("big", 11)):
        status, answer = await client.post(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment(replicas))
        told[namespace, replicas] = (status, (answer.get("message") or "").rpartition(": ")[2])
    assert told == {
        ("default", 3): (201, ""),
        ("default", 4): (403, "at most 3 replicas here"),
        ("big", 10): (201, ""),
        ("big", 11): (403, "at most 10 replicas here"),
    }


async def test_the_policy_of_the_documentation_adds_a_proxy(client: Client) -> None:
    await apply(client, "policies/sidecar.yaml")
    await client.make("/api/v1/namespaces", {"metadata": {"name": "meshed", "labels": {"mesh": "on"}}})
    status, pod = await client.pod("meshed")
    [proxy] = pod["spec"]["initContainers"]
    assert (status, proxy["image"], proxy["imagePullPolicy"]) == (201, "mesh/proxy:1", "IfNotPresent")
    assert pod["metadata"]["annotations"] == {"mesh/by": "admin"}
    _, pod = await client.pod("default")
    assert "initContainers" not in pod["spec"]


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
