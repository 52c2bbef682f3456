"""Keys, certificates and kubeconfigs: what is made, what is kept, and what is said of what is broken."""

from __future__ import annotations

import base64
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from kubegate.pki import certificates, cluster, files, keys, kubeconfig
from kubegate.pki.certificates import Subject
from kubegate.pki.kubeconfig import BadKubeconfig, User

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------------- a server's keys
def test_a_first_start_makes_all_that_a_server_needs(tmp_path: Path) -> None:
    pki = cluster.ensure(tmp_path / "pki", ["10.96.0.1", "gate.example"])
    ca = pki.authority()
    for path in (pki.server_certificate, pki.admin_certificate):
        certificates.load_certificates(path)[0].verify_directly_issued_by(ca.certificate)
    server = certificates.load_certificates(pki.server_certificate)[0]
    assert {"localhost", "127.0.0.1", "::1", "10.96.0.1", "gate.example"} <= set(certificates.hosts_of(server))
    admin = certificates.subject_of(certificates.load_certificates(pki.admin_certificate)[0])
    assert admin == Subject("kubernetes-admin", ("system:masters",))
    signing, checking = keys.load_private(pki.service_account_key), keys.load_public(pki.service_account_public_key)
    assert [signing.public_key()] == checking


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    pki = cluster.ensure(tmp_path / "pki")
    pki.write_admin_kubeconfig("https://127.0.0.1:6443")
    secret = [path for path in pki.directory.iterdir() if path.suffix in (".key", ".kubeconfig")]
    assert len(secret) == 7
    assert {mode(path) for path in secret} == {0o600}
    assert mode(pki.directory) == 0o700


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    first = cluster.ensure(tmp_path, ["gate.example"])
    before = {path.name: path.read_bytes() for path in first.directory.iterdir()}
    cluster.ensure(tmp_path, ["gate.example"])
    cluster.ensure(tmp_path)
    assert {path.name: path.read_bytes() for path in first.directory.iterdir()} == before


def test_what_was_found_good_is_looked_into_again_when_it_is_not_the_same(tmp_path: Path) -> None:
    made = cluster.ensure(tmp_path, ["gate.example"], now=NOW)
    assert not made.unread
    assert cluster.ensure(tmp_path, ["gate.example"], now=NOW).unread
    assert not cluster.ensure(tmp_path, ["gate.example"], now=NOW + timedelta(days=340)).unread
    assert not cluster.ensure(tmp_path, ["other.example"], now=NOW + timedelta(days=340)).unread
    (tmp_path / ".looked-at").write_text("nothing")
    assert not cluster.ensure(tmp_path, now=NOW + timedelta(days=340)).unread
    made.server_key.write_bytes(made.admin_key.read_bytes())
    with pytest.raises(certificates.BadCertificate, match=r"apiserver\.crt does not belong to the key beside it"):
        cluster.ensure(tmp_path, now=NOW + timedelta(days=340))


def test_a_new_host_or_an_end_that_is_near_renews_leaves_and_no_key(tmp_path: Path) -> None:
    pki = cluster.ensure(tmp_path, now=NOW)
    key, ca, old = pki.server_key.read_bytes(), pki.ca_certificate.read_bytes(), pki.server_certificate.read_bytes()
    cluster.ensure(tmp_path, ["new.example"], now=NOW)
    renewed = pki.server_certificate.read_bytes()
    assert renewed != old
    cluster.ensure(tmp_path, ["new.example"], now=NOW + timedelta(days=340))
    assert pki.server_certificate.read_bytes() != renewed
    assert (pki.server_key.read_bytes(), pki.ca_certificate.read_bytes()) == (key, ca)


def test_starts_at_the_same_time_agree(tmp_path: Path) -> None:
    threads = [threading.Thread(target=cluster.ensure, args=(tmp_path / "pki",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pki = cluster.Pki(tmp_path / "pki")
    certificates.load_certificates(pki.server_certificate)[0].verify_directly_issued_by(pki.authority().certificate)


def test_a_certificate_of_another_key_is_not_used(tmp_path: Path) -> None:
    pki = cluster.ensure(tmp_path)
    keys.save(keys.generate(), pki.ca_key, force=True)
    with pytest.raises(certificates.BadCertificate, match=r"ca\.key is not the key of .*ca\.crt"):
        cluster.ensure(tmp_path)


def test_pythons_strict_verification_takes_the_certificates(tmp_path: Path) -> None:
    """And so does openssl -x509_strict: every identifier that RFC 5280 wants is there."""
    pki = cluster.ensure(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pki.server_certificate, pki.server_key)
    client = ssl.create_default_context(cafile=str(pki.ca_certificate))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    shake_hands(client, server, "127.0.0.1")


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=name)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert one.version() is not None


# ---------------------------------------------------------------------- certificates and keys
@pytest.mark.parametrize("algorithm", [a for a in keys.ALGORITHMS if a not in ("rsa-3072", "rsa-4096")])
def test_every_kind_of_key_signs_and_is_read_again(tmp_path: Path, algorithm: str) -> None:
    ca = certificates.new_authority("ca", algorithm=algorithm)
    key = keys.generate(algorithm)
    made = certificates.issue(ca, key.public_key(), Subject("jane", ("dev",), "u-1"))
    certificates.save_pair(made, key, tmp_path / "jane")
    assert certificates.subject_of(certificates.load_certificates(tmp_path / "jane.crt")[0]) == Subject(
        "jane", ("dev",), "u-1"
    )
    assert keys.load_private(tmp_path / "jane.key").public_key() == made.public_key()
    made.verify_directly_issued_by(ca.certificate)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    keys.save(keys.generate(), path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="not overwritten without force"):
        keys.save(keys.generate(), path)
    assert path.read_bytes() == before
    files.write_secret(path, b"new", force=True)
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert [p.name for p in tmp_path.iterdir()] == ["a.key"]


def test_a_certificate_ends_no_later_than_its_authority() -> None:
    ca = certificates.new_authority("ca", days=10, now=NOW)
    made = certificates.issue(ca, keys.generate().public_key(), Subject("a"), days=100, now=NOW)
    assert made.not_valid_after_utc == ca.certificate.not_valid_after_utc


def test_a_request_is_signed_with_what_it_asks_for() -> None:
    ca, key = certificates.new_authority("ca"), keys.generate()
    request = certificates.new_request(key, Subject("jane", ("dev",)), hosts=["a.example", "10.0.0.1"])
    made = certificates.sign_request(
        ca,
        request,
        usages=certificates.SERVER,
        not_before=datetime.now(UTC),
        not_after=datetime.now(UTC) + timedelta(1),
    )
    assert certificates.subject_of(made) == Subject("jane", ("dev",))
    assert certificates.hosts_of(made) == ["a.example", "10.0.0.1"]
    usages = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_named_with_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.key"
    path.write_bytes(content)
    with pytest.raises(keys.BadKey, match=str(path)):
        keys.load_private(path)
    with pytest.raises(keys.BadKey, match=str(path)):
        keys.load_public(path)


def test_public_keys_come_from_keys_and_certificates_alike() -> None:
    ca = certificates.new_authority("ca")
    pem = keys.public_pem(ca.key.public_key()) + ca.pem + keys.private_pem(ca.key)
    assert keys.parse_public(pem) == [ca.key.public_key()] * 3


# ---------------------------------------------------------------------- kubeconfigs
def test_a_kubeconfig_that_was_written_is_read_as_it_was_meant(tmp_path: Path) -> None:
    config = kubeconfig.new(
        "https://127.0.0.1:6443", authority=b"CA", user=User(certificate=b"C", key=b"K"), namespace="ns"
    )
    kubeconfig.write(config, tmp_path / "c")
    found = kubeconfig.load_connection(tmp_path / "c")
    assert (found.server, found.authority, found.certificate, found.key) == (
        "https://127.0.0.1:6443",
        b"CA",
        b"C",
        b"K",
    )
    assert found.namespace == "ns"
    assert "key=" not in repr(found)


@pytest.mark.parametrize(
    "name",
    [
        "kubegate",
        "true",
        "No",
        "1",
        "a b",
        "a:",
        "a: b",
        "# a",
        "",
        "ä",
        "\U0001f600",
        "a\nb",
        "x" * 200,
        "~",
        "-",
        "=a",
    ],
)
def test_a_kubeconfig_is_written_as_a_yaml_library_writes_it(name: str) -> None:
    for user in (User(certificate=b"C" * 1000, key=b"K"), User(exec={"command": name, "args": ["a"], "env": None})):
        made = kubeconfig.new("https://[::1]:6443", authority=b"CA", user=user, cluster_name=name, namespace=name)
        whole = yaml.dump(made, sort_keys=False, allow_unicode=False, encoding="utf-8")
        assert yaml.safe_load(kubeconfig.dump(made)) == made
        assert kubeconfig.dump(made) == whole


def test_files_are_looked_for_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ca.crt").write_bytes(b"CA")
    config = kubeconfig.new("https://a", authority=Path("pki/ca.crt"), user=User(token="t"))
    kubeconfig.write(config, tmp_path / "c")
    assert kubeconfig.load_connection(tmp_path / "c").authority == b"CA"


def test_of_several_kubeconfigs_the_first_to_name_something_wins() -> None:
    first = kubeconfig.new("https://a", authority=None, user=User(token="1"))
    second = kubeconfig.new("https://b", authority=None, user=User(token="2"))
    third = kubeconfig.new("https://c", authority=None, user=User(token="3"), user_name="eve", cluster_name="c")
    merged = kubeconfig.merge(first, second, third)
    assert kubeconfig.resolve(merged).server == "https://a"
    assert kubeconfig.resolve(merged, context="eve@c").token == "3"


def config(**changes: Any) -> str:
    base: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": "https://a"}}],
        "users": [{"name": "me", "user": {"token": "very-secret"}}],
        "contexts": [{"name": "ctx", "context": {"cluster": "it", "user": "me"}}],
        "current-context": "ctx",
    }
    return yaml.safe_dump(base | changes)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file is empty"),
        ("a: [", "line 2, column 1: not YAML"),
        ("- a", "a kubeconfig is a mapping"),
        (config(kind="Pod"), 'kind: must be Config of apiVersion v1, not "Pod"'),
        (config(clusters="x"), "clusters: must be a list"),
        (config(users=[{"user": {}}]), "users[0].name: must be a text"),
        (config(**{"current-context": "other"}), 'current-context: there is no "other" among the contexts'),
        (config(**{"current-context": ""}), "current-context: is not set"),
        (config(clusters=[]), 'there is no "it" among the clusters'),
        (config(clusters=[{"name": "it", "cluster": {"server": "a"}}]), "clusters[0].cluster.server: must be a URL"),
        (
            config(clusters=[{"name": "it", "cluster": {"server": "https://a", "certificate-authority": "no.crt"}}]),
            "clusters[0].cluster.certificate-authority: no.crt cannot be read: No such file or directory",
        ),
        (
            config(clusters=[{"name": "it", "cluster": {"server": "https://a", "certificate-authority-data": "é"}}]),
            "clusters[0].cluster.certificate-authority-data: is not base64",
        ),
        (
            config(users=[{"name": "me", "user": {"client-certificate-data": base64.b64encode(b"C").decode()}}]),
            "users[0].user.client-key: is missing",
        ),
    ],
)
def test_a_broken_kubeconfig_says_where_and_what(text: str, problem: str) -> None:
    with pytest.raises(BadKubeconfig) as failure:
        kubeconfig.resolve(kubeconfig.parse(text, "hook.yaml"), "hook.yaml")
    assert str(failure.value).startswith("hook.yaml: ")
    assert problem in str(failure.value)
    assert "very-secret" not in str(failure.value)


def test_a_kubeconfig_without_contexts_but_with_one_cluster_is_enough() -> None:
    found = kubeconfig.resolve(kubeconfig.parse(config(contexts=[], **{"current-context": ""})))
    assert (found.server, found.token) == ("https://a", "very-secret")
