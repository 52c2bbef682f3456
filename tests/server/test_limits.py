"""Bounds on requests in flight: 429 past them, a share for others, and the administrator is never locked out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from server_client import Start

from kubegate.api import requestinfo
from kubegate.api.status import StatusError
from kubegate.authentication import MASTERS_GROUP, Headers, UserInfo
from kubegate.server.call import Call
from kubegate.server.limits import Limits
from kubegate.server.metrics import Metrics
from kubegate.server.responses import Response


def call(user: str, method: str = "GET", path: str = "/api/v1/namespaces/x/pods", groups: tuple[str, ...] = ()) -> Call:
    async def receive() -> dict[str, object]:
        raise AssertionError

    info = requestinfo.parse(method, path, {})
    return Call("id", method, path, "", {}, Headers.of([]), info, receive, 1, user=UserInfo(user, groups=groups))


@contextmanager
def admitted(limits: Limits, of: Call) -> Iterator[None]:
    """While a call is answered."""
    bound = limits.admit(of)
    yield
    if bound is not None:
        bound.give_back(of.user.name)


def refused(limits: Limits, of: Call) -> bool:
    """Whether there is no place for the call now."""
    try:
        with admitted(limits, of):
            return False
    except StatusError as error:
        assert (error.code, error.headers["Retry-After"]) == (429, "1")
        return True


def test_past_the_bound_a_request_gets_429_with_a_time_to_come_again() -> None:
    limits = Limits(2, 1, Metrics())
    with admitted(limits, call("a", "POST")):
        assert refused(limits, call("b", "POST"))
    assert not refused(limits, call("b", "POST"))


async def test_a_place_is_given_back_by_a_request_that_fails(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await start("--controllers=none", "--max-requests-inflight=1", "--max-mutating-requests-inflight=1")
    ask, path = running.client.ask, "/api/v1/namespaces/default/configmaps"

    async def fail(_: Call) -> Response:
        raise ZeroDivisionError

    for _ in range(2):
        assert (await ask("GET", path, token="alice-token")).status == 403
        assert (
            await ask("GET", f"{path}/none", Impersonate_User="root", Impersonate_Group="system:masters")
        ).status == 404
        assert (await ask("POST", path, {"kind": "Pod"})).status == 400
        with monkeypatch.context() as patched:
            patched.setattr(running.server.app._resources, "handle", fail)
            assert (await ask("GET", path)).status == 500
    text = (await ask("GET", "/metrics")).body.decode()
    for kind in ("readOnly", "mutating"):
        assert f'apiserver_current_inflight_requests{{request_kind="{kind}"}} 0' in text


def test_one_user_leaves_places_for_others() -> None:
    limits = Limits(4, 1, Metrics())
    with admitted(limits, call("other")), admitted(limits, call("flood")), admitted(limits, call("flood")):
        assert refused(limits, call("flood"))
        assert not refused(limits, call("other"))


def test_who_is_alone_has_all_places() -> None:
    limits = Limits(4, 1, Metrics())
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(admitted(limits, call("a")))
        assert refused(limits, call("a"))


def test_reads_and_writes_have_bounds_of_their_own() -> None:
    limits = Limits(1, 1, Metrics())
    with admitted(limits, call("a")):
        assert refused(limits, call("b"))
        with admitted(limits, call("a", "POST")):
            assert refused(limits, call("b", "POST"))
    with admitted(limits, call("a", "POST")):
        assert not refused(limits, call("b"))


def test_an_administrator_is_never_refused() -> None:
    limits = Limits(1, 1, Metrics())
    with admitted(limits, call("a")), admitted(limits, call("root", groups=(MASTERS_GROUP,))):
        assert refused(limits, call("b"))
        assert not refused(limits, call("root", groups=(MASTERS_GROUP,)))


@pytest.mark.parametrize("path", ["/api/v1/watch/namespaces/x/pods", "/api/v1/namespaces/x/pods/p/log", "/healthz"])
def test_what_lasts_and_what_is_no_resource_takes_no_place(path: str) -> None:
    limits = Limits(1, 1, Metrics())
    with admitted(limits, call("a")):
        assert not refused(limits, call("b", path=path))
    with admitted(limits, call("a", path=path)):
        assert not refused(limits, call("b"))


def test_no_bound_at_all_is_zero() -> None:
    limits = Limits(0, 0, Metrics())
    with ExitStack() as held:
        for _ in range(1000):
            held.enter_context(admitted(limits, call("a")))
            held.enter_context(admitted(limits, call("a", "POST")))


def test_refusals_are_counted() -> None:
    metrics = Metrics()
    limits = Limits(1, 1, metrics)
    with admitted(limits, call("a")):
        refused(limits, call("b"))
    assert metrics.rejected.values == {("concurrency-limit",): 1}
