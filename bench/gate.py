"""The webhook server: reviews a second and p99 of each kind, over TLS with keep-alive.

Beside it the bare ASGI application, kopf's admission server, and the Flask script of blogs on its own server and on
gunicorn. The load generator is on the same machine and takes its part of the cores: so the CPU time that a review
costs the server is told as well, all its processes together.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

from bench.harness import ROOT, Figure, Load, Process, _end, bare, free_port, measure
from kubegate.webhooks.certificates import ensure

POLICIES = """
from kubegate import Deny, Gate, User

gate = Gate()

@gate.mutate("pods")
def label(pod):
    pod["metadata"].setdefault("labels", {})["mutate"] = "admission-test"

@gate.mutate("pods")
async def label_on_the_loop(pod):
    pod["metadata"].setdefault("labels", {})["mutate"] = "admission-test"

@gate.validate("pods")
def no_latest(pod):
    for container in pod["spec"]["containers"]:
        if container["image"].endswith(":latest"):
            raise Deny("an image needs a version")

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
    ("/mutate/label", "AdmissionReview, mutate", _ADMISSION),
    ("/mutate/label-on-the-loop", "AdmissionReview, mutate, async", _ADMISSION),
    ("/validate/no-latest", "AdmissionReview, validate", _ADMISSION),
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
def _running(command: list[str], port: int, folder: Path, says: str = "") -> Iterator[Process]:
    """A server that answers, and whose log has what it `says` when all its workers do."""
    with (folder / "log").open("wb") as log:
        popen = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT)
        try:
            process = Process(f"https://127.0.0.1:{port}", folder / "certs/ca.crt", popen)
            _wait_for(process, folder / "log", says)
            yield process
        finally:
            _end(popen)


def _wait_for(process: Process, log: Path, says: str) -> None:
    deadline = time.monotonic() + 60
    while process.popen.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            try:
                process.request("GET", "/readyz")
            except urllib.error.HTTPError as error:  # kopf's has no page for this
                error.close()
            if says in log.read_text():
                return
        time.sleep(0.02)
    raise RuntimeError(f"the server is not there: {log.read_text()[-2000:]}")


def _webhook(folder: Path, workers: int) -> contextlib.AbstractContextManager[Process]:
    port = free_port()
    command = [
        sys.executable, "-m", "kubegate", "webhook", str(folder / "policies.py"), f"--secure-port={port}",
        "--bind-address=127.0.0.1", f"--cert-dir={folder / 'certs'}", f"--workers={workers}",
    ]  # fmt: skip
    return _running(command, port, folder, "serves on")


def _others(folder: Path) -> Iterator[tuple[str, str, contextlib.AbstractContextManager[Process]]]:
    """Name, note and server of those that are installed."""
    certificate, key = str(folder / "certs" / "tls.crt"), str(folder / "certs" / "tls.key")
    script = str(folder / "flask_webhook.py")
    port = free_port()
    if importlib.util.find_spec("kopf") is not None:
        command = [sys.executable, "-m", "bench.kopf_hooks", str(port), certificate, key]
        yield "kopf's admission server", "aiohttp; kopf.WebhookServer", _running(command, port, folder)
    if importlib.util.find_spec("flask") is not None:
        port = free_port()
        command = [sys.executable, script, str(port), certificate, key]
        note = "Werkzeug's threads, a TLS handshake each: it keeps no connection"
        yield "the Flask script of blogs", note, _running(command, port, folder)
        if importlib.util.find_spec("gunicorn") is not None:
            port = free_port()
            command = [
                sys.executable, "-m", "gunicorn", "--workers=2", "--worker-class=gthread", "--threads=16",
                f"--bind=127.0.0.1:{port}", f"--certfile={certificate}", f"--keyfile={key}", f"--chdir={folder}",
                "flask_webhook:app",
            ]  # fmt: skip
            note = "two workers of 16 threads, which keep connections"
            yield "the Flask script on gunicorn", note, _running(command, port, folder)


def _cpu_seconds(process: Process) -> float:
    """Of all its processes, in seconds."""
    pid = process.popen.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for each in (pid, *children):
        parts = Path(f"/proc/{each}/stat").read_text().rsplit(") ", 1)[1].split()
        total += int(parts[11]) + int(parts[12])
    return total / os.sysconf("SC_CLK_TCK")


def run(quick: bool) -> Iterator[Figure]:
    """A figure for each, with its note."""
    seconds = 0.8 if quick else 6.0

    def load(process: Process, path: str, review: object) -> tuple[Load, str]:
        body, before = json.dumps(review), _cpu_seconds(process)
        found = measure(process, path, seconds=seconds, connections=_CONNECTIONS, method="POST", body=body)
        each = (_cpu_seconds(process) - before) / max(found.rate * seconds, 1.0) * 1e6
        return found, f"p99 {found.p99 * 1e3:.3g} ms; {each:,.0f} µs of CPU each"

    with tempfile.TemporaryDirectory(prefix="kubegate-bench-") as name:
        folder = Path(name)
        ensure(folder / "certs", ["localhost", "127.0.0.1"])
        (folder / "policies.py").write_text(POLICIES)
        (folder / "flask_webhook.py").write_text(FLASK)
        for suffix in ("crt", "key"):
            (folder / "certs" / f"apiserver.{suffix}").write_bytes((folder / "certs" / f"tls.{suffix}").read_bytes())
        with bare(300, folder / "certs") as process:
            found, note = load(process, "/", _ADMISSION)
            most = found.rate
        yield Figure("the bare ASGI application, given a review", most, "/s", note=note)
        with _webhook(folder, 1) as process:
            for path, what, review in REVIEWS:
                found, note = load(process, path, review)
                yield Figure(f"webhook server: {what}", found.rate, "/s", most, note)
        with _webhook(folder, 2) as process:
            path, what, review = REVIEWS[0]
            found, note = load(process, path, review)
            yield Figure(f"webhook server, --workers 2: {what}", found.rate, "/s", most, note)
        for name, what, server in _others(folder):
            with server as process:
                found, note = load(process, "/mutate/label", _ADMISSION)
                yield Figure(f"{name}: AdmissionReview, mutate", found.rate, "/s", most, f"{note}; {what}")
