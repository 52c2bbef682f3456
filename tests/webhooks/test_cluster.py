"""A policy file served by `kubegate webhook` and registered by `kubegate manifests`, with a cluster of our own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kubegate.testing.running import ApiError, Kubegate

_ROOT = Path(__file__).parents[2]
_EXAMPLE = _ROOT / "docs" / "examples" / "webhook" / "policies.py"
_TOOLS = (_ROOT / ".tools" / "kubectl-1.36", Path(shutil.which("kubectl") or "/nowhere"))
_KUBECTL = next((path for path in _TOOLS if path.exists()), None)
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}


def _kubegate(*words: str) -> str:
    return subprocess.run([sys.executable, "-m", "kubegate", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The server as a process with two workers: its URL and the folder of its certificates."""
    certs = tmp_path_factory.mktemp("certs")
    command = [sys.executable, "-m", "kubegate", "webhook", str(_EXAMPLE), "--secure-port=0", "--workers=2"]
    command += ["--bind-address=127.0.0.1", f"--cert-dir={certs}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    url = next(line.split()[-1] for line in process.stderr if "serves on" in line)
    yield url, certs
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0, "it ends in good order"


@pytest.mark.skipif(_KUBECTL is None, reason="there is no kubectl")
def test_pods_of_one_namespace_are_changed(kubegate: Kubegate, webhook: tuple[str, Path], tmp_path: Path) -> None:
    url, certs = webhook
    manifests = _kubegate("manifests", str(_EXAMPLE), f"--cert-dir={certs}", f"--url={url}")
    _apply(kubegate, manifests)
    kubegate.create("/api/v1/namespaces", {"metadata": {"name": "kkj-ns"}})
    for namespace, labels in (("kkj-ns", {"mutate": "admission-test"}), ("default", None)):
        kubegate.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "runner"}})
        pod = {**POD, "spec": {**POD["spec"], "serviceAccountName": "runner"}}  # type: ignore[dict-item]
        made = kubegate.create(f"/api/v1/namespaces/{namespace}/pods", pod)
        assert made["metadata"].get("labels") == labels
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:latest"}]}}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    with pytest.raises(ApiError, match=r'webhook "no-latest\.webhook\.default" denied the request: container c'):
        kubegate.create("/apis/apps/v1/namespaces/default/deployments", deployment)


@pytest.mark.skipif(_KUBECTL is None, reason="there is no kubectl")
def test_all_that_runs_in_a_cluster_is_applied(kubegate: Kubegate, tmp_path: Path) -> None:
    manifests = _kubegate("manifests", str(_EXAMPLE), f"--cert-dir={tmp_path}", "--service=webhook.default")
    told = _apply(kubegate, manifests)
    for name in ("deployment.apps/webhook", "secret/webhook-tls", "service/webhook", "role.rbac", "serviceaccount/"):
        assert name in told
    deployment = kubegate.get("/apis/apps/v1/namespaces/default/deployments/webhook")
    assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    again = _apply(kubegate, manifests)
    assert "configured" not in again and "unchanged" in again


def test_the_token_kubeconfig_is_taken_by_an_api_server(
    webhook: tuple[str, Path], tmp_path: Path, kubegate_pki: Path
) -> None:
    url, certs = webhook
    words = ("manifests", str(_EXAMPLE), f"--cert-dir={certs}", f"--url={url}", "--only=authentication")
    (tmp_path / "webhook.kubeconfig").write_text(_kubegate(*words))
    flags = (
        f"--authentication-token-webhook-config-file={tmp_path / 'webhook.kubeconfig'}",
        "--authentication-token-webhook-version=v1",
    )
    with Kubegate(tmp_path / "server", *flags, pki=kubegate_pki) as server:
        review = {"spec": {"token": "example-token-of-jane"}}
        status = server.create("/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert status["user"] == {"username": "jane", "groups": ["dev", "system:authenticated"]}


def test_cert_manager_makes_the_secret_and_the_ca_bundle_where_an_issuer_is_named(tmp_path: Path) -> None:
    text = _kubegate("manifests", str(_EXAMPLE), f"--cert-dir={tmp_path}", "--cert-manager-issuer=ClusterIssuer/ours")
    found = {each["kind"]: each for each in yaml.safe_load_all(text)}
    assert "Secret" not in found
    assert found["Certificate"]["spec"]["issuerRef"]["kind"] == "ClusterIssuer"
    configuration = found["MutatingWebhookConfiguration"]
    assert configuration["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": "default/webhook-tls"}
    assert "caBundle" not in configuration["webhooks"][0]["clientConfig"]
    assert configuration["webhooks"][0]["namespaceSelector"] == {
        "matchLabels": {"kubernetes.io/metadata.name": "kkj-ns"}
    }


def test_the_dockerfile_runs_as_nobody_in_particular(tmp_path: Path) -> None:
    assert "USER 65532:65532" in _kubegate("manifests", str(_EXAMPLE), "--dockerfile")


def test_the_examples_beside_the_policies_are_run(tmp_path: Path) -> None:
    assert "9 examples, 0 failed" in _kubegate("test", str(_EXAMPLE))
    (tmp_path / "wrong.yaml").write_text("token: nobody\nexpect: {user: {username: jane}}\n")
    command = [sys.executable, "-m", "kubegate", "test", str(_EXAMPLE), str(tmp_path / "wrong.yaml")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 1
    assert "FAILED  wrong.yaml:1" in found.stdout


def _apply(server: Kubegate, manifests: str) -> str:
    """`kubectl apply -f -`."""
    command = [str(_KUBECTL), f"--kubeconfig={server.kubeconfig}", "apply", "-f", "-"]
    environment = {**os.environ, "HOME": str(server.folder)}
    found = subprocess.run(command, input=manifests, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    return found.stdout
