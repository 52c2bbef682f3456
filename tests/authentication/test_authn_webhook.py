"""Tokens that a webhook knows: what it is sent, what its answers mean, and what becomes of others when it hangs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from people import HandClock, World, bearer

from kubegate.authentication import Authenticated, AuthenticationError
from kubegate.authentication.webhook import Circuit, WebhookTokenAuthenticator
from kubegate.remote.client import Endpoint
from kubegate.remote.retry import Backoff

sys.path.append(str(Path(__file__).parent.parent / "remote"))

from remote_server import Serve, Server, reply, serve  # noqa: F401

API = ("https://api",)
Make = Callable[..., Awaitable[tuple[WebhookTokenAuthenticator, Server, HandClock]]]


def known(**user: Any) -> dict[str, Any]:
    return {"authenticated": True, "user": {"username": "kim", "uid": "u-kim", "groups": ["dev"]} | user}


def answer(status: Any, version: str = "v1") -> bytes:
    body = {"kind": "TokenReview", "apiVersion": f"authentication.k8s.io/{version}", "status": status}
    return reply(orjson.dumps(body), "200 OK", "Content-Type: application/json")


@pytest.fixture
async def make(serve: Serve) -> AsyncIterator[Make]:  # noqa: F811
    made: list[WebhookTokenAuthenticator] = []

    async def create(
        answers: Callable[[], Awaitable[bytes | None]], **options: Any
    ) -> tuple[WebhookTokenAuthenticator, Server, HandClock]:
        async def on_request(head: str, body: bytes) -> bytes | None:
            return await answers()

        server = await serve(on_request)
        clock = HandClock()
        settings: dict[str, Any] = {"version": "v1", "cache_ttl": 120.0, "api_audiences": API} | options
        found = WebhookTokenAuthenticator(Endpoint(server.url, authority=server.authority.pem), clock, **settings)
        made.append(found)
        return found, server, clock

    yield create
    for authenticator in made:
        await authenticator.close()


def always(data: bytes | None) -> Callable[[], Awaitable[bytes | None]]:
    async def give() -> bytes | None:
        return data

    return give


async def why(call: Awaitable[Authenticated | None]) -> str:
    try:
        found = await call
    except AuthenticationError as error:
        return str(error)
    return "nobody" if found is None else found.user.name


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_a_review_is_sent_and_its_user_believed(make: Make, version: str) -> None:
    hook, server, _ = await make(always(answer(known(extra={"a": ["b"]}), version)), version=version)
    found = await hook.authenticate_token("sesame")
    assert found is not None
    assert (found.user.name, found.user.uid, found.user.extra) == ("kim", "u-kim", {"a": ("b",)})
    assert found.user.groups == ("dev", "system:authenticated")
    assert found.audiences == API
    assert orjson.loads(server.received[0][1]) == {
        "kind": "TokenReview",
        "apiVersion": f"authentication.k8s.io/{version}",
        "metadata": {},
        "spec": {"token": "sesame", "audiences": ["https://api"]},
        "status": {"user": {}},
    }


UNFIT = "json: cannot unmarshal {} into Go struct field"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"authenticated": False}, "nobody"),
        ({"authenticated": False, "error": "the directory says no"}, "the directory says no"),
        ({"authenticated": "true"}, f"{UNFIT.format('string')} TokenReviewStatus.status.authenticated of type bool"),
        (known(username=7), f"{UNFIT.format('number')} UserInfo.status.user.username of type string"),
        (known(groups=["a", 1]), f"{UNFIT.format('number')} UserInfo.status.user.groups of type string"),
        (known(groups="system:masters"), f"{UNFIT.format('string')} UserInfo.status.user.groups of type []string"),
        (known(extra={"a": "b"}), f"{UNFIT.format('string')} UserInfo.status.user.extra of type v1.ExtraValue"),
        (known() | {"audiences": ["elsewhere"]}, "nobody"),
        (None, "nobody"),
    ],
)
async def test_answers_that_are_no_yes_are_no(make: Make, status: Any, said: str) -> None:
    hook, _, _ = await make(always(answer(status)))
    assert await why(hook.authenticate_token("sesame")) == said


async def test_who_has_no_name_is_authenticated_all_the_same(make: Make) -> None:
    hook, _, _ = await make(always(answer({"authenticated": True})))
    found = await hook.authenticate_token("sesame")
    assert found is not None
    assert (found.user.name, found.user.groups) == ("", ("system:authenticated",))


async def test_another_kind_or_version_is_no_answer(make: Make) -> None:
    hook, _, _ = await make(always(answer(known(), "v1beta1")))
    text = "converting (v1beta1.TokenReview) to (v1.TokenReview): unknown conversion"
    assert await why(hook.authenticate_token("sesame")) == text


async def test_an_answer_is_remembered_for_its_time_and_its_audiences(make: Make) -> None:
    hook, server, clock = await make(always(answer(known())))
    for _ in range(3):
        await hook.authenticate_token("sesame")
    assert len(server.received) == 1
    await hook.authenticate_token("sesame", ("vault",))
    assert len(server.received) == 2
    clock.move(121)
    await hook.authenticate_token("sesame")
    assert len(server.received) == 3


async def test_a_good_token_is_remembered_for_a_time_of_its_own_and_a_bad_one_is_not(make: Make) -> None:
    hook, server, clock = await make(always(answer(known())), cache_ttl=1.0, at_least=10.0)
    await hook.authenticate_token("sesame")
    clock.move(9)
    await hook.authenticate_token("sesame")
    assert len(server.received) == 1
    clock.move(2)
    await hook.authenticate_token("sesame")
    assert len(server.received) == 2

    hook, server, clock = await make(always(answer({"authenticated": False})), cache_ttl=1.0, at_least=10.0)
    await hook.authenticate_token("wrong")
    clock.move(2)
    await hook.authenticate_token("wrong")
    assert len(server.received) == 2


async def test_a_no_is_remembered_for_less_time_and_a_failure_not_at_all(make: Make) -> None:
    hook, server, clock = await make(always(answer({"authenticated": False})))
    await hook.authenticate_token("wrong")
    await hook.authenticate_token("wrong")
    assert len(server.received) == 1
    clock.move(11)
    await hook.authenticate_token("wrong")
    assert len(server.received) == 2

    broken, server, _ = await make(always(reply(b"not json", "200 OK", "Content-Type: application/json")))
    for _ in range(2):
        assert "couldn't get version/kind" in await why(broken.authenticate_token("sesame"))
    assert len(server.received) == 2


async def test_requests_with_one_token_make_one_call(make: Make) -> None:
    asked, told = asyncio.Event(), asyncio.Event()

    async def slowly() -> bytes:
        asked.set()
        await told.wait()
        return answer(known())

    hook, server, _ = await make(slowly)
    waiting = [asyncio.create_task(why(hook.authenticate_token("sesame"))) for _ in range(20)]
    await asked.wait()
    waiting[0].cancel()
    told.set()
    assert await asyncio.gather(*waiting[1:]) == ["kim"] * 19
    assert len(server.received) == 1


async def test_a_server_error_is_tried_five_times_with_growing_pauses(make: Make) -> None:
    hook, server, clock = await make(always(reply(b"boom", "500 Oops", "Content-Type: text/plain")))
    call = asyncio.create_task(why(hook.authenticate_token("sesame")))
    while not call.done():
        await asyncio.sleep(0.001)
        clock.move(1)
    assert await call == 'an error on the server ("boom") has prevented the request from succeeding'
    assert len(server.received) == 5
    assert len(clock.slept) == 4 and clock.slept == sorted(clock.slept)


async def test_a_webhook_that_hangs_is_given_up_and_then_left_alone(make: Make) -> None:
    async def hang() -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    hook, server, clock = await make(hang, timeout=0.05)
    for number in range(5):
        assert "context deadline exceeded" in await why(hook.authenticate_token(f"t{number}"))
    assert "is not asked now" in await why(hook.authenticate_token("t5"))
    assert len(server.received) == 5
    clock.move(6)
    assert "context deadline exceeded" in await why(hook.authenticate_token("t6"))
    assert len(server.received) == 6


def test_a_circuit_lets_one_through_after_its_rest_and_closes_with_an_answer() -> None:
    circuit = Circuit(failures=2, rest=5)
    for _ in range(2):
        assert circuit.allows(0)
        circuit.record(False, 0)
    assert not circuit.allows(4.9)
    assert circuit.allows(5)
    assert not circuit.allows(5.1)
    circuit.record(True, 5.2)
    assert circuit.allows(5.2)


@pytest.mark.parametrize(
    "answered",
    [
        None,
        reply(b"who is sesame-secret?", "500 Oops", "Content-Type: text/plain"),
        answer({"authenticated": False, "error": "sesame-secret is not known"}),
    ],
)
async def test_no_token_is_in_what_is_said_of_it(make: Make, answered: bytes | None) -> None:
    hook, _, _ = await make(always(answered), backoff=Backoff(steps=1))
    text = await why(hook.authenticate_token("sesame-secret"))
    assert text != "nobody"
    assert "sesame-secret" not in text


async def test_the_webhook_of_a_file_is_told_how_long_it_may_take(world: World) -> None:
    file = world.write(
        "webhook.yaml",
        """
apiVersion: v1
kind: Config
clusters: [{name: it, cluster: {server: "http://127.0.0.1:1/authenticate"}}]
users: [{name: me, user: {}}]
contexts: [{name: it, context: {cluster: it, user: me}}]
current-context: it
""",
    )
    await world.start(authentication_token_webhook_config_file=file)
    assert 'Post "http://127.0.0.1:1/authenticate?timeout=30s": ' in await world.who(bearer("some"))
