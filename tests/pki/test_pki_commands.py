"""`kubegate pki` and `kubegate kubeconfig`, as they are typed."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from kubegate.cli.kubeconfig import app as kubeconfig_app
from kubegate.cli.pki import app as pki_app
from kubegate.pki import certificates, keys, kubeconfig
from kubegate.pki.certificates import Subject

Command = Callable[..., Result]


@pytest.fixture
def pki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(pki_app, [str(word) for word in words])


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(kubeconfig_app, [str(word) for word in words])


def openssl(*words: str) -> str:
    return subprocess.run(["openssl", *words], capture_output=True, text=True, check=True).stdout


def mode(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


# ---------------------------------------------------------------------- pki
@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "rsa-2048", "ed25519"])
def test_an_authority_a_server_and_a_client_that_openssl_believes(pki: Command, algorithm: str) -> None:
    assert pki("init", "--algorithm", algorithm).exit_code == 0
    assert pki("server", "api", "--host", "api.example", "--host", "10.0.0.1").exit_code == 0
    assert pki("client", "jane", "--group", "dev", "--group", "qa", "--uid", "u-1").exit_code == 0
    assert openssl(
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "api.example",
        "-CAfile",
        "ca.crt",
        "api.crt",
    )
    assert openssl("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.crt", "jane.crt")
    assert {mode(name) for name in ("ca.key", "api.key", "jane.key")} == {0o600}
    subject = certificates.subject_of(certificates.load_certificates(Path("jane.crt"))[0])
    assert subject == Subject("jane", ("dev", "qa"), "u-1")


def test_nothing_is_overwritten_without_force(pki: Command) -> None:
    pki("init")
    before = Path("ca.key").read_bytes()
    again = pki("init")
    assert again.exit_code == 1
    assert "--force overwrites it" in again.output
    assert Path("ca.key").read_bytes() == before
    assert pki("init", "--force").exit_code == 0
    assert Path("ca.key").read_bytes() != before


def test_openssls_request_is_signed_by_the_rules_of_a_signer(pki: Command) -> None:
    pki("init")
    openssl(
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "j.key", "-out", "j.csr", "-subj", "/O=dev/CN=jane"
    )
    refused = pki("sign", "j.csr", "--signer", "kubernetes.io/kubelet-serving")
    assert (refused.exit_code, "subject organization is not system:nodes" in refused.output) == (1, True)
    assert pki("sign", "j.csr", "--signer", "kubernetes.io/kube-apiserver-client").exit_code == 0
    assert pki("verify", "j.crt", "--key", "j.key").exit_code == 0
    assert "subject=O = dev, CN = jane" in openssl("x509", "-in", "j.crt", "-noout", "-subject")


def test_what_is_in_files_is_shown_and_what_has_ended_is_told_by_the_exit_code(pki: Command) -> None:
    pki("init")
    pki("client", "jane", "--group", "dev", "--days", "10")
    shown = pki("show", "jane.crt", "jane.key", "ca.crt")
    assert shown.exit_code == 0
    for text in ("user         jane", "groups       dev", "ends in 9 days", "ECDSA P-256 key", "authority    yes"):
        assert text in shown.output
    ca = certificates.load_authority(Path("ca.crt"), Path("ca.key"))
    old = certificates.issue(
        ca, keys.generate().public_key(), Subject("old"), now=datetime.now(UTC) - timedelta(3), days=1
    )
    Path("old.crt").write_bytes(certificates.certificate_pem(old))
    ended = pki("show", "old.crt")
    assert (ended.exit_code, "HAS ENDED" in ended.output) == (1, True)
    assert "has expired" in pki("verify", "old.crt").output


def test_a_certificate_of_others_steers_no_terminal(pki: Command) -> None:
    """CVE-2021-25743 of kubectl: escape sequences in what others wrote."""
    pki("init")
    ca = certificates.load_authority(Path("ca.crt"), Path("ca.key"))
    subject = Subject("eve\x1b]0;owned\x07\u202e", ("dev\x1b[2J",))
    evil = certificates.issue(ca, keys.generate().public_key(), subject, usages=certificates.CLIENT)
    Path("evil.crt").write_bytes(certificates.certificate_pem(evil))
    shown = pki("show", "evil.crt").output
    assert "user         eve\\x1b]0;owned\\x07\\u202e" in shown and "groups       dev\\x1b[2J" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("verify", "jane.crt", "--host", "jane"), "incompatible key usage"),
        (("verify", "api.crt", "--host", "other.example"), "the certificate is for *.example, not for other.a.example"),
        (("verify", "api.crt"), "incompatible key usage"),
        (("verify", "jane.crt", "--ca", "other/ca.crt"), "signed by unknown authority"),
        (("verify", "jane.crt", "--key", "api.key"), "api.key is the key of another certificate"),
        (("verify", "none.crt"), "none.crt: No such file or directory"),
        (("verify", "ca.key"), "no PEM certificate could be read"),
    ],
)
def test_a_certificate_that_is_not_good_is_refused_with_the_reason(
    pki: Command, words: tuple[str, ...], why: str
) -> None:
    pki("init")
    pki("init", "--out", "other")
    pki("server", "api", "--host", "*.example")
    pki("client", "jane")
    if "not for" in why:
        words = (*words[:-1], "other.a.example")
    found = pki(*words)
    assert found.exit_code == 1
    assert why in found.output
    assert pki("verify", "api.crt", "--host", "a.example").exit_code == 0


def test_renewing_keeps_key_names_and_usages(pki: Command) -> None:
    pki("init")
    pki("server", "api", "--host", "api.example", "--days", "10")
    before = certificates.load_certificates(Path("api.crt"))[0]
    assert "left alone" in pki("renew", "api.crt", "--within", "5").output
    assert pki("renew", "api.crt", "--within", "20", "--days", "100").exit_code == 0
    after = certificates.load_certificates(Path("api.crt"))[0]
    assert after.public_key() == before.public_key()
    assert certificates.hosts_of(after) == ["api.example"]
    assert after.not_valid_after_utc - before.not_valid_after_utc > timedelta(days=80)
    assert openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.crt", "api.crt")


# ---------------------------------------------------------------------- cfssl
CA_REQUEST = {
    "CN": "Kubernetes",
    "key": {"algo": "rsa", "size": 2048},
    "names": [{"C": "US", "L": "Portland", "O": "Kubernetes", "OU": "CA", "ST": "Oregon"}],
}
SERVER_REQUEST = {
    "CN": "kubernetes",
    "hosts": ["127.0.0.1", "kubernetes.default", "admin@example.org"],
    "key": {"algo": "ecdsa", "size": 256},
    "names": [{"O": "system:masters"}],
}
SIGNING = {
    "signing": {
        "default": {"expiry": "8760h"},
        "profiles": {
            "kubernetes": {"usages": ["signing", "key encipherment", "server auth", "client auth"], "expiry": "1h30m"}
        },
    }
}


def test_cfssls_files_make_cfssls_files(pki: Command) -> None:
    Path("ca-csr.json").write_text(json.dumps(CA_REQUEST))
    Path("server-csr.json").write_text(json.dumps(SERVER_REQUEST))
    Path("ca-config.json").write_text(json.dumps(SIGNING))
    assert pki("gencert", "-initca", "ca-csr.json").exit_code == 0
    made = pki(
        "gencert", "-ca", "ca.pem", "-ca-key", "ca-key.pem", "-config", "ca-config.json", "-profile", "kubernetes",
        "server-csr.json",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert {p.name for p in Path().iterdir()} >= {
        "ca.pem", "ca-key.pem", "ca.csr", "server.pem", "server-key.pem", "server.csr"
    }  # fmt: skip
    assert mode("server-key.pem") == 0o600
    assert openssl("verify", "-CAfile", "ca.pem", "server.pem")
    text = openssl("x509", "-in", "server.pem", "-noout", "-text")
    for part in (
        "O = system:masters, CN = kubernetes",
        "DNS:kubernetes.default",
        "IP Address:127.0.0.1",
        "Key Encipherment",
    ):
        assert part in text
    found = certificates.load_certificates(Path("server.pem"))[0]
    assert found.not_valid_after_utc - found.not_valid_before_utc == timedelta(minutes=95)
    subject = openssl("x509", "-in", "ca.pem", "-noout", "-subject")
    assert "C = US, ST = Oregon, L = Portland, O = Kubernetes, OU = CA, CN = Kubernetes" in subject


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("{", "ca-csr.json: line 1, column 2: not JSON"),
        ("[]", "ca-csr.json: must be a JSON object"),
        ('{"key": {"algo": "dsa", "size": 1}}', "ca-csr.json: key: "),
        ('{"CN": "a", "ca": {"expiry": "soon"}}', "ca-csr.json: ca.expiry: 'soon' is no duration, as 8760h"),
        ('{"CN": "a", "names": [{"C": "Germany"}]}', "ca-csr.json: names[0].C: "),
    ],
)
def test_a_broken_request_says_where(pki: Command, document: str, why: str) -> None:
    Path("ca-csr.json").write_text(document)
    found = pki("gencert", "-initca", "ca-csr.json")
    assert found.exit_code == 1
    assert why in found.output


# ---------------------------------------------------------------------- kubeconfigs
def test_a_kubeconfig_by_certificate_holds_all_of_it_or_names_the_files(pki: Command, config: Command) -> None:
    pki("init")
    pki("client", "jane")
    words = (
        "new",
        "--server",
        "https://a",
        "--certificate-authority",
        "ca.crt",
        "--client-certificate",
        "jane.crt",
        "--client-key",
        "jane.key",
    )
    assert config(*words, "-o", "jane.kubeconfig").exit_code == 0
    assert mode("jane.kubeconfig") == 0o600
    found = kubeconfig.load_connection(Path("jane.kubeconfig"))
    assert found.certificate == Path("jane.crt").read_bytes()
    referring = yaml.safe_load(config(*words, "--refer").output)
    assert referring["users"][0]["user"]["client-key"] == str(Path("jane.key").resolve())
    assert config(*words, "-o", "jane.kubeconfig").exit_code == 1


def test_a_kubeconfig_by_plugin_or_issuer_runs_a_command(config: Command) -> None:
    plugin = yaml.safe_load(config("new", "--server", "https://a", "--exec-command", "get", "--exec-arg", "-x").output)
    assert plugin["users"][0]["user"]["exec"] == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "get",
        "args": ["-x"],
        "interactiveMode": "Never",
        "provideClusterInfo": False,
    }
    issuer = yaml.safe_load(config("new", "--server", "https://a", "--oidc-issuer", "https://i").output)
    assert issuer["users"][0]["user"]["exec"]["args"] == [
        "token",
        "oidc",
        "--issuer=https://i",
        "--client-id=kubernetes",
    ]


def test_kubeconfigs_are_merged_as_kubectl_merges_them(config: Command) -> None:
    for name in ("a", "b"):
        config(
            "new",
            "--server",
            f"https://{name}",
            "--token",
            name,
            "--user",
            name,
            "--cluster",
            name,
            "-o",
            f"{name}.yaml",
        )
    merged = yaml.safe_load(config("merge", "a.yaml", "b.yaml").output)
    assert [entry["name"] for entry in merged["contexts"]] == ["a@a", "b@b"]
    assert merged["current-context"] == "a@a"


def test_what_is_wrong_with_a_kubeconfig_is_told(pki: Command, config: Command) -> None:
    pki("init")
    pki("client", "jane")
    pki("client", "joe")
    ended = base64.urlsafe_b64encode(json.dumps({"exp": 1}).encode()).rstrip(b"=").decode()
    made = kubeconfig.new(
        "http://127.0.0.1:1",
        authority=Path("ca.crt").read_bytes(),
        user=kubeconfig.User(
            certificate=Path("jane.crt").read_bytes(), key=Path("joe.key").read_bytes(), token=f"eyJ9.{ended}.AA"
        ),
    )
    made["contexts"].append({"name": "lost", "context": {"cluster": "nowhere", "user": "nobody"}})
    made["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    kubeconfig.write(made, Path("c"))
    Path("c").chmod(0o644)
    found = config("check", "c")
    assert found.exit_code == 1
    for text in (
        "c can be read by others (mode 0644); chmod 600 c",
        "is not encrypted",
        "the client's key is not that of its certificate",
        'there is no "nowhere" among the clusters',
        "connect: connection refused",
    ):
        assert text in found.output


async def test_a_kubeconfig_that_works_is_found_to_work(pki: Command, config: Command) -> None:
    pki("init")
    pki("server", "api", "--host", "127.0.0.1")
    pki("client", "jane")
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        code = b"200 OK" if writer.get_extra_info("peercert") else b"401 Unauthorized"
        writer.write(b"HTTP/1.1 " + code + b"\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("api.crt", "api.key")
    context.load_verify_locations("ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with_certificate = ("--client-certificate", "jane.crt", "--client-key", "jane.key")
    for name, credentials in (("good", with_certificate), ("bad", ("--token", "wrong"))):
        made = await asyncio.to_thread(
            config, "new", "--server", url, "--certificate-authority", "ca.crt", *credentials, "-o", name
        )
        assert made.exit_code == 0
    good = await asyncio.to_thread(config, "check", "good")
    assert (good.exit_code, good.output) == (0, "good: nothing is wrong\n")
    bad = await asyncio.to_thread(config, "check", "bad")
    assert (bad.exit_code, "does not know the credentials" in bad.output) == (1, True)
    assert asked[0].startswith(b"GET /version ")
    server.close()
