"""Where tokens are found in a request, and what counts as none."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from people import World, bearer

from kubegate.authentication import Headers, Request, token_file
from kubegate.authentication.secrets import Digest
from kubegate.authentication.user_file import BadUserFile

TOKENS = 'alice-token,alice,u-alice,"dev,ops"\nbob-token,bob,u-bob\ncarol-token,carol,u-carol,ops\n'


async def start(world: World, **more: object) -> World:
    return await world.start(token_auth_file=world.write("tokens.csv", TOKENS), api_audiences=("api",), **more)


@pytest.mark.parametrize(
    ("header", "who"),
    [
        ("Bearer bob-token", "bob"),
        ("bearer bob-token", "bob"),
        ("Bearer bob-token\t", "bob"),
        (" Bearer bob-token ", "bob"),
        ("\u2003Bearer bob-token\u3000", "bob"),
        ("Bearer bob-token and more", "bob"),
        ("Bearer", "system:anonymous"),
        ("Bearer ", "system:anonymous"),
        ("Bearer  bob-token", "system:anonymous"),
        ("Bearer\tbob-token", "system:anonymous"),
        ("Bearer: bob-token", "system:anonymous"),
        ("Token bob-token", "system:anonymous"),
        ("Basic Ym9iOmJvYg==", "system:anonymous"),
        ('Bearer "bob-token"', "refused: invalid bearer token"),
        ("Bearer wrong", "refused: invalid bearer token"),
        ("Bearer u-bob", "refused: invalid bearer token"),
    ],
)
async def test_a_token_is_read_as_kube_apiserver_reads_it(world: World, header: str, who: str) -> None:
    await start(world)
    assert await world.who(Request("GET", "/", Headers.of([("authorization", header)]))) == who


async def test_of_several_authorization_headers_the_first_counts(world: World) -> None:
    await start(world)
    two = [("authorization", "Bearer wrong"), ("authorization", "Bearer bob-token")]
    assert await world.who(Request("GET", "/", Headers.of(two))) == "refused: invalid bearer token"
    assert await world.who(Request("GET", "/", Headers.of(two[::-1]))) == "bob"


async def test_a_user_of_the_token_file_has_uid_groups_and_is_authenticated(world: World) -> None:
    await start(world)
    found = await world.ask(bearer("alice-token"))
    assert found is not None
    assert (found.user.name, found.user.uid) == ("alice", "u-alice")
    assert found.user.groups == ("dev", "ops", "system:authenticated")


async def test_a_changed_token_file_takes_tokens_away_and_a_broken_one_does_not(world: World) -> None:
    await start(world)
    world.write("tokens.csv", "dora-token,dora,u-dora\n")
    await world.built.reload()
    assert await world.who(bearer("bob-token")) == "refused: invalid bearer token"
    assert await world.who(bearer("dora-token")) == "dora"
    world.write("tokens.csv", "only-one-column\n")
    await world.built.reload()
    assert await world.who(bearer("dora-token")) == "dora"


@pytest.mark.parametrize("line", ["secret-token,bob\n", 'secret-token,"bob\n'])
async def test_a_broken_token_file_is_refused_at_the_start_without_telling_the_token(world: World, line: str) -> None:
    with pytest.raises(ValueError, match="--token-auth-file: token file") as failure:
        await world.start(token_auth_file=world.write("tokens.csv", line))
    assert "secret-token" not in str(failure.value)


@pytest.mark.parametrize(
    ("line", "users"),
    [
        ('"t,1",u,1', {"t,1": ("u", "1", ())}),
        ('"a""b",u,1\r\n\r\nt,v,2\r', {'a"b': ("u", "1", ()), "t": ("v", "2", ())}),
        ("t,u\r,1", {"t": ("u\r", "1", ())}),
        ('t,u,"1\r\n2"', {"t": ("u", "1\n2", ())}),
        ("t,u,1\nt,v,2", {"t": ("v", "2", ())}),
        (",u,1\nt,v,2,", {"t": ("v", "2", ("",))}),
        ('t,u,1,"a,,b",more', {"t": ("u", "1", ("a", "", "b"))}),
        ("# t,u,1", {"# t": ("u", "1", ())}),
        ('t"x,u,1', 'parse error on line 1, column 2: bare " in non-quoted-field'),
        ('a,b,c\nt,"u"x,1', 'parse error on line 2, column 5: extraneous or missing " in quoted-field'),
        ('t,"u\n\nv', 'record on line 1; parse error on line 3, column 2: extraneous or missing " in quoted-field'),
        ("\nt,u", "must have at least 3 columns (token, user name, user uid), found 2 in line 2"),
    ],
)
def test_a_token_file_is_read_as_go_reads_csv(line: str, users: Any) -> None:
    digest = Digest()
    if isinstance(users, str):
        with pytest.raises(BadUserFile) as caught:
            token_file.parse(line.encode(), "tokens.csv", digest)
        assert str(caught.value).endswith(users)
        return
    found = token_file.parse(line.encode(), "tokens.csv", digest)
    wanted = {
        digest(token): (name, uid, (*groups, "system:authenticated")) for token, (name, uid, groups) in users.items()
    }
    assert {key: (one.user.name, one.user.uid, one.user.groups) for key, one in found.items()} == wanted


async def test_anonymous_can_be_turned_off(world: World) -> None:
    await start(world, anonymous_auth=False)
    assert await world.who(Request("GET", "/livez", Headers.of([]))) == "nobody"


async def test_a_token_is_good_for_the_servers_own_audiences_alone(world: World) -> None:
    await start(world)
    assert await world.who(bearer("bob-token", audiences=("api",))) == "bob"
    assert await world.who(bearer("bob-token", audiences=("vault",))) == "refused: invalid bearer token"


# ---------------------------------------------------------------------- websockets
def socket(*protocols: str, **more: str) -> Request:
    headers = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]
    headers += [("sec-websocket-protocol", protocol) for protocol in protocols]
    return Request("GET", "/exec", Headers.of(headers + list(more.items())))


def token(text: str) -> str:
    encoded = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    return f"base64url.bearer.authorization.k8s.io.{encoded}"


@pytest.mark.parametrize(
    ("request_", "who"),
    [
        (socket(f"{token('bob-token')}, base64.binary.k8s.io"), "bob"),
        (socket(token("bob-token"), "base64.binary.k8s.io"), "bob"),
        (socket(token("bob-token")), "refused: missing additional subprotocol"),
        (
            socket(token("bob-token"), token("alice-token"), "x"),
            "refused: multiple base64.bearer.authorization tokens specified",
        ),
        (socket(token(""), "x"), "system:anonymous"),
        (socket(token("wrong"), "x"), "refused: invalid bearer token"),
        (
            socket("base64url.bearer.authorization.k8s.io.YQ==", "x"),
            "refused: invalid base64.bearer.authorization token encoding",
        ),
        (
            socket("base64url.bearer.authorization.k8s.io._w", "x"),
            "refused: invalid base64.bearer.authorization token",
        ),
        (socket(token("bob-token"), "x", authorization="Bearer alice-token"), "alice"),
        (socket(token("bob-token"), "x", authorization="Bearer wrong"), "bob"),
        (
            Request(
                "GET",
                "/",
                Headers.of(
                    [
                        ("upgrade", "WebSocket"),
                        ("connection", "close"),
                        ("connection", "x-upgrade"),
                        ("sec-websocket-protocol", f"{token('bob-token')}, x"),
                    ]
                ),
            ),
            "bob",
        ),
        (Request("GET", "/", Headers.of([("sec-websocket-protocol", token("bob-token"))])), "system:anonymous"),
    ],
)
async def test_a_websocket_may_carry_its_token_among_the_protocols(world: World, request_: Request, who: str) -> None:
    await start(world)
    assert await world.who(request_) == who


# ---------------------------------------------------------------------- basic
async def test_basic_users_are_known_by_their_passwords(world: World) -> None:
    await world.start(basic_auth_file=world.write("passwords.csv", "pa:ss,bob,u-bob,dev\n"))

    def basic(pair: str) -> Request:
        return Request("GET", "/", Headers.of([("authorization", "Basic " + base64.b64encode(pair.encode()).decode())]))

    assert await world.who(basic("bob:pa:ss")) == "bob"
    assert await world.who(basic("bob:wrong")) == "refused: invalid username/password combination"
    assert await world.who(basic("eve:pa:ss")) == "refused: invalid username/password combination"
    assert await world.who(Request("GET", "/", Headers.of([("authorization", "Basic !!")]))) == "system:anonymous"
