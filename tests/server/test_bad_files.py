"""Files, ports and stores that cannot be used: one line says what and where, exit code 1, nothing changed on disk."""

from __future__ import annotations

import hashlib
import socket
import subprocess
from pathlib import Path

import pytest
from server_process import command, serving

from kubegate.pki.cluster import ensure

GARBAGE = "{this is: [neither YAML nor PEM"
# Flags that name a file, and other flags without which they mean nothing.
FILE_FLAGS: dict[str, tuple[str, ...]] = {
    "tls-cert-file": ("--tls-private-key-file={good}/pki/apiserver.key",),
    "tls-private-key-file": ("--tls-cert-file={good}/pki/apiserver.crt",),
    "client-ca-file": (),
    "token-auth-file": (),
    "basic-auth-file": (),
    "authentication-config": (),
    "requestheader-client-ca-file": ("--requestheader-username-headers=X-Remote-User",),
    "authentication-token-webhook-config-file": (),
    "service-account-key-file": (),
    "service-account-signing-key-file": ("--service-account-issuer=https://x",),
    "oidc-ca-file": ("--oidc-issuer-url=https://x", "--oidc-client-id=x"),
    "authorization-config": (),
    "authorization-policy-file": ("--authorization-mode=ABAC",),
    "authorization-webhook-config-file": ("--authorization-mode=Webhook",),
    "admission-control-config-file": (),
    "audit-policy-file": ("--audit-log-path=-",),
    "audit-webhook-config-file": ("--audit-policy-file={policy}",),
    "encryption-provider-config": (),
    "cluster-signing-cert-file": ("--cluster-signing-key-file={good}/pki/ca.key",),
    "cluster-signing-key-file": ("--cluster-signing-cert-file={good}/pki/ca.crt",),
    "root-ca-file": (),
}


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def refused(folder: Path, *flags: str) -> str:
    """The one line on stderr, warnings left out, of a server that does not start."""
    done = subprocess.run(command(folder, *flags), capture_output=True, text=True, timeout=30)
    lines = [line for line in done.stderr.splitlines() if " W kubegate." not in line]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1 and lines[0].startswith("kubegate: "), done.stderr
    assert done.stdout == ""
    return lines[0]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with keys."""
    folder = tmp_path_factory.mktemp("good")
    ensure(folder / "pki", ["127.0.0.1"])
    (folder / "policy.yaml").write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]\n")
    return folder


def flags_for(flag: str, path: Path, good: Path) -> list[str]:
    others = [other.format(good=good, policy=good / "policy.yaml") for other in FILE_FLAGS[flag]]
    return [f"--{flag}={path}", *others, "--storage=memory"]


@pytest.mark.parametrize("flag", FILE_FLAGS)
def test_a_file_that_is_missing_is_named(good: Path, tmp_path: Path, flag: str) -> None:
    before = fingerprint(good)
    path = tmp_path / "absent.yaml"
    assert str(path) in refused(good, *flags_for(flag, path, good))
    assert fingerprint(good) == before


@pytest.mark.parametrize("flag", FILE_FLAGS)
def test_a_file_that_cannot_be_read_as_what_it_should_be_is_named(good: Path, tmp_path: Path, flag: str) -> None:
    before = fingerprint(good)
    path = tmp_path / "garbage.yaml"
    path.write_text(GARBAGE)
    assert str(path) in refused(good, *flags_for(flag, path, good))
    assert fingerprint(good) == before


def test_a_port_in_use_is_named_with_what_to_do(good: Path) -> None:
    before = fingerprint(good)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(good, "--storage=memory", f"--secure-port={port}")
    assert f"127.0.0.1:{port} is in use by another program" in line
    assert fingerprint(good) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a text", b"this is no database\n" * 500),
        ("another program's database", None),
        ("the head of a database", b"SQLite format 3\0" + b"\xff" * 8000),
    ],
)
def test_a_store_that_is_not_ours_is_named_and_left_alone(
    good: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / "foreign.db"
    if content is None:
        import sqlite3

        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE recipes (name TEXT)")
        database.close()
    else:
        path.write_bytes(content)
    before = fingerprint(tmp_path)
    assert str(path) in refused(good, f"--storage=sqlite:{path}")
    assert fingerprint(tmp_path) == before


def test_a_store_with_a_page_of_noise_is_named_and_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with serving(state, ()):
        pass
    [path] = [found for found in state.iterdir() if found.suffix in (".db", ".sqlite", ".sqlite3")]
    damaged = bytearray(path.read_bytes())
    damaged[4096 : len(damaged)] = b"\x5a" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    before = fingerprint(state)
    assert str(path) in refused(state)
    assert fingerprint(state) == before
