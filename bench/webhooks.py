"""What webhooks and CEL policies cost a CREATE, and what those cost that do not match it.

The aims: under 50 µs where nothing matches, 100 policies that match in under 2 ms, and a webhook that hangs (and may
be ignored) delays what it matches by its timeout and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.admission import CONFIG_MAP, World, attributes, seconds_each
from bench.harness import ROOT, Figure, Process, _end, bare, free_port, kubegate, requests_per_second
from kubegate.admission import Attributes
from kubegate.admission.build import build
from kubegate.admission.config import AdmissionOptions
from kubegate.api import Object
from kubegate.pki import certificates, keys
from kubegate.storage import ObjectEvent, Reader

REGISTRATION = "/apis/admissionregistration.k8s.io/v1"
GROUP = "admissionregistration.k8s.io"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
BODY = json.dumps({"metadata": {"name": "c-%N%"}, "data": {"key": "value " * 20}})
EXPRESSIONS = (
    "object.metadata.name.size() <= 63",
    "!has(object.metadata.labels) || object.metadata.labels.all(key, !key.startsWith('internal/'))",
    "request.userInfo.username != 'nobody'",
    "object.data.all(key, key.matches('^[-._a-zA-Z0-9]+$'))",
)
"""As rules are in practice; each policy has two of them."""


def run(quick: bool) -> Iterator[Figure]:
    yield from in_process(0.1 if quick else 2.0)
    yield from over_http(1, (16,)) if quick else over_http(8, (1, 16, 64))


# --- the chain alone


class Objects:
    """The reader of another world, and these objects by resource beside it, told to who subscribes."""

    def __init__(self, reader: Reader, **objects: list[Object]) -> None:
        self._reader, self._objects = reader, {f"{name}.{GROUP}": found for name, found in objects.items()}

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._reader.get(resource, namespace, name)

    def list(self, resource: str, namespace: str = "") -> Sequence[Object]:
        return self._reader.list(resource, namespace)

    def subscribe(self, resource: str, on_event: Callable[..., Any]) -> Callable[[], None]:
        for obj in self._objects.get(resource, ()):
            on_event(ObjectEvent.ADDED, obj, None)
        return lambda: None


def in_process(least: float) -> Iterator[Figure]:
    elsewhere = [rule("secrets")]
    hooks = [configuration(f"h-{n}", "https://127.0.0.1:1/", "", elsewhere) for n in range(10)]
    others = [policy(n, elsewhere) for n in range(100)]
    matching = [policy(n, [rule("configmaps")]) for n in range(100)]
    everything: tuple[tuple[str, dict[str, list[Object]]], ...] = (
        ("no webhook, no policy", {}),
        (
            "10 webhooks and 100 policies, none for it",
            {
                "mutatingwebhookconfigurations": hooks,
                "validatingwebhookconfigurations": hooks,
                "validatingadmissionpolicies": others,
                "validatingadmissionpolicybindings": [binding(n) for n in range(100)],
            },
        ),
        *(
            (
                f"{count} polic{'ies' if count > 1 else 'y'} for it",
                {
                    "validatingadmissionpolicies": matching[:count],
                    "validatingadmissionpolicybindings": [binding(n) for n in range(count)],
                },
            )
            for count in (1, 100)
        ),
    )
    for name, objects in everything:
        dependencies = World({}, {}).dependencies()
        found = Objects(dependencies.reader, **objects)
        chain = build(AdmissionOptions(), replace(dependencies, reader=found))
        asyncio.run(seconds_each(chain, make, 0.05))  # expressions are compiled when they are first needed
        seconds = asyncio.run(seconds_each(chain, make, least))
        yield Figure(f"admission of a config map, {name}", seconds * 1e6, "µs")


def make() -> Attributes:
    return attributes("configmaps", CONFIG_MAP)


def rule(resource: str) -> Object:
    return {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]}


def configuration(name: str, url: str, bundle: str, rules: list[Object], **fields: Any) -> Object:
    hook = {
        "name": f"{name}.example.org",
        "clientConfig": {"url": url, "caBundle": bundle},
        "rules": rules,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **fields,
    }
    return {"metadata": {"name": name}, "webhooks": [hook]}


def policy(number: int, rules: list[Object]) -> Object:
    chosen = [EXPRESSIONS[(number + n) % len(EXPRESSIONS)] for n in range(2)]
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": expression} for expression in chosen],
    }
    return {"metadata": {"name": f"p-{number}"}, "spec": spec}


def binding(number: int) -> Object:
    spec = {"policyName": f"p-{number}", "validationActions": ["Deny"]}
    return {"metadata": {"name": f"p-{number}"}, "spec": spec}


# --- a whole server


@dataclass(slots=True)
class Webhook:
    url: str
    bundle: str


@contextlib.contextmanager
def webhook() -> Iterator[Webhook]:
    """A webhook server that allows all, in a process of its own, over TLS."""
    with tempfile.TemporaryDirectory(prefix="kubegate-bench-") as folder:
        authority, key, port = certificates.new_authority("webhooks"), keys.generate(), free_port()
        subject = certificates.Subject("webhook")
        certificate = certificates.issue(
            authority, key.public_key(), subject, usages=certificates.SERVER, hosts=("127.0.0.1",)
        )
        certificates.save_pair(certificate, key, Path(folder) / "webhook")
        command = [sys.executable, "-m", "bench.hooks", str(port), f"{folder}/webhook"]
        popen = subprocess.Popen(command, cwd=ROOT)
        try:
            while popen.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.01)
            yield Webhook(f"https://127.0.0.1:{port}/", base64.b64encode(authority.pem).decode())
        finally:
            _end(popen)


def over_http(seconds: float, clients: Sequence[int]) -> Iterator[Figure]:
    with webhook() as hook, kubegate() as server, bare(400, server.ca.parent) as empty:

        def creates(what: str) -> Iterator[Figure]:
            for count in clients:
                name = f"CREATE, {what}, {count} client{'s' * (count > 1)}"
                before = server.cpu_seconds()
                rate = load(server, CONFIGMAPS, count)
                each = (server.cpu_seconds() - before) / max(rate * seconds, 1.0) * 1e6
                yield Figure(name, rate, "requests/s", most[count], f"{each:,.0f} µs of CPU each")

        def load(where: Process, path: str, count: int) -> float:
            return requests_per_second(where, path, seconds=seconds, connections=count, method="POST", body=BODY)

        most = {count: load(empty, "/", count) for count in clients}

        yield from creates("no webhook")
        rules = [rule("configmaps")]
        made: list[str] = []
        for count in (1, 10):
            # half of them mutating, half validating: those run one after the other, these at once
            for number in range(len(made), count):
                kind = "validating" if number % 2 else "mutating"
                path = f"{REGISTRATION}/{kind}webhookconfigurations"
                server.request("POST", path, configuration(f"h-{number}", hook.url, hook.bundle, rules))
                made.append(f"{path}/h-{number}")
            yield from creates(f"{count} webhook{'s' * (count > 1)}")
        for path in made:
            server.request("DELETE", path)
        for count in (1, 100):
            for number in range(0 if count == 1 else 1, count):
                server.request("POST", f"{REGISTRATION}/validatingadmissionpolicies", policy(number, rules))
                server.request("POST", f"{REGISTRATION}/validatingadmissionpolicybindings", binding(number))
            yield from creates(f"{count} polic{'ies' if count > 1 else 'y'}")
        for number in range(100):
            server.request("DELETE", f"{REGISTRATION}/validatingadmissionpolicybindings/p-{number}")
        yield from hanging(server, hook)


def hanging(server: Process, hook: Webhook) -> Iterator[Figure]:
    """Creates of what a hung webhook matches, and meanwhile of what it does not."""
    hung = configuration(
        "hung", f"{hook.url}hang", hook.bundle, [rule("secrets")], failurePolicy="Ignore", timeoutSeconds=2
    )
    server.request("POST", f"{REGISTRATION}/validatingwebhookconfigurations", hung)
    waited: list[float] = []

    def create(number: int) -> None:
        start = time.perf_counter()
        server.request("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": f"s-{number}"}})
        waited.append(time.perf_counter() - start)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    others = []
    while any(thread.is_alive() for thread in threads):
        start = time.perf_counter()
        server.request("POST", CONFIGMAPS, {"metadata": {"generateName": "meanwhile-"}})
        others.append(time.perf_counter() - start)
    note = "a webhook for secrets hangs: timeoutSeconds 2, failurePolicy Ignore"
    yield Figure("CREATE of a secret, the longest of 20", max(waited) * 1e3, "ms", note=note)
    others.sort()
    yield Figure("CREATE of a config map meanwhile, the median", others[len(others) // 2] * 1e3, "ms", note=note)
    yield Figure("CREATE of a config map meanwhile, the longest", others[-1] * 1e3, "ms", note=note)
