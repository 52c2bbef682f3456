"""A webhook server in this process, and what asks it over TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from webhook_client import Serve, Served

from kubegate.api.clock import Clock, SystemClock
from kubegate.webhooks.certificates import Source
from kubegate.webhooks.process import Options, WebhookServer

POLICIES = """
import asyncio
from kubegate import Deny, Gate, User

gate = Gate()
asked = asyncio.Event()

@gate.mutate("pods", operations=["CREATE"], namespaces={"kubernetes.io/metadata.name": "kkj-ns"})
def label(pod):
    pod["metadata"].setdefault("labels", {})["mutate"] = "admission-test"

@gate.mutate("configmaps")
def other(obj, review):
    if review.dry_run:
        return None
    return {**obj, "data": {"returned": "yes"}}

@gate.mutate("secrets")
def nonsense(obj):
    return 3

@gate.validate("deployments.apps")
def no_latest(deployment, review):
    review.warn("looked at")
    review.audit("by", "no-latest")
    if "latest" in str(deployment):
        raise Deny("latest", code=422)

@gate.validate("pods", operations=["DELETE"], objects={"keep": "yes"})
def kept(pod):
    raise Deny(f"{pod['metadata']['name']} is kept")

@gate.validate("*")
def raises(obj):
    raise RuntimeError(obj["metadata"]["name"])

@gate.authenticate
async def by_directory(token):
    if token == "raise":
        raise KeyError(token)
    if token == "slow":
        asked.set()
        await asyncio.Event().wait()
    if token == "scoped":
        return User("scoped", audiences=["a"])
    return User("jane", uid="1", groups=["dev"], extra={"k": ["v"]}) if token == "jane-token" else None

@gate.authorize
def nights_off(attributes):
    if attributes.user.name == "raise":
        raise ValueError("x")
    if attributes.user.name == "nonsense":
        return "yes"
    return {"get": True, "delete": False}.get(attributes.verb)

@gate.images
def trusted(image):
    return True if image.startswith("ours/") else False if image.startswith("bad/") else None
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    path = tmp_path / "policies.py"
    path.write_text(POLICIES)
    return path


@pytest.fixture
async def serve(tmp_path: Path, policies: Path) -> AsyncIterator[Serve]:
    """`await serve(most=…, …)`: a server with these options; all are stopped at the end of the test."""
    running: list[Served] = []

    async def begin(clock: Clock | None = None, **options: Any) -> Served:
        options.setdefault("certificate", Source.generated(tmp_path / "certs", ["127.0.0.1"]))
        made = Options(policies, address="127.0.0.1", port=0, grace=1.0, **options)
        server = WebhookServer(made, clock or SystemClock())
        await server.start()
        context = ssl.create_default_context(cafile=str(tmp_path / "certs" / "ca.crt"))
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
        running.append(Served(server, session))
        return running[-1]

    yield begin
    for each in running:
        await each.session.close()
        await each.server.stop()


@pytest.fixture
async def served(serve: Serve) -> Served:
    return await serve()
