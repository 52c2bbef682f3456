"""An HTTPS server on a free port of the loopback, as webhooks are reached: its URL, and the authority to know it by."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Subject


def bundle_and_context(folder: Path) -> tuple[str, ssl.SSLContext]:
    """A new authority as a caBundle holds it, and TLS with a certificate of it for 127.0.0.1."""
    authority, key = certificates.new_authority("hooks"), keys.generate()
    certificate = certificates.issue(
        authority, key.public_key(), Subject("hook"), usages=certificates.SERVER, hosts=("127.0.0.1",)
    )
    certificates.save_pair(certificate, key, folder / "hook")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "hook.crt", folder / "hook.key")
    return base64.b64encode(authority.pem).decode(), context


@asynccontextmanager
async def serving(
    context: ssl.SSLContext, handle: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> AsyncIterator[str]:
    """Its URL, whose every path `handle` answers."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
