"""A webhook that allows all and knows everybody; `/hang` never answers: `python -m bench.hooks PORT PAIR`."""

from __future__ import annotations

import asyncio
import ssl
import sys

import orjson
import uvloop
from aiohttp import web


async def allow(request: web.Request) -> web.Response:
    review = orjson.loads(await request.read())
    if request.path == "/hang":
        await asyncio.sleep(3600)
    answer = {"apiVersion": review["apiVersion"], "kind": review["kind"]}
    if "request" in review:
        answer["response"] = {"uid": review["request"]["uid"], "allowed": True}
    elif review["kind"] == "TokenReview":
        user = {"username": "jane", "uid": "u-1", "groups": ["dev", "ops"]}
        answer["status"] = {"authenticated": True, "user": user}
    else:
        answer["status"] = {"allowed": True}
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


async def main() -> None:
    port, pair = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{pair}.crt", f"{pair}.key")
    application = web.Application()
    application.router.add_post("/{path:.*}", allow)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(port), ssl_context=context).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
