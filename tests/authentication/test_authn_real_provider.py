"""ID tokens of a certified OpenID provider (the npm package oidc-provider), by the authorization code flow.

Wants node, and the package: npm install --prefix .tools/oidc-provider oidc-provider@9
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import requests
import yaml
from people import World, bearer

from kubegate.api.clock import SystemClock
from kubegate.authentication.build import AuthenticationOptions, BuiltAuthentication, Dependencies, build
from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Subject

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / ".tools" / "oidc-provider" / "node_modules"
SERVER = Path(__file__).parent / "oidc_provider" / "server.mjs"
CALLBACK = "http://127.0.0.1/callback"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not MODULES.exists(), reason="wants node and .tools/oidc-provider"
)


@dataclass
class Provider:
    """The provider's process: it may be stopped and started again, on the same port."""

    port: int
    folder: Path
    pem: str
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def authority(self) -> str:
        return str(self.folder / "ca.crt")

    def start(self) -> None:
        files = [str(self.folder / "provider.crt"), str(self.folder / "provider.key"), str(MODULES)]
        command = ["node", str(SERVER), str(self.port), *files]
        for _ in range(3):  # node has been seen to hang at its start, before it runs a line of the script
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert self.process.stdout is not None
            too_late = threading.Timer(20, self.process.kill)
            too_late.start()
            try:
                if any(line.strip() == "ready" for line in self.process.stdout):
                    return
            finally:
                too_late.cancel()
        raise RuntimeError("the provider did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def rotate(self) -> None:
        assert requests.post(f"{self.url}/rotate", verify=self.authority, timeout=10).text == "rotated"

    def sign_in(self, user: str) -> str:
        """Walk through the provider's pages as a browser would; gives the ID token."""
        session = requests.Session()
        session.trust_env, session.verify = False, self.authority
        verifier = "v" * 50
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": "kubernetes",
            "response_type": "code",
            "scope": "openid",
            "redirect_uri": CALLBACK,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        answer = session.get(f"{self.url}/auth", params=query, allow_redirects=False, timeout=10)
        code = ""
        for _ in range(12):
            place = answer.headers.get("location", "")
            if place.startswith(CALLBACK):
                code = parse_qs(urlsplit(place).query)["code"][0]
                break
            if answer.is_redirect:
                answer = session.get(urljoin(self.url, place), allow_redirects=False, timeout=10)
                continue
            form = dict(re.findall(r'name="(prompt)" value="(\w+)"', answer.text))
            target = re.search(r'action="([^"]+)"', answer.text)
            assert target is not None, answer.text[:500]
            form |= {"login": user, "password": "any"}
            answer = session.post(urljoin(self.url, target[1]), data=form, allow_redirects=False, timeout=10)
        exchange = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": verifier,
        }
        given = session.post(f"{self.url}/token", data=exchange, auth=("kubernetes", "not-so-secret"), timeout=10)
        return str(given.json()["id_token"])


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    ca, key = certificates.new_authority("issuers"), keys.generate()
    made = certificates.issue(
        ca, key.public_key(), Subject("provider"), usages=certificates.SERVER, hosts=["127.0.0.1"]
    )
    certificates.save_pair(made, key, tmp_path / "provider")
    (tmp_path / "ca.crt").write_bytes(ca.pem)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = Provider(port, tmp_path, ca.pem.decode())
    yield found
    found.stop()


class QuickClock(SystemClock):
    """Real time, but nobody waits long."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.05))


@pytest.fixture
async def server(provider: Provider, world: World) -> AsyncIterator[BuiltAuthentication]:
    entry = {
        "issuer": {
            "url": provider.url,
            "audiences": ["kubernetes"],
            "certificateAuthority": provider.pem,
        },
        "claimMappings": {
            "username": {"expression": "'oidc:' + claims.sub"},
            "groups": {"claim": "groups", "prefix": "oidc:"},
        },
        "claimValidationRules": [{"expression": "claims.exp - claims.iat <= 86400", "message": "too long"}],
    }
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [entry]}
    file = world.write("authentication.yaml", yaml.safe_dump(document))
    built = await build(
        AuthenticationOptions(authentication_config=file, api_audiences=("https://api",)),
        Dependencies(world.objects, QuickClock()),
    )
    yield built
    await built.close()


async def ask(server: BuiltAuthentication, token: str) -> tuple[str, tuple[str, ...]]:
    """Name and groups; asked again while the issuer is not there yet."""
    from kubegate.authentication import AuthenticationError

    async with asyncio.timeout(10):
        while True:
            try:
                found = await server.authenticator.authenticate(bearer(token))
            except AuthenticationError as error:
                if "not initialized" not in str(error):
                    return str(error), ()
                await asyncio.sleep(0.01)
            else:
                assert found is not None
                return found.user.name, found.user.groups


async def test_users_of_a_real_provider_sign_in_through_its_outages_and_new_keys(
    provider: Provider, server: BuiltAuthentication
) -> None:
    # the server has started before the provider
    await asyncio.to_thread(provider.start)
    first = await asyncio.to_thread(provider.sign_in, "peter")
    assert await ask(server, first) == ("oidc:peter", ("oidc:dev", "oidc:ops", "system:authenticated"))

    await asyncio.to_thread(provider.rotate)
    second = await asyncio.to_thread(provider.sign_in, "paula")
    assert (await ask(server, second))[0] == "oidc:paula"

    head, _, signature = second.rpartition(".")
    forged = f"{head}.{first.rpartition('.')[2]}"
    assert "failed to verify signature" in (await ask(server, forged))[0]

    # an outage later on touches nobody whose key is known
    await asyncio.to_thread(provider.stop)
    assert (await ask(server, second))[0] == "oidc:paula"
    assert len(signature) > 100
