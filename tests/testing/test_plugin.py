"""The pytest plugin, as somebody who wrote policies uses it."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kubegate import Deny, Gate, User
from kubegate.testing.running import ApiError, Kubegate
from kubegate.webhooks.client import GateClient

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
POLICIES = """
from kubegate import Deny, Gate, User
gate = Gate()

@gate.mutate("configmaps", namespaces={"kubernetes.io/metadata.name": "default"})
def stamp(obj):
    obj.setdefault("data", {})["stamp"] = "1"

@gate.validate("configmaps")
def no_bad(obj, review):
    if "bad" in obj.get("data", {}):
        raise Deny("bad data", code=422)
    review.warn("seen")

@gate.validate("secrets")
def broken(obj):
    return obj["data"]["there is none"]

@gate.images
def ours(image):
    return image.startswith("ours/")

@gate.authenticate
def known(token):
    return User("jane", groups=["dev"]) if token == "jane-token" else None

@gate.authorize
def vault(attributes):
    return False if attributes.namespace == "vault" else None
"""


@pytest.fixture
def gate_policies() -> Gate:
    gate = Gate()

    @gate.mutate("pods")
    async def label(pod: dict) -> dict:
        return {**pod, "metadata": {**pod["metadata"], "labels": {"a": "b"}}}

    @gate.validate("pods", operations=["DELETE"])
    def stays(pod: dict) -> None:
        raise Deny(f"{pod['metadata']['name']} stays")

    @gate.authenticate
    def known(token: str) -> User | None:
        return User("jane") if token == "t" else None

    return gate


def test_a_gate_is_asked_without_a_server(gate_client: GateClient) -> None:
    found = gate_client.admit(POD)
    assert found.allowed and found.object is not None
    assert found.object["metadata"]["labels"] == {"a": "b"}
    assert "labels" not in POD["metadata"], "the test's own object is left as it is"
    gone = gate_client.admit(POD, operation="DELETE")
    assert (gone.allowed, gone.message, gone.code) == (False, "p stays", 403)


async def test_it_may_be_asked_from_an_asynchronous_test(gate_client: GateClient) -> None:
    assert gate_client.authenticate("t") == {"username": "jane"}
    assert gate_client.authenticate("u") is None


def test_a_whole_server_answers_its_administrator(kubegate: Kubegate) -> None:
    made = kubegate.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "a"}, "data": {"k": "v"}})
    assert made["data"] == {"k": "v"}
    assert kubegate.kubeconfig.exists()
    with pytest.raises(ApiError, match="not found"):
        kubegate.get("/api/v1/namespaces/default/configmaps/b")


def test_each_test_has_a_server_of_its_own(kubegate: Kubegate) -> None:
    names = [each["metadata"]["name"] for each in kubegate.get("/api/v1/namespaces/default/configmaps")["items"]]
    assert "a" not in names


def test_nothing_is_left_running(tmp_path: Path, kubegate_pki: Path) -> None:
    before = set(threading.enumerate())
    with Kubegate(tmp_path, pki=kubegate_pki) as server:
        server.get("/version")
        running = set(threading.enumerate()) - before
        address = urlsplit(server.url)
    assert running
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), 5)


def test_a_server_is_ready_within_200_ms(tmp_path: Path, kubegate: Kubegate, kubegate_pki: Path) -> None:
    """Modules and keys are there by then. In CPU time, because machines that run tests are busy."""
    took = []
    for number in range(3):
        start = time.process_time()
        with Kubegate(tmp_path / f"another-{number}", pki=kubegate_pki):
            took.append(time.process_time() - start)
    assert min(took) < 0.2


class TestGateInProcess:
    """`kubegate serve --gate policies.py`."""

    @pytest.fixture
    def served(self, tmp_path: Path, kubegate_pki: Path):
        (tmp_path / "policies.py").write_text(POLICIES)
        with Kubegate(tmp_path / "server", f"--gate={tmp_path / 'policies.py'}", pki=kubegate_pki) as server:
            yield server

    def test_objects_are_changed_and_refused(self, served: Kubegate) -> None:
        path = "/api/v1/namespaces/default/configmaps"
        assert served.create(path, {"metadata": {"name": "a"}})["data"] == {"stamp": "1"}
        elsewhere = served.create("/api/v1/namespaces/kube-system/configmaps", {"metadata": {"name": "a"}})
        assert "data" not in elsewhere, "its namespace selector speaks of another namespace"
        with pytest.raises(ApiError, match='admission webhook "no-bad" denied the request: bad data') as refused:
            served.create(path, {"metadata": {"name": "b"}, "data": {"bad": "1"}})
        assert refused.value.code == 422

    def test_a_policy_that_raises_refuses_under_a_reference(self, served: Kubegate) -> None:
        with pytest.raises(ApiError, match=r"policy broken failed; .* reference [0-9a-f]{12}$") as refused:
            served.create("/api/v1/namespaces/default/secrets", {"metadata": {"name": "a"}})
        assert refused.value.code == 500
        assert "KeyError" not in str(refused.value)

    def test_images_are_asked_about(self, served: Kubegate) -> None:
        with pytest.raises(ApiError, match="image i is refused by policy ours"):
            served.create("/api/v1/namespaces/default/pods", POD)

    def test_tokens_and_requests_are_decided(self, served: Kubegate) -> None:
        review = {"spec": {"token": "jane-token"}}
        status = served.create("/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
        assert status["user"] == {"username": "jane", "groups": ["dev", "system:authenticated"]}
        attributes = {"verb": "get", "resource": "pods", "namespace": "vault"}
        review = {"spec": {"user": "jane", "resourceAttributes": attributes}}
        status = served.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]
        assert status == {"allowed": False, "denied": True, "reason": "denied by policy vault"}


def test_a_broken_policy_file_keeps_the_server_from_starting(tmp_path: Path, kubegate_pki: Path) -> None:
    from kubegate.server.options import UsageError

    (tmp_path / "policies.py").write_text("gate = nothing\n")
    server = Kubegate(tmp_path / "server", f"--gate={tmp_path / 'policies.py'}", pki=kubegate_pki)
    with pytest.raises(UsageError, match=r"--gate: .*policies.py:1: NameError"):
        server.start()
