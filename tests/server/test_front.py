"""What listens before there is an API: who comes early is answered once there is one."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubegate.pki import certificates, files, keys
from kubegate.pki.certificates import Authority, Subject
from kubegate.server.front import Front
from kubegate.server.options import Options
from kubegate.server.process import Server

GET = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    found = Front(Options(secure_port=0, data_dir=str(tmp_path)))
    await found.listen()
    yield found
    await found.close()


async def ask(front: Front, data: bytes = GET, certificate: Path | None = None) -> bytes:
    """What a client is answered who comes with this certificate (and its key beside it)."""
    assert front.pki is not None
    context = ssl.create_default_context(cafile=str(front.pki.ca_certificate))
    if certificate is not None:
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port, ssl=context)
    try:
        writer.write(data)
        return await reader.read()
    finally:
        writer.close()


async def chains(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An application that answers how long the client's chain of certificates is."""
    body = str(len(scope["extensions"]["tls"]["client_cert_chain"])).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": body})


async def held(front: Front) -> asyncio.Task[bytes]:
    """A request that has come in and waits."""
    came, hold = asyncio.Event(), front._hold

    async def seen(*arguments: Any) -> None:
        came.set()
        front._http = hold
        await hold(*arguments)

    front._http = seen
    asking = asyncio.create_task(ask(front))
    await came.wait()
    return asking


async def test_who_asks_before_there_is_an_api_is_answered_once_there_is_one(front: Front) -> None:
    asking = await held(front)
    assert not asking.done()
    front.open(chains, chains)
    assert (await asking).endswith(b"\r\n\r\n0")


async def test_who_waits_for_an_api_that_never_comes_is_told_so(front: Front) -> None:
    asking = await held(front)
    await front.close()
    assert (await asking).startswith(b"HTTP/1.1 503")


def test_what_a_start_need_not_wait_for_is_not_loaded_with_the_server() -> None:
    left = ("cryptography.x509", "yaml", "kubegate.cel", "kubegate.remote.client", "joserfc", "argparse", "zoneinfo")
    loading = "import sys, kubegate.cli.serve, kubegate.server.run, kubegate.server.process"
    code = f"{loading}; print([name for name in {left!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_tls_takes_clients_of_all_authorities_and_of_no_other(tmp_path: Path) -> None:
    def signed(authority: Authority, name: str) -> Path:
        key = keys.generate()
        made = certificates.issue(authority, key.public_key(), Subject(name), usages=certificates.CLIENT)
        certificates.save_pair(made, key, tmp_path / name)
        return tmp_path / f"{name}.crt"

    users, proxies, others = (certificates.new_authority(name) for name in ("users", "proxies", "others"))
    files.write_public(tmp_path / "users.crt", users.pem)
    files.write_public(tmp_path / "proxies.crt", proxies.pem)
    options = Options(
        secure_port=0,
        data_dir=str(tmp_path / "data"),
        client_ca_file=str(tmp_path / "users.crt"),
        requestheader_client_ca_file=str(tmp_path / "proxies.crt"),
    )
    front = Front(options)
    await front.listen()
    front.open(chains, chains)
    assert (await ask(front)).endswith(b"\r\n\r\n0")
    assert (await ask(front, certificate=signed(users, "user"))).endswith(b"\r\n\r\n1")
    assert (await ask(front, certificate=signed(proxies, "proxy"))).endswith(b"\r\n\r\n1")
    with pytest.raises(OSError):
        await ask(front, certificate=signed(others, "other"))
    await front.close()


async def test_the_first_kubeconfig_is_there_with_the_port_and_goes_where_no_api_comes(front: Front) -> None:
    assert front.pki is not None
    path = front.pki.directory.parent / "admin.kubeconfig"
    front.write_first_kubeconfig()
    assert front.url in path.read_text()
    await front.close()
    assert not path.exists()


async def test_the_first_kubeconfig_stays_as_somebody_changed_it_before_there_was_an_api(tmp_path: Path) -> None:
    options = Options(secure_port=0, data_dir=str(tmp_path), storage="memory", controllers=("none",))
    front = Front(options)
    await front.listen()
    front.write_first_kubeconfig()
    path = tmp_path / "admin.kubeconfig"
    path.write_text("mine")
    server = Server(options, front=front)
    await server.start()
    try:
        assert server.write_kubeconfig() == path
        assert path.read_text() == "mine"
    finally:
        await server.stop()
