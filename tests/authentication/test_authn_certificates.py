"""Client certificates: who they are for, and which are refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from people import START, World, authority, client

from kubegate.authentication import Headers, Request
from kubegate.authentication.chains import Pool, verify
from kubegate.authentication.x509 import VerificationError
from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Authority, Subject


def shown(*chain: bytes) -> Request:
    return Request("GET", "/", Headers.of([]), chain)


async def start(world: World, *authorities: Authority) -> World:
    pem = b"".join(found.pem for found in authorities)
    return await world.start(client_ca_file=world.write("ca.crt", pem))


async def test_the_common_name_is_the_user_and_organizations_are_groups(world: World) -> None:
    ca = authority()
    await start(world, ca)
    der = client(ca, "jane", "dev", "qa", uid="u-jane")
    found = await world.ask(shown(der))
    assert found is not None
    assert (found.user.name, found.user.uid) == ("jane", "u-jane")
    assert found.user.groups == ("dev", "qa", "system:authenticated")
    credential = f"X509SHA256={certificates.fingerprint(der)}"
    assert found.user.extra == {"authentication.kubernetes.io/credential-id": (credential,)}


async def test_authorities_that_were_good_before_are_looked_into_for_the_first_certificate(world: World) -> None:
    ca, path = authority(), world.write("ca.crt", "no certificates")
    with pytest.raises(ValueError, match="--client-ca-file"):
        await world.start(client_ca_file=path)
    path = world.write("ca.crt", ca.pem)
    await world.start(client_ca_file=path, good_authorities=(path,))
    assert await world.who(shown()) == "system:anonymous"
    assert await world.who(shown(client(ca))) == "jane"
    world.write("ca.crt", "no certificates any more")
    await world.built.reload()
    assert await world.who(shown(client(ca, "joe"))) == "joe"


async def test_authorities_that_are_broken_since_they_were_good_trust_nobody(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    path = world.write("ca.crt", "no certificates")
    await world.start(client_ca_file=path, good_authorities=(path,))
    world.built.load()
    assert "no client certificate can be trusted" in caplog.text
    with pytest.raises(ValueError, match="no PEM certificate could be read"):
        await world.who(shown(client(authority())))


async def test_no_certificate_is_no_credential(world: World) -> None:
    await start(world, authority())
    assert await world.who(shown()) == "system:anonymous"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"start": -30 * 86400, "days": 10}, "certificate has expired or is not yet valid"),
        ({"start": 86400, "days": 10}, "certificate has expired or is not yet valid"),
        ({"usages": certificates.SERVER}, "certificate specifies an incompatible key usage"),
    ],
)
async def test_certificates_that_are_not_for_clients_now_are_refused(
    world: World, made: dict[str, float], why: str
) -> None:
    ca = certificates.new_authority("kubernetes", now=datetime.fromtimestamp(START - 60 * 86400, UTC))
    await start(world, ca)
    assert why in await world.who(shown(client(ca, **made)))


async def test_a_ca_of_the_same_name_is_not_the_ca(world: World) -> None:
    await start(world, authority("kubernetes"))
    text = await world.who(shown(client(authority("kubernetes"), "kubernetes-admin", "system:masters")))
    assert text.endswith("x509: certificate signed by unknown authority")


async def test_an_expired_ca_makes_nobody_known(world: World) -> None:
    ca = certificates.new_authority("kubernetes", now=datetime.fromtimestamp(START - 10 * 86400, UTC), days=5)
    key = keys.generate()
    made = certificates.issue(
        ca, key.public_key(), Subject("jane"), now=datetime.fromtimestamp(START - 9 * 86400, UTC), days=3
    )
    await start(world, ca)
    assert "certificate has expired" in await world.who(shown(certificates.der(made)))


async def test_a_certificate_ends_while_it_is_remembered(world: World) -> None:
    ca = authority()
    await start(world, ca)
    request = shown(client(ca, days=1))
    assert await world.who(request) == "jane"
    world.clock.move(2 * 86400)
    assert "certificate has expired" in await world.who(request)


async def test_without_a_common_name_there_is_no_user(world: World) -> None:
    ca = authority()
    await start(world, ca)
    assert await world.who(shown(client(ca, "", "system:masters"))) == "system:anonymous"


async def test_of_several_common_names_the_last_one_counts(world: World) -> None:
    ca = authority()
    await start(world, ca)
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, "eve"), x509.NameAttribute(NameOID.COMMON_NAME, "jane")]
    assert await world.who(shown(odd(ca, subject))) == "jane"


async def test_two_uids_are_refused(world: World) -> None:
    ca = authority()
    await start(world, ca)
    uid = certificates.UID_OID
    subject = [x509.NameAttribute(uid, "a"), x509.NameAttribute(uid, "b"), x509.NameAttribute(NameOID.COMMON_NAME, "j")]
    assert await world.who(shown(odd(ca, subject))) == "refused: expected 1 UID, but found multiple: [a b]"


async def test_an_empty_uid_is_refused(world: World) -> None:
    ca = authority()
    await start(world, ca)
    name = x509.NameAttribute(NameOID.COMMON_NAME, "jane")
    uid = x509.NameAttribute(certificates.UID_OID, "")
    assert await world.who(shown(odd(ca, [uid, name]))) == "refused: UID cannot be an empty string"


async def test_what_is_no_certificate_is_refused(world: World) -> None:
    await start(world, authority())
    assert "malformed certificate" in await world.who(shown(b"\x30\x03\x02\x01\x01"))


async def test_a_changed_ca_file_ends_the_old_cas_certificates_at_once(world: World) -> None:
    old, new = authority("old"), authority("new")
    await start(world, old)
    before, after = shown(client(old)), shown(client(new))
    assert await world.who(before) == "jane"
    world.write("ca.crt", new.pem)
    await world.built.reload()
    assert "unknown authority" in await world.who(before)
    assert await world.who(after) == "jane"


# ---------------------------------------------------------------------- chains
def odd(ca: Authority, subject: list[x509.NameAttribute[str]]) -> bytes:
    key = keys.generate()
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.fromtimestamp(START - 60, UTC))
        .not_valid_after(datetime.fromtimestamp(START + 60, UTC))
        .sign(ca.key, hashes.SHA256())
    )
    return certificates.der(made)


def under(
    parent: Authority,
    name: str = "intermediate",
    *,
    authority: bool = True,
    path_length: int | None = None,
    **more: object,
) -> Authority:
    """A certificate that may sign others, signed by `parent`."""
    key = keys.generate()
    builder = (
        x509.CertificateBuilder()
        .subject_name(Subject(name).name())
        .issuer_name(parent.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(START - 60, UTC))
        .not_valid_after(datetime.fromtimestamp(START + 86400, UTC))
        .add_extension(x509.BasicConstraints(authority, path_length), critical=True)
    )
    if "constraints" in more:
        builder = builder.add_extension(more["constraints"], critical=True)  # type: ignore[arg-type]
    if "usages" in more:
        builder = builder.add_extension(x509.ExtendedKeyUsage(more["usages"]), critical=False)  # type: ignore[arg-type]
    return Authority(builder.sign(parent.key, hashes.SHA256()), key)  # type: ignore[arg-type]


def check(root: Authority, *chain: bytes) -> str:
    try:
        return certificates.subject_of(verify(chain, Pool.parse(root.pem), START).leaf).common_name
    except VerificationError as error:
        return str(error)


def der(found: Authority) -> bytes:
    return certificates.der(found.certificate)


def test_intermediates_that_the_client_sends_are_used() -> None:
    root = authority()
    middle = under(root)
    assert check(root, client(middle, start=0), der(middle)) == "jane"
    assert check(root, client(middle, start=0)) == "x509: certificate signed by unknown authority"


def test_an_intermediate_that_is_no_authority_signs_nothing() -> None:
    """CVE-2016-7075."""
    root = authority()
    leaf = under(root, authority=False)
    assert "cannot sign" in check(root, client(leaf, start=0), der(leaf))


def test_the_path_may_be_no_longer_than_an_authority_allows() -> None:
    root = authority(path_length=0)
    middle = under(root)
    assert "too many intermediates" in check(root, client(middle, start=0), der(middle))


def test_an_intermediate_for_servers_alone_makes_no_clients() -> None:
    root = authority()
    middle = under(root, usages=[ExtendedKeyUsageOID.SERVER_AUTH])
    assert "incompatible key usage" in check(root, client(middle, start=0), der(middle))


def test_name_constraints_hold_for_alternative_names() -> None:
    root = authority()
    middle = under(root, constraints=x509.NameConstraints([x509.DNSName("example.org")], None))
    assert check(root, client(middle, start=0, hosts=["a.example.org"]), der(middle)) == "jane"
    assert "not permitted by any constraint" in check(root, client(middle, start=0, hosts=["a.org"]), der(middle))
    excluding = under(root, constraints=x509.NameConstraints(None, [x509.DNSName("example.org")]))
    assert "excluded by a constraint" in check(root, client(excluding, start=0, hosts=["example.org"]), der(excluding))


def test_names_are_compared_with_so_many_constraints_and_no_more() -> None:
    """CVE-2025-58187: names times constraints took minutes; Go refuses as many."""
    root = authority()
    constraints = x509.NameConstraints([x509.DNSName(f"{i}.example.org") for i in range(501)], None)
    middle = under(root, constraints=constraints)
    hosts = [f"{i}.0.example.org" for i in range(500)]
    assert check(root, client(middle, start=0, hosts=hosts[1:]), der(middle)) == "jane"
    assert check(root, client(middle, start=0, hosts=hosts), der(middle)) == "x509: too many constraints"


def test_a_pool_may_hold_a_client_certificate_itself() -> None:
    ca = authority()
    made = client(ca)
    pem = certificates.certificate_pem(certificates.parse_der(made))
    assert verify([made], Pool.parse(pem), START).leaf.subject == certificates.parse_der(made).subject


def test_a_chain_in_a_circle_ends() -> None:
    """CVE-2018-16875 and its kind: chains that take for ever to check."""
    root, other = authority("a"), authority("b")
    a_by_b, b_by_a = under(other, "a"), under(authority("a"), "b")
    leaf = client(Authority(a_by_b.certificate, a_by_b.key), start=0)
    assert "x509:" in check(root, leaf, der(a_by_b), der(b_by_a), der(a_by_b), der(b_by_a))


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 400), value=st.integers(0, 255))
def test_no_changed_byte_makes_somebody_else(position: int, value: int) -> None:
    der_ = bytearray(_LEAF)
    der_[position % len(der_)] = value
    if bytes(der_) == _LEAF:
        return
    name = check(_ROOT, bytes(der_))
    # a change that leaves the signed part and the signature's value alone changes nobody
    assert name.startswith("x509:") or name == "jane"


_ROOT = authority()
_LEAF = client(_ROOT)


# ---------------------------------------------------------------------- the front proxy
async def start_with_proxy(world: World, **more: object) -> tuple[Authority, Authority]:
    ca, front = authority(), authority("front")
    await world.start(
        client_ca_file=world.write("ca.crt", ca.pem),
        requestheader_client_ca_file=world.write("front.crt", front.pem),
        requestheader_allowed_names=("front-proxy-client",),
        requestheader_username_headers=("X-Remote-User",),
        requestheader_uid_headers=("X-Remote-Uid",),
        requestheader_group_headers=("X-Remote-Group",),
        requestheader_extra_headers_prefix=("X-Remote-Extra-",),
        **more,
    )
    return ca, front


def through(der_: bytes, *headers: tuple[str, str]) -> Request:
    return Request("GET", "/", Headers.of(list(headers)), (der_,))


async def test_the_proxys_headers_say_who_is_asking(world: World) -> None:
    _, front = await start_with_proxy(world)
    proxy = client(front, "front-proxy-client")
    found = await world.ask(
        through(
            proxy,
            ("x-remote-user", "xenia"),
            ("x-remote-user", "yuri"),
            ("x-remote-uid", "u-1"),
            ("x-remote-group", "dev"),
            ("x-remote-group", ""),
            ("x-remote-group", "ops"),
            ("x-remote-extra-acme.com%2fproject%20id", "p1"),
            ("x-remote-extra-acme.com%2fproject%20id", "p2"),
            ("x-remote-extra-bad%zz", "v"),
            ("x-remote-extra-", "e"),
        )
    )
    assert found is not None
    assert (found.user.name, found.user.uid) == ("xenia", "u-1")
    assert found.user.groups == ("dev", "ops", "system:authenticated")
    assert found.user.extra == {"acme.com/project id": ("p1", "p2"), "bad%zz": ("v",), "": ("e",)}


async def test_bytes_that_are_no_text_become_replacement_characters(world: World) -> None:
    _, front = await start_with_proxy(world)
    proxy = client(front, "front-proxy-client")
    headers = Headers([(b"x-remote-user", b"zo\xff\xfe"), (b"x-remote-extra-a%ff%c3%bc", b"v\xe9")])
    found = await world.ask(Request("GET", "/", headers, (proxy,)))
    assert found is not None
    assert (found.user.name, found.user.extra) == ("zo\ufffd\ufffd", {"a\ufffd\u00fc": ("v\ufffd",)})


async def test_headers_of_others_are_not_looked_at(world: World) -> None:
    ca, front = await start_with_proxy(world)
    eve = ("x-remote-user", "eve")
    assert await world.who(through(client(ca), eve)) == "jane"
    assert await world.who(Request("GET", "/", Headers.of([eve]))) == "system:anonymous"
    text = await world.who(through(client(front, "someone-else"), eve))
    assert "x509: subject with cn=someone-else is not in the allowed list" in text


async def test_a_proxy_that_names_nobody_is_nobody(world: World) -> None:
    _, front = await start_with_proxy(world)
    proxy = client(front, "front-proxy-client")
    for headers in ([], [("x-remote-user", "")], [("x-remote-group", "system:masters")]):
        assert (await world.who(through(proxy, *headers))).startswith("refused: verifying certificate")


@pytest.mark.parametrize("name", ["x_remote_user", "x-remote_user", "x-remote-user ", "remote-user", "x--remote-user"])
async def test_headers_that_only_look_like_the_proxys_are_not_read(world: World, name: str) -> None:
    _, front = await start_with_proxy(world)
    assert (await world.who(through(client(front, "front-proxy-client"), (name, "eve")))).startswith("refused")
