"""The webhook server: reviews a second of each kind, beside the bare ASGI application and the Flask script of blogs."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.harness import Figure, Process, _end, _wait, bare, free_port, requests_per_second
from kubegate.webhooks.certificates import ensure

POLICIES = """
from kubegate import Gate, User

gate = Gate()

@gate.mutate("pods")
def label(pod):
    pod["metadata"].setdefault("labels", {})["mutate"] = "admission-test"

@gate.mutate("pods")
async def label_on_the_loop(pod):
    pod["metadata"].setdefault("labels", {})["mutate"] = "admission-test"

@gate.authenticate
async def known(token):
    return User("jane") if token == "jane-token" else None

@gate.authorize
async def all_of_it(attributes):
    return True

@gate.images
async def trusted(image):
    return True
"""
FLASK = """
import base64, json, sys
from flask import Flask, jsonify, request

app = Flask(__name__)

@app.route("/mutate/label", methods=["POST"])
def mutate():
    uid = request.json["request"]["uid"]
    patch = [{"op": "add", "path": "/metadata/labels", "value": {"mutate": "admission-test"}}]
    patch = base64.b64encode(json.dumps(patch).encode()).decode()
    response = {"uid": uid, "allowed": True, "patchType": "JSONPatch", "patch": patch}
    return jsonify({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})

@app.route("/readyz")
def ready():
    return "ok"

if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]), ssl_context=(sys.argv[2], sys.argv[3]))
"""
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "default"},
    "spec": {"containers": [{"name": "c", "image": "nginx:1", "resources": {"limits": {"cpu": "1"}}}]},
}
_REQUEST = {
    "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
    "operation": "CREATE",
    "resource": {"group": "", "version": "v1", "resource": "pods"},
    "namespace": "default",
    "userInfo": {"username": "jane", "groups": ["system:authenticated"]},
    "object": POD,
}
_ADMISSION = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": _REQUEST}
_ACCESS = {"user": "jane", "groups": ["dev"], "resourceAttributes": {"verb": "get", "resource": "pods"}}
REVIEWS = (
    ("/mutate/label", "a mutating policy", _ADMISSION),
    ("/mutate/label-on-the-loop", "a mutating policy, async", _ADMISSION),
    (
        "/authenticate",
        "TokenReview",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "jane-token"}},
    ),
    (
        "/authorize",
        "SubjectAccessReview",
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": _ACCESS},
    ),
    (
        "/images",
        "ImageReview",
        {
            "apiVersion": "imagepolicy.k8s.io/v1alpha1",
            "kind": "ImageReview",
            "spec": {"containers": [{"image": "nginx:1"}]},
        },
    ),
)
_CONNECTIONS = 32


@contextlib.contextmanager
def _running(command: list[str], url: str, folder: Path) -> Iterator[Process]:
    with (folder / "log").open("wb") as log:
        popen = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            process = Process(url, folder / "certs/ca.crt", popen)
            _wait(process, "/readyz", folder / "log")
            yield process
        finally:
            _end(popen)


@contextlib.contextmanager
def _webhook(folder: Path, workers: int) -> Iterator[Process]:
    port = free_port()
    command = [
        sys.executable, "-m", "kubegate", "webhook", str(folder / "policies.py"), f"--secure-port={port}",
        "--bind-address=127.0.0.1", f"--cert-dir={folder / 'certs'}", f"--workers={workers}",
    ]  # fmt: skip
    with _running(command, f"https://127.0.0.1:{port}", folder) as process:
        yield process


@contextlib.contextmanager
def _flask(folder: Path, *, gunicorn: bool) -> Iterator[Process]:
    port, certs = free_port(), folder / "certs"
    pair = [str(certs / "tls.crt"), str(certs / "tls.key")]
    command = [sys.executable, str(folder / "flask_webhook.py"), str(port), *pair]
    if gunicorn:
        command = [
            sys.executable, "-m", "gunicorn", "--workers=2", f"--bind=127.0.0.1:{port}", f"--certfile={pair[0]}",
            f"--keyfile={pair[1]}", f"--chdir={folder}", "flask_webhook:app",
        ]  # fmt: skip
    with _running(command, f"https://127.0.0.1:{port}", folder) as process:
        yield process


def run(quick: bool) -> Iterator[Figure]:
    """Reviews a second over TLS with keep-alive."""
    seconds = 2.0 if quick else 6.0

    def load(process: Process, path: str, review: object) -> float:
        body = json.dumps(review)
        return requests_per_second(process, path, seconds=seconds, connections=_CONNECTIONS, method="POST", body=body)

    with tempfile.TemporaryDirectory(prefix="kubegate-bench-") as name:
        folder = Path(name)
        ensure(folder / "certs", ["localhost", "127.0.0.1"])
        (folder / "policies.py").write_text(POLICIES)
        (folder / "flask_webhook.py").write_text(FLASK)
        for suffix in ("crt", "key"):
            (folder / "certs" / f"apiserver.{suffix}").write_bytes((folder / "certs" / f"tls.{suffix}").read_bytes())
        with bare(300, folder / "certs") as process:
            most = load(process, "/", _ADMISSION)
        with _webhook(folder, 1) as process:
            for path, what, review in REVIEWS:
                yield Figure(f"webhook server: {what}", load(process, path, review), "/s", most, "one process")
        with _webhook(folder, 2) as process:
            path, what, review = REVIEWS[0]
            yield Figure(f"webhook server: {what}", load(process, path, review), "/s", most, "two workers")
        if importlib.util.find_spec("flask") is not None:
            with _flask(folder, gunicorn=False) as process:
                yield Figure("the Flask script of blogs", load(process, "/mutate/label", _ADMISSION), "/s", most)
            if importlib.util.find_spec("gunicorn") is not None:
                with _flask(folder, gunicorn=True) as process:
                    figure = load(process, "/mutate/label", _ADMISSION)
                    yield Figure("the Flask script, gunicorn with two workers", figure, "/s", most)
