"""kubectl with `kubegate token` as its credential plugin, against a server and a certified OpenID provider."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import sys
from pathlib import Path

import pytest
from token_browser import walk
from token_world import KUBECTL, KUBEGATE, Done, Issuer, Run, StartApi

pytestmark = pytest.mark.skipif(not KUBECTL.exists(), reason="wants .tools/kubectl-1.36")
BROWSER = Path(__file__).parent / "token_browser.py"
WHOAMI = ("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "kept").glob("*.json"))


async def until_known(run: Run, *words: str, **variables: str) -> Done:
    """The server asks the issuer for its keys when it starts; until it has them it knows nobody."""
    async with asyncio.timeout(20):
        while True:
            done = await run(*words, **variables)
            if done.code == 0 or "Unauthorized" not in done.err:
                return done


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_a_token_in_a_file(start: StartApi, run: Run, tmp_path: Path, version: str) -> None:
    api = await start()
    (tmp_path / "token").write_text("alice-token\n")
    config = api.plugin(
        "static", f"--token-file={tmp_path / 'token'}", version=f"client.authentication.k8s.io/{version}"
    )
    assert await run(str(KUBECTL), "--kubeconfig", config, *WHOAMI) == Done(0, "alice", "")


async def test_a_command_prints_a_token_once_while_it_lasts(start: StartApi, run: Run, tmp_path: Path) -> None:
    api = await start()
    script = tmp_path / "give"
    script.write_text('#!/bin/sh\necho x >>"$0.calls"\necho \'{"data": {"token": "alice-token"}}\'\n')
    script.chmod(0o755)
    config = api.plugin("command", "--token-path=data.token", "--lifetime=600", "--", str(script))
    both = await asyncio.gather(*(run(str(KUBECTL), "--kubeconfig", config, *WHOAMI) for _ in range(2)))
    assert both == [Done(0, "alice", ""), Done(0, "alice", "")]
    assert (tmp_path / "give.calls").read_text() == "x\n"
    assert [stat.S_IMODE(path.stat().st_mode) for path in kept(tmp_path)] == [0o600]


async def test_a_service_account_by_a_token_request(start: StartApi, run: Run, tmp_path: Path) -> None:
    api = await start()
    admin = ("--kubeconfig", str(api.admin))
    made = await run(str(KUBECTL), *admin, "create", "serviceaccount", "builder", "-n", "kube-system")
    assert made.code == 0, made.err
    words = ("service-account", "builder", "-n", "kube-system", f"--kubeconfig={api.admin}", "--duration=900")
    config = api.plugin(*words)
    done = await run(str(KUBECTL), "--kubeconfig", config, *WHOAMI)
    assert done == Done(0, "system:serviceaccount:kube-system:builder", "")
    assert len(kept(tmp_path)) == 1
    missing = await run(KUBEGATE, "token", "service-account", "nobody", f"--kubeconfig={api.admin}")
    assert missing.code == 1 and missing.out == ""
    assert 'serviceaccounts "nobody" not found' in missing.err


def oidc_flags(issuer: Issuer) -> list[str]:
    return [
        f"--oidc-issuer-url={issuer.url}",
        "--oidc-client-id=kubegate-cli",
        f"--oidc-ca-file={issuer.authority}",
        "--oidc-username-prefix=oidc:",
        "--oidc-groups-claim=groups",
    ]


async def test_signing_in_by_the_browser_then_by_refresh(
    start: StartApi, run: Run, issuer: Issuer, tmp_path: Path
) -> None:
    api = await start(*oidc_flags(issuer))
    config = api.plugin(
        "oidc",
        f"--issuer={issuer.url}",
        "--client-id=kubegate-cli",
        f"--certificate-authority={issuer.authority}",
        f"--browser-command={sys.executable} {BROWSER} {issuer.authority} paula",
    )
    done = await until_known(run, str(KUBECTL), "--kubeconfig", config, *WHOAMI)
    assert (done.code, done.out) == (0, "oidc:paula"), done.err
    [path] = kept(tmp_path)
    first = json.loads(path.read_text())
    assert first["refresh"]

    # the next command finds it, and no browser opens
    again = await run(str(KUBECTL), "--kubeconfig", config, *WHOAMI)
    assert again == Done(0, "oidc:paula", "")

    # when it has ended, the refresh token gets another without anybody's doing
    path.write_text(json.dumps({**first, "expires": 1.0}))
    later = await run(str(KUBECTL), "--kubeconfig", config, *WHOAMI)
    assert later == Done(0, "oidc:paula", "")
    # a token made in the same second is the same text; it is when it ends that tells it was asked for anew
    assert json.loads(path.read_text())["expires"] > 1.0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    # and one that the issuer takes no more leads to the browser again
    path.write_text(json.dumps({"token": "", "expires": 1.0, "refresh": "forgotten"}))
    anew = await run(str(KUBECTL), "--kubeconfig", config, *WHOAMI)
    assert (anew.code, anew.out) == (0, "oidc:paula"), anew.err
    assert "has opened in your browser" in anew.err


async def test_signing_in_by_a_code_on_another_machine(run: Run, issuer: Issuer) -> None:
    process = await asyncio.create_subprocess_exec(
        KUBEGATE,
        "token",
        "oidc",
        f"--issuer={issuer.url}",
        "--client-id=kubegate-cli",
        f"--certificate-authority={issuer.authority}",
        "--method=device",
        f"--cache-dir={issuer.authority.parent / 'kept'}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    line = (await process.stderr.readline()).decode()
    found = re.search(r"Sign in at (\S+) with the code (\S+)", line)
    assert found is not None, line
    await asyncio.to_thread(walk, str(issuer.authority), "peter", found[1], found[2])
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    document = json.loads(out)
    assert document["apiVersion"] == "client.authentication.k8s.io/v1"
    assert document["kind"] == "ExecCredential"
    assert document["status"]["token"].count(".") == 2
    assert document["status"]["expirationTimestamp"].endswith("Z")


async def test_an_issuer_that_refuses_is_an_error_of_one_line(run: Run, issuer: Issuer) -> None:
    words = (f"--issuer={issuer.url}", f"--certificate-authority={issuer.authority}", "--method=device")
    done = await run(KUBEGATE, "token", "oidc", *words, "--client-id=nobody")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"kubegate: {issuer.url} refused: invalid_client: client authentication failed\n"
