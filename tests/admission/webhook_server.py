"""A webhook server on a free port of the loopback, over TLS, whose answers each test gives by path."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kubegate.api import Object
from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Authority, Subject

Hook = Callable[[Object], Any] | Object | bytes


@dataclass
class Hooks:
    """`answers` by path: a response (patch as a list), a whole web.Response, bytes, or a function of the review."""

    authority: Authority
    port: int = 0
    answers: dict[str, Hook] = field(default_factory=dict)
    reviews: list[tuple[str, Object]] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}/{path}"

    @property
    def bundle(self) -> str:
        return base64.b64encode(self.authority.pem).decode()

    def sent(self, path: str) -> list[Object]:
        """The reviews that were posted to a path."""
        return [review for found, review in self.reviews if found == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        review = json.loads(await request.read())
        path = request.path.lstrip("/")
        self.reviews.append((path, review))
        self.requests.append(request)
        answer: Any = self.answers[path]
        if callable(answer):
            answer = answer(review)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, web.StreamResponse):
            return answer
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json")
        return web.json_response(reviewed(review, answer))


def reviewed(review: Object, response: Object) -> Object:
    """A whole answer with this response: the review's uid, its version, the patch encoded."""
    response = {"uid": review["request"]["uid"], **response}
    if isinstance(response.get("patch"), list):
        response["patch"] = base64.b64encode(json.dumps(response["patch"]).encode()).decode()
        response.setdefault("patchType", "JSONPatch")
    return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}


def webhook(hooks: Hooks, name: str, **changes: Any) -> Object:
    """A webhook for all that is done to ConfigMaps, at the path `name`."""
    return {
        "name": f"{name}.example.org",
        "clientConfig": {"url": hooks.url(name), "caBundle": hooks.bundle},
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
        **changes,
    }


@pytest.fixture(scope="session")
def webhook_authority() -> Authority:
    return certificates.new_authority("webhook-ca")


@pytest.fixture
async def hooks(tmp_path: Path, webhook_authority: Authority) -> AsyncIterator[Hooks]:
    key = keys.generate()
    hosts = ("127.0.0.1", "hook.ns.svc")
    certificate = certificates.issue(
        webhook_authority, key.public_key(), Subject("webhook"), usages=certificates.SERVER, hosts=hosts
    )
    certificates.save_pair(certificate, key, tmp_path / "webhook")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "webhook.crt", tmp_path / "webhook.key")
    context.load_verify_locations(cadata=webhook_authority.pem.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    found = Hooks(webhook_authority)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()
