"""What `kubegate token` prints, keeps, and refuses: without a cluster."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_world import KUBEGATE, Run

from kubegate.api.clock import SystemClock
from kubegate.tokens import command, credential, loopback, oidc
from kubegate.tokens.command import Shape
from kubegate.tokens.credential import Credential, TokenError
from kubegate.tokens.store import Kept, Store, remembered

INFO = {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1", "spec": {"interactive": True}}
# {"exp":2000000000}
JWT = "e30.eyJleHAiOjIwMDAwMDAwMDB9.c2ln"


# ---------------------------------------------------------------------- ExecCredential
async def test_the_version_that_client_go_asks_for(run: Run) -> None:
    done = await run(KUBEGATE, "token", "static", KUBEGATE_TOKEN=JWT, KUBERNETES_EXEC_INFO=json.dumps(INFO))
    assert json.loads(done.out) == {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "kind": "ExecCredential",
        "spec": {"interactive": True},
        "status": {"token": JWT, "expirationTimestamp": "2033-05-18T03:33:20Z"},
    }


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no ExecCredential"),
        ('{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1alpha1"}', "v1alpha1"),
    ],
)
def test_what_asks_for_something_else_is_told_so(info: str, problem: str) -> None:
    with pytest.raises(TokenError, match=problem):
        credential.exec_info({credential.INFO_VARIABLE: info})


@given(st.text())
def test_a_token_is_one_word_of_ascii_or_refused_without_being_said(text: str) -> None:
    try:
        found = credential.checked(text, None, "here")
    except TokenError as error:
        assert str(error) in ("here: there is no token", "here: a token is one word of ASCII, and this is none")
    else:
        assert found.token == text and text.split() == [text] and text.isascii()


@given(st.binary().map(lambda data: data.decode("latin-1")))
def test_what_is_no_jwt_has_no_end(text: str) -> None:
    assert credential.jwt_expiry(text) is None or text.count(".") == 2


# ---------------------------------------------------------------------- what a command prints
def test_the_shapes_of_a_commands_output() -> None:
    status = {"token": "t", "expirationTimestamp": "2033-05-18T03:33:20Z"}
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    for output, shape, expected in (
        (b"t\n", Shape(), Credential("t")),
        (b"t\n", Shape(lifetime=60), Credential("t", 160.0)),
        (JWT.encode(), Shape(), Credential(JWT, 2_000_000_000.0)),
        (json.dumps(plugin).encode(), Shape(), Credential("t", 2_000_000_000.0)),
        (b'{"a": {"b": "t"}, "e": 200}', Shape("a.b", "e"), Credential("t", 200.0)),
        (b'{"a": "t", "e": "2033-05-18T03:33:20Z"}', Shape("a", "e"), Credential("t", 2_000_000_000.0)),
    ):
        assert command.read(output, shape, "vault", 100.0) == expected


@pytest.mark.parametrize(
    ("output", "shape", "problem"),
    [
        (b"", Shape(), "there is no token"),
        (b"two words", Shape(), "one word of ASCII"),
        (b'{"token": "hidden"}', Shape(), "say where the token is"),
        (b'{"token": "hidden"}', Shape("data.token"), "has no data.token"),
        (b'{"token": {"a": "hidden"}}', Shape("token"), "there is no token"),
        (b'{"token": "hidden"', Shape("token"), "no JSON object"),
        (b'{"token": "hidden", "e": "soon"}', Shape("token", "e"), "neither an RFC 3339 time nor seconds"),
    ],
)
def test_an_output_of_another_shape_is_not_repeated(output: bytes, shape: Shape, problem: str) -> None:
    with pytest.raises(TokenError, match=problem) as raised:
        command.read(output, shape, "vault", 100.0)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["/nowhere"], "/nowhere: No such file or directory"),
        (["sh", "-c", "exit 3"], "sh ended with exit code 3"),
        (["sleep", "30"], "sleep took longer than 0.1 s"),
    ],
)
def test_a_command_that_fails_is_an_error_of_one_line(words: list[str], problem: str) -> None:
    with pytest.raises(TokenError) as raised:
        command.run(words, Shape(), now=0, timeout=0.1 if words[0] == "sleep" else 10)
    assert str(raised.value) == problem


# ---------------------------------------------------------------------- what is kept
def test_a_token_is_fetched_once_until_a_minute_before_its_end(tmp_path: Path) -> None:
    store, fetched = Store(tmp_path / "kept"), []

    def at(now: float, *key: str) -> str:
        def fetch() -> Credential:
            fetched.append(now)
            return Credential(f"token-{len(fetched)}", now + 600)

        return remembered(store, key, now, fetch).token

    assert [at(0, "a"), at(500, "a"), at(541, "a"), at(542, "a"), at(542, "b")] == [
        "token-1",
        "token-1",
        "token-2",
        "token-2",
        "token-3",
    ]
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "kept").iterdir()} == {0o600}
    assert store.clear() == 2
    assert at(542, "a") == "token-4"


def test_a_token_without_an_end_is_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert remembered(store, ("a",), 0, lambda: Credential("one")).token == "one"
    assert remembered(store, ("a",), 0, lambda: Credential("two")).token == "two"
    assert list(tmp_path.glob("*.json")) == []


def test_a_file_that_others_may_read_is_refused_and_a_broken_one_counts_as_none(tmp_path: Path) -> None:
    """CVE-2019-11244: kubectl's cache could be written to by everybody."""
    store = Store(tmp_path)
    with store.entry("a") as entry:
        entry.write(Kept(Credential("one", 1e12), "refresh"))
        [path] = tmp_path.glob("*.json")
        assert entry.read() == Kept(Credential("one", 1e12), "refresh")
        path.write_text('{"token": 5, "expires": "x", "refresh": []}')
        assert entry.read() == Kept()
        path.write_text("half")
        assert entry.read() == Kept()
        path.chmod(0o644)
        with pytest.raises(TokenError, match="can be read by others"):
            entry.read()


def test_who_waits_too_long_for_another_process_is_told_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.entry("a"), pytest.raises(TokenError, match="another process"), store.entry("a", within=0.1):
        pass
    with store.entry("a"), store.entry("b", within=0.1):
        pass


# ---------------------------------------------------------------------- the page that the browser comes back to
async def ask(uri: str, request: bytes) -> bytes:
    host, port = uri.removeprefix("http://").partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_only_the_answer_with_the_state_that_went_out_counts(tmp_path: Path) -> None:
    async with loopback.listening("s3") as redirect:
        for request, status in (
            (b"GET /callback?code=evil HTTP/1.1\r\n\r\n", b"400"),
            (b"GET /callback?code=evil&state=s4 HTTP/1.1\r\n\r\n", b"400"),
            (b"GET /callback?error=x&state=%F0 HTTP/1.1\r\n\r\n", b"400"),
            (b"GET /?state=s3&code=x HTTP/1.1\r\n\r\n", b"404"),
            (b"POST /callback?state=s3&code=x HTTP/1.1\r\n\r\n", b"405"),
            (b"nonsense\r\n\r\n", b"405"),
            (b"GET /callback?" + b"a=1&" * 50 + b"state=s3 HTTP/1.1\r\n\r\n", b"400"),
            (b"GET //[ HTTP/1.1\r\n\r\n", b"404"),
        ):
            assert (await ask(redirect.uri, request))[9:12] == status, request
        assert (await ask(redirect.uri, b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n"))[9:12] != b"200"
        good = await ask(redirect.uri, b"GET /callback?code=c%3C1&state=s3&iss=i HTTP/1.1\r\n\r\n")
        assert good[9:12] == b"200" and b"c<1" not in good and b"no-store" in good
        assert (await ask(redirect.uri, b"GET /callback?code=later&state=s3 HTTP/1.1\r\n\r\n"))[9:12] == b"400"
        assert await redirect.answer(1) == loopback.Answer("c<1", "", "i")


async def test_nobody_comes_back() -> None:
    async with loopback.listening("s") as redirect:
        with pytest.raises(TokenError, match="nobody has signed in"):
            await redirect.answer(0.01)


# ---------------------------------------------------------------------- issuers
def test_an_issuer_without_https_is_refused() -> None:
    with pytest.raises(TokenError, match="https"):
        oidc.OidcClient(oidc.Settings("http://id.example", "kubernetes"), SystemClock())


async def test_nobody_is_asked_to_sign_in_where_nobody_is() -> None:
    client = oidc.OidcClient(oidc.Settings("https://id.example", "kubernetes"), SystemClock())

    async def show(page: str) -> bool:
        raise AssertionError(page)

    with pytest.raises(TokenError, match="nobody can sign in here"):
        await oidc.obtain(client, Kept(), oidc.Terminal(show, print), interactive=False)
    await client.close()
