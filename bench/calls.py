"""What a call to a webhook costs the server that makes it: processor time, the best of several rounds.

The webhook is a process of its own; eight callers at a time. No answer is remembered: each token, and each question,
is a new one.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator

import uvloop
from msgspec.structs import replace

from bench.admission import World
from bench.harness import Figure
from bench.webhooks import Objects, Webhook, configuration, make, rule, webhook
from kubegate.admission.build import build
from kubegate.admission.config import AdmissionOptions
from kubegate.api.clock import SystemClock
from kubegate.authentication import UserInfo
from kubegate.authentication.webhook import WebhookTokenAuthenticator
from kubegate.authorization import Attributes
from kubegate.authorization.webhook import Settings, WebhookAuthorizer
from kubegate.remote.client import Client, Endpoint

CALLERS, ROUNDS = 8, 9
WEBHOOKS = 10


def run(quick: bool = False) -> Iterator[Figure]:
    """A figure for each sort of call, in microseconds."""
    with webhook() as hook:
        yield from uvloop.run(_measure(hook, 40 if quick else 200))


async def _measure(hook: Webhook, count: int) -> list[Figure]:
    authority, number = base64.b64decode(hook.bundle), itertools.count()
    client = Client(Endpoint(hook.url, authority=authority))
    tokens = WebhookTokenAuthenticator(
        Endpoint(hook.url, authority=authority), SystemClock(), version="v1", cache_ttl=60.0, api_audiences=()
    )
    access = WebhookAuthorizer(Client(Endpoint(hook.url, authority=authority)), Settings(), SystemClock())
    jane = UserInfo("jane", "u-1", ("dev", "system:authenticated"))
    body = b'{"apiVersion":"v1","kind":"Review","request":{"uid":"","object":"%b"}}' % (b"x" * 1000)

    async def token() -> None:
        await tokens.authenticate_token(f"token-{next(number)}")

    async def question() -> None:
        name = f"p-{next(number)}"
        await access.authorize(
            Attributes(user=jane, verb="get", namespace="ns", api_version="v1", resource="pods", name=name)
        )

    chain = build(AdmissionOptions(), _dependencies(hook))

    async def create() -> None:
        attributes = make()
        await chain.admit(attributes)
        await chain.validate(attributes)

    async def post() -> None:
        await client.post_json(body, within=10.0)

    figures = []
    for name, call, calls in (
        ("POST of a kilobyte to a webhook", post, 1),
        (f"AdmissionReview, {WEBHOOKS} for one object", create, WEBHOOKS),
        ("TokenReview, token not seen before", token, 1),
        ("SubjectAccessReview, question not seen before", question, 1),
    ):
        seconds = await _seconds(call, max(count // calls, CALLERS))
        figures.append(Figure(f"call of a webhook: {name}", seconds / calls * 1e6, "µs of CPU a call"))
    for closing in (client, tokens, access, chain):
        await closing.close()
    return figures


def _dependencies(hook: Webhook) -> object:
    """Half of the webhooks mutating, half validating: those run one after the other, these at once."""
    found: dict[str, list[object]] = {"mutating": [], "validating": []}
    for number in range(WEBHOOKS):
        made = configuration(f"h-{number}", hook.url, hook.bundle, [rule("configmaps")])
        found["validating" if number % 2 else "mutating"].append(made)
    dependencies = World({}, {}).dependencies()
    objects = {f"{kind}webhookconfigurations": made for kind, made in found.items()}
    return replace(dependencies, reader=Objects(dependencies.reader, **objects))


async def _seconds(call: Callable[[], Awaitable[None]], count: int) -> float:
    """Processor time of one call."""

    async def caller(calls: int) -> None:
        for _ in range(calls):
            await call()

    await asyncio.gather(*(caller(2) for _ in range(CALLERS)))
    best, each = float("inf"), count // CALLERS
    for _ in range(ROUNDS):
        start = time.process_time()
        await asyncio.gather(*(caller(each) for _ in range(CALLERS)))
        best = min(best, (time.process_time() - start) / (each * CALLERS))
    return best
