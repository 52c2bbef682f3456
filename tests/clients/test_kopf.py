"""An operator written with kopf runs against this server: it watches, patches, keeps a finalizer and posts events."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

kopf = pytest.importorskip("kopf", reason="no kopf: pip install kopf")
kubernetes = pytest.importorskip("kubernetes", reason="no Python client: pip install kubernetes")

GROUP, VERSION, PLURAL = "tests.example.org", "v1", "greetings"
SCHEMA = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{PLURAL}.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "Greeting", "plural": PLURAL, "singular": "greeting"},
        "versions": [
            {
                "name": VERSION,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {"type": "object", "properties": {"spec": SCHEMA, "status": SCHEMA}},
                },
            }
        ],
    },
}
OPERATOR = f"""
import kopf

@kopf.on.create("{GROUP}", "{VERSION}", "{PLURAL}")
def created(spec, body, **_):
    kopf.info(body, reason="Greeted", message="hello " + spec["whom"])
    return {{"said": "hello " + spec["whom"]}}

@kopf.on.update("{GROUP}", "{VERSION}", "{PLURAL}", field="spec.whom")
def changed(new, patch, **_):
    patch.status["changed"] = "hello " + new

@kopf.on.delete("{GROUP}", "{VERSION}", "{PLURAL}")
def deleted(**_):
    pass
"""


@contextlib.contextmanager
def server(folder: Path) -> Iterator[Path]:
    """A running server; its administrator's kubeconfig."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "kubegate",
        "serve",
        f"--secure-port={port}",
        f"--data-dir={folder}",
        "--storage=memory",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            assert any(line.startswith("kubegate serves on ") for line in process.stdout)
            yield folder / "admin.kubeconfig"
        finally:
            process.terminate()


def until(what: str, found: Any) -> Any:
    """The first answer of `found()` that is something, asked for as long as an operator may take."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(kubernetes.client.ApiException):
            if answer := found():
                return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen")


def test_a_kopf_operator_sees_creates_changes_and_deletes(tmp_path: Path) -> None:
    (tmp_path / "operator.py").write_text(OPERATOR)
    with server(tmp_path / "state") as kubeconfig:
        client = kubernetes.config.new_client_from_config(str(kubeconfig))
        greetings = kubernetes.client.CustomObjectsApi(client)
        place = {"group": GROUP, "version": VERSION, "namespace": "default", "plural": PLURAL}
        kubernetes.client.ApiextensionsV1Api(client).create_custom_resource_definition(DEFINITION)
        until("serving the resource", lambda: greetings.list_namespaced_custom_object(**place))
        words = [
            sys.executable,
            "-m",
            "kopf",
            "run",
            "--standalone",
            "--namespace=default",
            str(tmp_path / "operator.py"),
        ]
        environment = {"KUBECONFIG": str(kubeconfig), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        with (tmp_path / "log").open("w") as log:
            operator = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        try:
            body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Greeting", "metadata": {"name": "one"}}
            greetings.create_namespaced_custom_object(**place, body={**body, "spec": {"whom": "world"}})

            def one() -> Any:
                return greetings.get_namespaced_custom_object(**place, name="one")

            said = until("the create handler", lambda: one().get("status", {}).get("created"))
            assert said == {"said": "hello world"}
            assert one()["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
            greetings.patch_namespaced_custom_object(**place, name="one", body={"spec": {"whom": "moon"}})
            assert until("the update handler", lambda: one().get("status", {}).get("changed")) == "hello moon"
            events = kubernetes.client.CoreV1Api(client)
            found = until(
                "the event",
                lambda: [e for e in events.list_namespaced_event("default").items if e.reason == "Greeted"],
            )
            assert found[0].message == "hello world"
            greetings.delete_namespaced_custom_object(**place, name="one")
            until("the end", lambda: not greetings.list_namespaced_custom_object(**place)["items"])
            operator.terminate()
            assert operator.wait(10) == 0, (tmp_path / "log").read_text()[-2000:]
        finally:
            operator.kill()
            operator.wait()
            client.close()
