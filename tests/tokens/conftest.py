"""An API server, a certified OpenID provider, kubectl, and a folder for what is kept."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from token_world import ROOT, Api, Done, Issuer, Run, StartApi

from kubegate.pki import certificates, keys, kubeconfig
from kubegate.pki.certificates import Subject
from kubegate.server.options import parse
from kubegate.server.process import Server

MODULES = ROOT / ".tools" / "oidc-provider" / "node_modules"
PROVIDER = ROOT / "tests" / "authentication" / "oidc_provider" / "server.mjs"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`await run("kubectl", …, VARIABLE="value")`: the program's end, nothing of the user's own files in its way."""

    async def begin(*words: str, **variables: str) -> Done:
        own = {"HOME": str(tmp_path), "KUBEGATE_TOKEN_CACHE": str(tmp_path / "kept")}
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "DISPLAY"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        process = await asyncio.create_subprocess_exec(
            *words,
            env={**environment, "PATH": path, **own, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return Done(process.returncode or 0, out.decode(), err.decode())

    return begin


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    if shutil.which("node") is None or not MODULES.exists():
        pytest.skip("wants node and .tools/oidc-provider")
    ca, key = certificates.new_authority("issuers"), keys.generate()
    made = certificates.issue(
        ca, key.public_key(), Subject("provider"), usages=certificates.SERVER, hosts=["127.0.0.1"]
    )
    certificates.save_pair(made, key, tmp_path / "provider")
    (tmp_path / "issuers.crt").write_bytes(ca.pem)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["node", str(PROVIDER), str(port), str(tmp_path / "provider.crt"), str(tmp_path / "provider.key")]
    for _ in range(3):  # node has been seen to hang at its start, before it runs a line of the script
        process = subprocess.Popen(
            [*command, str(MODULES)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        too_late = threading.Timer(20, process.kill)
        too_late.start()
        try:
            if any(line.strip() == "ready" for line in process.stdout):
                break
        finally:
            too_late.cancel()
    else:
        pytest.fail("the provider did not start")
    yield Issuer(f"https://127.0.0.1:{port}", tmp_path / "issuers.crt")
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[StartApi]:
    """`await start("--flag=value", …)`: an API server on a memory store."""
    running: list[Server] = []

    async def begin(*flags: str) -> Api:
        folder = tmp_path / "api"
        folder.mkdir()
        (folder / "tokens.csv").write_text('admin-token,admin,u-admin,"system:masters"\nalice-token,alice,u-alice\n')
        common = ["--secure-port=0", f"--data-dir={folder}", f"--token-auth-file={folder / 'tokens.csv'}"]
        server = Server(parse([*common, "--storage=memory", *flags]).options)
        await server.start()
        running.append(server)
        api = Api(server, folder)
        assert server.pki is not None
        user = kubeconfig.User(token="admin-token")
        authority = server.pki.ca_certificate.read_bytes()
        kubeconfig.write(kubeconfig.new(server.url, authority=authority, user=user), api.admin, force=True)
        return api

    yield begin
    for server in running:
        await server.stop()
