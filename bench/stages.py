"""`python -m bench.stages`: where the microseconds of a GET and of a CREATE go, stage by stage, without the network.

Each stage is called alone, again and again, with what a real request has at that place; the fastest of many rounds
counts (`--once`: each is called once, to see that it can be). The sum is less than the whole: what lies between the
stages, and what they cost one another in the processor's caches, is in the last line of each table.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import uvloop

from kubegate.admission import Operation
from kubegate.api import Object, clone, metadata
from kubegate.authentication import Request
from kubegate.registry import wire
from kubegate.server import accept, bodies
from kubegate.server.app import App, authorization_attributes
from kubegate.server.call import Call
from kubegate.server.certificates import client_chain
from kubegate.server.options import parse
from kubegate.server.process import Server

ROUNDS, CALLS = 60, 200
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
TOKENS = 'admin-token,admin,u-admin,"system:masters"\n'


def fastest(call: Callable[[], Any]) -> float:
    """Microseconds of one call."""
    rounds, calls = (1, 1) if "--once" in sys.argv else (ROUNDS, CALLS)
    found = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        found = min(found, (time.perf_counter() - start) / calls * 1e6)
    return found


def finish(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits for something")


class Client:
    """Calls the ASGI application as the transport does."""

    def __init__(self, server: Server) -> None:
        self.app = server.app
        self.sent: list[dict[str, Any]] = []

    def scope(self, method: str, path: str) -> dict[str, Any]:
        headers = [
            (b"host", b"127.0.0.1:6443"), (b"user-agent", b"bench/1"), (b"accept", b"application/json"),
            (b"authorization", b"Bearer admin-token"), (b"content-type", b"application/json"),
        ]  # fmt: skip
        return {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": headers, "client": ("127.0.0.1", 5000), "extensions": {"tls": {"client_cert_chain": []}},
        }  # fmt: skip

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def ask(self, method: str, path: str, body: bytes = b"") -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        self.sent.clear()
        await self.app(self.scope(method, path), receive, self.send)
        assert self.sent[0]["status"] in (200, 201), self.sent


def table(title: str, stages: Iterator[tuple[str, float]], whole: float) -> None:
    print(f"\n| {title} | µs |\n| --- | --- |")
    rest = whole
    for name, found in stages:
        print(f"| {name} | {found:.1f} |")
        rest -= found
    print(f"| between them | {rest:.1f} |\n| **the whole** | **{whole:.1f}** |")


def common(client: Client, scope: dict[str, Any], receive: Any) -> Iterator[tuple[str, float]]:
    app = client.app
    call = app._call(scope, receive)
    request = Request(call.method, call.path, call.headers, client_chain(scope), call.remote_address)
    who = finish(app._authenticator.authenticate(request))
    call.user = call.authenticated_user = who.user
    attributes = authorization_attributes(call)
    decision = finish(app._authorizer.authorize(attributes))
    yield "request to RequestInfo, query, headers", fastest(lambda: app._call(scope, receive))
    yield "authentication (static token)", fastest(lambda: finish(app._authenticator.authenticate(request)))
    yield "bounds and turns", fastest(lambda: bounded(app, call))
    yield "authorization", fastest(lambda: finish(app._authorizer.authorize(authorization_attributes(call))))
    yield "trace and metrics", fastest(lambda: app._record_decision(call, decision, 0.0))


def bounded(app: App, call: Call) -> None:
    bound = app._limits.admit(call)
    app._turns.take(call.user.name, 0.0)
    if bound is not None:
        bound.give_back(call.user.name)


def get_stages(client: Client) -> Iterator[tuple[str, float]]:
    scope = client.scope("GET", f"{CONFIGMAPS}/asked")

    async def receive() -> dict[str, Any]:
        return {}

    yield from common(client, scope, receive)
    app = client.app
    call = app._call(scope, receive)
    response = finish(app._resources.handle(call))
    yield "route, watch cache, bytes", fastest(lambda: finish(app._resources.handle(call)))
    yield "answer's headers and body", fastest(lambda: finish(app._send(call, response, receive, client.send)))
    client.sent.clear()


def create_stages(client: Client, server: Server, body: bytes) -> Iterator[tuple[str, float]]:
    scope = client.scope("POST", CONFIGMAPS)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    yield from common(client, scope, receive)
    registry, rest = server.registry, client.app._resources
    call = client.app._call(scope, receive)
    request = Request(call.method, call.path, call.headers)
    call.user = finish(client.app._authenticator.authenticate(request)).user
    resource = registry.resources.get("", "v1", "configmaps")
    assert resource is not None
    context = rest._context(call, "create")
    decoded = bodies.decode(call, body, resource, context)
    copying = fastest(lambda: clone(decoded))
    yield "options of the write", fastest(lambda: rest._context(call, "create"))
    yield "body decoded, duplicates, Go's form", fastest(lambda: bodies.decode(call, body, resource, context))
    yield "defaults", fastest(lambda: registry.default(resource, clone(decoded))) - copying
    obj = registry.managed.created(resource, decoded, context)
    obj["metadata"]["namespace"] = "default"
    yield "managedFields", fastest(lambda: registry.managed.created(resource, decoded, context))

    def attributes() -> Any:
        return registry.attributes(Operation.CREATE, resource, "", "default", "c", context, obj, None)

    asked = attributes()

    def admitted(turn: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        context.trace.stages.clear()
        finish(turn(asked))

    yield "mutating admission", fastest(attributes) + fastest(lambda: admitted(registry.admission.admit))
    rules, scoped = registry.rules_of(resource), registry.scope(resource, "", context)
    obj["metadata"] |= {"uid": metadata.new_uid(), "creationTimestamp": "2026-01-01T00:00:00Z"}

    def validated() -> None:
        metadata.validate_create(obj["metadata"], True, rules.name)
        registry._check(resource, rules, obj, None, scoped)

    yield "validation", fastest(validated)
    yield "validating admission", fastest(lambda: admitted(registry.admission.validate))
    yield "encoded for the store", fastest(lambda: wire.encode(obj))
    number = iter(range(10_000_000))
    value = wire.encode(obj)
    put = registry.cache.put
    yield (
        "store (memory), watch cache, listeners",
        fastest(lambda: finish(put(f"/registry/configmaps/default/s-{next(number)}", value, 0))),
    )
    answer = accept.one(call, resource)
    yield "answer encoded", fastest(lambda: rest._object(call, resource, obj, answer, 201))


@contextmanager
def _collected_seldom() -> Iterator[None]:
    """As `kubegate serve` sets the garbage collector."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    yield
    gc.set_threshold(*before)


async def main(folder: str) -> None:
    tokens = f"{folder}/tokens.csv"
    flags = ["--secure-port=0", f"--data-dir={folder}", f"--token-auth-file={tokens}", "--storage=memory"]
    server = Server(parse(flags).options)
    await server.start()
    client = Client(server)
    sent: Object = {"metadata": {"name": "asked"}, "data": {"key": "value " * 20}}
    await client.ask("POST", CONFIGMAPS, orjson.dumps(sent))
    with _collected_seldom():
        whole = fastest(lambda: finish(client.ask("GET", f"{CONFIGMAPS}/asked")))
        table("GET of one ConfigMap", get_stages(client), whole)
        number = iter(range(10_000_000))

        def create() -> None:
            body = orjson.dumps({**sent, "metadata": {"name": f"c-{next(number)}"}})
            finish(client.ask("POST", CONFIGMAPS, body))

        whole = fastest(create)
        table(
            "CREATE of one ConfigMap",
            create_stages(client, server, orjson.dumps({**sent, "metadata": {"name": "c"}})),
            whole,
        )
    await server.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        Path(place, "tokens.csv").write_text(TOKENS)
        uvloop.run(main(place))
