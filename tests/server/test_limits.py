"""Bounds on requests in flight: 429 past them, a share for others, and the administrator is never locked out."""

from __future__ import annotations

import pytest

from kubegate.api import requestinfo
from kubegate.api.status import StatusError
from kubegate.authentication import MASTERS_GROUP, Headers, UserInfo
from kubegate.server.call import Call
from kubegate.server.limits import Limits
from kubegate.server.metrics import Metrics


def call(user: str, method: str = "GET", path: str = "/api/v1/namespaces/x/pods", groups: tuple[str, ...] = ()) -> Call:
    async def receive() -> dict[str, object]:
        raise AssertionError

    info = requestinfo.parse(method, path, {})
    return Call("id", method, path, "", {}, Headers.of([]), info, receive, 1, user=UserInfo(user, groups=groups))


def test_past_the_bound_a_request_gets_429_with_a_time_to_come_again() -> None:
    limits = Limits(2, 1, Metrics())
    with limits.admit(call("a", "POST")), pytest.raises(StatusError) as error:
        limits.admit(call("b", "POST"))
    assert (error.value.code, error.value.headers["Retry-After"]) == (429, "1")
    with limits.admit(call("b", "POST")):
        pass


def test_one_user_leaves_places_for_others() -> None:
    limits = Limits(4, 1, Metrics())
    with limits.admit(call("other")), limits.admit(call("flood")), limits.admit(call("flood")):
        with pytest.raises(StatusError):
            limits.admit(call("flood"))
        with limits.admit(call("other")):
            pass


def test_reads_and_writes_have_bounds_of_their_own() -> None:
    limits = Limits(1, 1, Metrics())
    with limits.admit(call("a")), limits.admit(call("a", "POST")):
        pass


def test_an_administrator_is_never_refused() -> None:
    limits = Limits(1, 1, Metrics())
    with limits.admit(call("a")), limits.admit(call("root", groups=(MASTERS_GROUP,))):
        pass


def test_no_bound_at_all_is_zero() -> None:
    limits = Limits(0, 0, Metrics())
    places = [limits.admit(call("a")) for _ in range(1000)]
    assert len(places) == 1000
