"""Token sources named in a file: hashes, a real directory, another cluster, issuers; their chain and its errors."""

from __future__ import annotations

import asyncio
import base64
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ldap_directory import SLAPD, RunningDirectory, directory
from people import HandClock
from test_authn_oidc import IssuerOf

from kubegate.authentication import AuthenticationError
from kubegate.authentication.sources import passwords
from kubegate.authentication.sources.chain import SourceChain
from kubegate.authentication.sources.config import load, parse
from kubegate.authentication.sources.places import BadSources
from kubegate.pki import kubeconfig

sys.path.append(str(Path(__file__).parent.parent / "remote"))

from remote_server import Serve, serve  # noqa: F401

pytest.importorskip("argon2")
pytest.importorskip("bcrypt")


def argon2(secret: str) -> str:
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(secret)


def bcrypt(secret: str) -> str:
    import bcrypt as library

    return library.hashpw(secret.encode(), library.gensalt(4)).decode()


class Chains:
    """`await chain(source, …)` starts the chain of a file with these sources."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, HandClock()
        self.started: list[SourceChain] = []

    def write(self, *sources: dict[str, Any]) -> Path:
        path = self.folder / "sources.yaml"
        document = {"apiVersion": "kubegate.dev/v1", "kind": "TokenSources", "sources": list(sources)}
        path.write_text(yaml.safe_dump(document))
        return path

    def users(self, *users: dict[str, Any], file: str = "users.yaml") -> dict[str, Any]:
        (self.folder / file).write_text(yaml.safe_dump({"users": list(users)}))
        return {"name": "people", "staticUsers": {"file": file}}

    async def __call__(self, *sources: dict[str, Any]) -> SourceChain:
        chain = load(self.write(*sources)).build(self.clock)
        chain.start()
        self.started.append(chain)
        return chain


@pytest.fixture
async def chains(tmp_path: Path) -> AsyncIterator[Chains]:
    found = Chains(tmp_path)
    yield found
    for chain in found.started:
        await chain.close()


async def who(chain: SourceChain, token: str) -> str:
    """`name groups`, "nobody", or what the error says."""
    try:
        found = await chain.authenticate_token(token)
    except AuthenticationError as error:
        return str(error)
    return "nobody" if found is None else f"{found.user.name} {','.join(found.user.groups)}".rstrip()


# ---------------------------------------------------------------------- static users
async def test_users_with_argon2_and_bcrypt_hashes_by_name_and_secret(chains: Chains) -> None:
    users = chains.users(
        {"name": "alice", "uid": "u-1", "groups": ["dev"], "hash": argon2("s3cret: with colon")},
        {"name": "bob", "hash": bcrypt("builder")},
    )
    chain = await chains(users)
    assert await who(chain, "alice:s3cret: with colon") == "alice dev"
    assert await who(chain, base64.b64encode(b"alice:s3cret: with colon").decode()) == "alice dev"
    assert await who(chain, base64.urlsafe_b64encode(b"bob:builder").decode().rstrip("=")) == "bob"
    for wrong in ("alice:s3cret", "bob:", ":builder", "carol:builder", "bob", "bob:builder\0", "ey.a.b"):
        assert await who(chain, wrong) == "nobody"


async def test_a_changed_file_of_users_ends_what_was_known(chains: Chains) -> None:
    chain = await chains(chains.users({"name": "bob", "hash": bcrypt("builder")}))
    assert await who(chain, "bob:builder") == "bob"
    chains.users({"name": "bob", "hash": bcrypt("another")})
    await chain.refresh()
    assert await who(chain, "bob:builder") == "nobody"
    assert await who(chain, "bob:another") == "bob"


async def test_what_is_known_is_not_hashed_again(chains: Chains, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = await chains(chains.users({"name": "bob", "hash": bcrypt("builder")}))
    tried: list[str] = []
    real = passwords.matches
    monkeypatch.setattr(passwords, "matches", lambda secret, text: tried.append(secret) or real(secret, text))
    assert set(await asyncio.gather(*(who(chain, "bob:builder") for _ in range(20)))) == {"bob"}
    assert await who(chain, "bob:builder") == "bob"
    assert len(tried) == 1
    chains.clock.time += 61
    assert await who(chain, "bob:builder") == "bob"
    assert len(tried) == 2
    # a name that is not there costs a hash as well
    assert await who(chain, "carol:builder") == "nobody"
    assert len(tried) == 3


def test_bcrypt_does_not_take_a_secret_for_another_that_goes_on_after_72_bytes() -> None:
    assert passwords.matches("x" * 72, bcrypt("x" * 72))
    assert not passwords.matches("x" * 73, bcrypt("x" * 72))
    with pytest.raises(passwords.PasswordError, match="72 bytes"):
        passwords.hashed("x" * 73, "bcrypt")


# ---------------------------------------------------------------------- a directory
@pytest.fixture(scope="module")
def ldap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDirectory]:
    pytest.importorskip("ldap3")
    if SLAPD is None:
        pytest.skip("wants slapd: scripts/tools.py slapd")
    with directory(tmp_path_factory.mktemp("ldap")) as running:
        yield running


def directory_source(ldap: RunningDirectory, **changes: Any) -> dict[str, Any]:
    given = {
        "url": f"ldaps://127.0.0.1:{ldap.port}",
        "certificateAuthority": str(ldap.folder / "ldap-ca.crt"),
        "userDN": "uid={username},ou=people,dc=example,dc=org",
        "groupSearch": {"base": "ou=groups,dc=example,dc=org", "filter": "(member={dn})"},
    } | changes
    return {"name": "directory", "ldap": {name: value for name, value in given.items() if value is not None}}


def searching(ldap: RunningDirectory, **changes: Any) -> dict[str, Any]:
    (ldap.folder / "reader").write_text("reader-secret\n")
    account = {"bindDN": "cn=reader,dc=example,dc=org", "bindPasswordFile": str(ldap.folder / "reader")}
    search = {"base": "ou=people,dc=example,dc=org", "filter": "(|(uid={username})(mail={username}))"}
    found = {"userDN": None, "userSearch": search, "usernameAttribute": "uid", "uidAttribute": "employeeNumber"}
    return directory_source(ldap, **account | found | changes)


async def test_a_bind_with_the_users_own_secret(chains: Chains, ldap: RunningDirectory) -> None:
    chain = await chains(directory_source(ldap))
    assert await who(chain, base64.b64encode(b"alice:wonder land").decode()) == "alice dev"
    assert await who(chain, "ALICE:wonder land") == "alice dev"  # one entry is one user, however it is typed
    assert await who(chain, "o, brien*(x):odd") == "o, brien*(x) dev"
    for wrong in ("alice:builder", "carol:builder", "alice,ou=people,dc=example,dc=org:wonder land", "*:odd"):
        assert await who(chain, wrong) == "nobody"


async def test_a_search_finds_the_user_by_name_or_mail(chains: Chains, ldap: RunningDirectory) -> None:
    chain = await chains(searching(ldap))
    assert await who(chain, "alice@example.org:wonder land") == "alice dev"
    found = await chain.authenticate_token("alice:wonder land")
    assert found is not None
    assert (found.user.uid, found.authenticator) == ("17", "directory")
    # neither a star nor a filter of the caller's is a search for somebody
    for wrong in ("*:wonder land", "alice)(uid=*:wonder land", "ali*:wonder land", "bob:", "nobody:x"):
        assert await who(chain, wrong) == "nobody"


async def test_a_group_of_the_directory_makes_nobody_a_master(chains: Chains, ldap: RunningDirectory) -> None:
    assert await who(await chains(directory_source(ldap)), "bob:builder") == "bob"
    trusted = directory_source(ldap) | {"allowSystem": True}
    assert await who(await chains(trusted), "bob:builder") == "bob system:masters"


async def test_start_tls(chains: Chains, ldap: RunningDirectory) -> None:
    chain = await chains(directory_source(ldap, url=f"ldap://127.0.0.1:{ldap.plain_port}", startTLS=True))
    assert await who(chain, "bob:builder") == "bob"


async def test_a_directory_with_another_authority_is_not_told_the_secret(
    chains: Chains, ldap: RunningDirectory, tmp_path: Path
) -> None:
    from kubegate.pki import certificates

    (tmp_path / "other.crt").write_bytes(certificates.new_authority("others").pem)
    chain = await chains(directory_source(ldap, certificateAuthority=str(tmp_path / "other.crt")))
    said = await who(chain, "bob:builder")
    assert said.startswith(f"directory: ldap: ldaps://127.0.0.1:{ldap.port}: ")
    assert "builder" not in said


async def test_a_directory_under_another_name_is_not_told_the_secret(chains: Chains, ldap: RunningDirectory) -> None:
    chain = await chains(directory_source(ldap, url=f"ldaps://127.0.0.2:{ldap.port}"))
    with socket.create_connection(("127.0.0.2", ldap.port), 5):
        pass  # it is there, and its certificate is not for this name
    assert await who(chain, "bob:builder") == f"directory: ldap: ldaps://127.0.0.2:{ldap.port}: LDAPSocketOpenError"


async def test_a_directory_that_is_gone_does_not_keep_the_next_source_from_answering(
    chains: Chains, ldap: RunningDirectory
) -> None:
    gone = directory_source(ldap, url="ldaps://127.0.0.1:9", timeoutSeconds=2)
    chain = await chains(gone, chains.users({"name": "bob", "hash": bcrypt("builder")}))
    assert await who(chain, "bob:builder") == "bob"
    assert (await who(chain, "bob:wrong")).startswith("directory: ldap: ldaps://127.0.0.1:9: LDAPSocketOpenError")


# ---------------------------------------------------------------------- another cluster
StartCluster = Callable[[], Awaitable[str]]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[StartCluster]:
    """Another API server; gives the kubeconfig of somebody who may review tokens there."""
    from kubegate.server.options import parse as options
    from kubegate.server.process import Server

    running: list[Server] = []

    async def start() -> str:
        folder = tmp_path / "other"
        folder.mkdir()
        lines = ['admin-token,admin,u-admin,"system:masters"', 'kim-token,kim,u-kim,"dev,ops"']
        (folder / "tokens.csv").write_text("\n".join(lines))
        words = ["--secure-port=0", f"--data-dir={folder}", "--storage=memory"]
        server = Server(options([*words, f"--token-auth-file={folder / 'tokens.csv'}"]).options)
        await server.start()
        running.append(server)
        assert server.pki is not None
        authority, user = server.pki.ca_certificate.read_bytes(), kubeconfig.User(token="admin-token")
        kubeconfig.write(kubeconfig.new(server.url, authority=authority, user=user), folder / "reviewer.kubeconfig")
        return str(folder / "reviewer.kubeconfig")

    yield start
    for server in running:
        await server.stop()


async def test_another_cluster_knows_the_token(chains: Chains, cluster: StartCluster) -> None:
    file = await cluster()
    chain = await chains(
        {
            "name": "production",
            "tokenReview": {"kubeconfig": file},
            "users": {"prefix": "production:"},
            "groups": {"prefix": "production:", "map": {"ops": ["operators", "on-call"]}, "add": ["guests"]},
        }
    )
    assert await who(chain, "kim-token") == "production:kim production:dev,operators,on-call,guests"
    assert await who(chain, "admin-token") == "production:admin production:system:masters,guests"
    assert "guests" not in await who(chain, "unknown-token")


async def test_masters_of_another_cluster_are_none_here(chains: Chains, cluster: StartCluster) -> None:
    chain = await chains({"name": "production", "tokenReview": {"kubeconfig": await cluster()}})
    assert await who(chain, "admin-token") == "admin"
    mapped = {"name": "production", "tokenReview": {"kubeconfig": str(chains.folder / "other" / "reviewer.kubeconfig")}}
    chain = await chains(mapped | {"groups": {"onlyMapped": True, "map": {"ops": ["ops"]}}})
    assert await who(chain, "kim-token") == "kim ops"


# ---------------------------------------------------------------------- issuers
async def test_issuers_written_as_in_an_authentication_configuration(chains: Chains, serve: Serve) -> None:  # noqa: F811
    issuer = IssuerOf(chains.clock)
    issuer.server = await serve(issuer.answer)
    entry = {
        "issuer": {
            "url": issuer.url,
            "audiences": ["kubernetes"],
            "certificateAuthority": issuer.server.authority.pem.decode(),
        },
        "claimMappings": {"username": {"expression": "claims.sub"}, "groups": {"claim": "roles", "prefix": ""}},
    }
    chain = await chains(
        {"name": "issuers", "jwt": [entry], "users": {"prefix": "sso:"}, "groups": {"map": {"admin": ["admins"]}}}
    )
    token = issuer.token(roles=["admin", "system:masters", "dev"])
    async with asyncio.timeout(5):
        while "not initialized" in await who(chain, token):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    assert await who(chain, token) == "sso:peter admins,dev"
    assert await who(chain, issuer.token(sub="system:admin")) == "sso:system:admin"
    assert "signature" in await who(chain, token[:-8] + "AAAAAAAA")


# ---------------------------------------------------------------------- the file
async def test_the_first_source_that_knows_the_token_answers(chains: Chains) -> None:
    first = chains.users({"name": "bob", "groups": ["one"], "hash": bcrypt("builder")})
    second = chains.users({"name": "bob", "groups": ["two"], "hash": bcrypt("another")}, file="second.yaml")
    chain = await chains(first, second | {"name": "others"})
    assert await who(chain, "bob:builder") == "bob one"
    assert await who(chain, "bob:another") == "bob two"


def one(**source: Any) -> dict[str, Any]:
    return {"sources": [{"name": "x"} | source]}


LDAP = {"url": "ldaps://ldap.example", "userDN": "uid={username},dc=example"}
WRONG = [
    ({"kind": "Sources"}, "kind: must be TokenSources"),
    ({"apiVersion": "v1"}, "apiVersion: must be kubegate.dev/v1"),
    ({"sources": []}, "sources: there is none"),
    ({"sources": {}}, "sources: must be a list"),
    ({"sources": ["x"]}, "sources[0]: must be a mapping"),
    ({"source": []}, "source: there is no such field"),
    (one(), "sources[0]: must have one of staticUsers, tokenReview, ldap, jwt"),
    (one(ldap=LDAP, jwt=[]), "sources[0]: must have one of staticUsers, tokenReview, ldap, jwt"),
    (one(ldap=LDAP, nane="y"), "sources[0].nane: there is no such field"),
    (one(ldap=LDAP | {"start_tls": True}), "sources[0].ldap.start_tls: there is no such field"),
    (one(ldap=LDAP | {"url": "https://x"}), "sources[0].ldap.url: must be ldaps://HOST[:PORT] or ldap://HOST[:PORT]"),
    (one(ldap=LDAP | {"url": "ldap://x"}), "sources[0].ldap.url: sends secrets in clear: use ldaps://, or startTLS"),
    (one(ldap=LDAP | {"userDN": "uid=x"}), "sources[0].ldap.userDN: must have {username} in it"),
    (one(ldap=LDAP | {"timeoutSeconds": 0}), "sources[0].ldap.timeoutSeconds: must be a number from 1 to 60"),
    (
        one(ldap=LDAP | {"groupSearch": {"base": "dc=example", "filter": "(member={dn}"}}),
        "sources[0].ldap.groupSearch.filter: is no LDAP filter",
    ),
    (
        one(ldap={"url": "ldaps://x", "userSearch": {"base": "dc=x", "filter": "(uid={username})"}}),
        "sources[0].ldap.bindDN: is missing",
    ),
    (one(staticUsers={"file": "no.yaml"}), "sources[0].staticUsers.file: "),
    (
        one(staticUsers={"file": "users.yaml"}),
        "users.yaml: users[0].hash: neither an argon2 ($argon2id$…) nor",
    ),
    (one(tokenReview={}), "sources[0].tokenReview.kubeconfig: is missing"),
    (one(jwt=[{"issuer": {"url": "http://x"}}]), "sources[0].jwt[0].issuer.url: "),
    (one(jwt=[]), "sources[0].jwt: there is no issuer"),
    (one(ldap=LDAP, groups={"add": ["system:masters"]}), "sources[0].groups.add: names that begin with system:"),
    (one(ldap=LDAP, groups={"map": {"ops": "x"}}), "sources[0].groups.map.ops: must be a list of texts"),
    ({"sources": [{"name": "x", "ldap": LDAP}, {"name": "x", "ldap": LDAP}]}, "sources[1].name: x is there already"),
]


@pytest.mark.parametrize(("changes", "problem"), WRONG, ids=[problem[:60] for _, problem in WRONG])
def test_an_error_names_its_place(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    (tmp_path / "users.yaml").write_text("users: [{name: a, hash: builder}]")
    document = {"apiVersion": "kubegate.dev/v1", "kind": "TokenSources"} | changes
    with pytest.raises(BadSources) as raised:
        parse(yaml.safe_dump(document).encode(), "sources.yaml", tmp_path)
    assert problem in str(raised.value)
    assert "builder" not in str(raised.value)


def test_a_hash_that_would_cost_too_much_for_every_try_is_refused() -> None:
    for text in ("$2b$20$" + "x" * 53, argon2("x").replace("m=64", "m=4194304")):
        with pytest.raises(passwords.PasswordError, match="cost"):
            passwords.check_hash(text)


def test_the_file_of_the_documentation_is_good(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "token-sources.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "users.yaml").write_text(yaml.safe_dump({"users": [{"name": "bob", "hash": bcrypt("builder")}]}))
    (tmp_path / "production.kubeconfig").write_text("")
    (tmp_path / "ldap-ca.crt").write_text("")
    found = parse(example.encode(), "sources.yaml", tmp_path)
    assert [name for name, _, _ in found.entries] == ["people", "directory", "production", "issuers"]


def test_a_hash_made_by_the_command_is_one_that_a_file_takes() -> None:
    from typer.testing import CliRunner

    from kubegate.cli.token import app

    for algorithm in ("argon2", "bcrypt"):
        done = CliRunner().invoke(app, ["hash", "--algorithm", algorithm], input="builder\n")
        assert done.exit_code == 0, done.output
        passwords.check_hash(done.stdout.strip())
        assert passwords.matches("builder", done.stdout.strip())
