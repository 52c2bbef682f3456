"""Asking a webhook server as an API server does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from kubegate.webhooks.process import WebhookServer


@dataclass(slots=True)
class Served:
    """`post(path, body)` gives the HTTP status and the decoded answer."""

    server: WebhookServer
    session: aiohttp.ClientSession

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.session.post(self.server.url + path, **data) as answer:
            return answer.status, await answer.json()

    async def post_raw(self, path: str, body: bytes) -> tuple[int, bytes]:
        """As `post`, the answer as it came."""
        async with self.session.post(self.server.url + path, data=body) as answer:
            return answer.status, await answer.read()

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(self.server.url + path) as answer:
            return answer.status, await answer.text()


Serve = Callable[..., Awaitable[Served]]


def admission(obj: dict[str, Any] | None, resource: str = "pods", version: str = "v1", **more: Any) -> dict[str, Any]:
    """An AdmissionReview about an object."""
    name, _, group = resource.partition(".")
    gvr = {"group": group, "version": "v1", "resource": name}
    request = {"uid": "u-1", "operation": "CREATE", "resource": gvr, "namespace": "kkj-ns", "object": obj, **more}
    return {"apiVersion": f"admission.k8s.io/{version}", "kind": "AdmissionReview", "request": request}
