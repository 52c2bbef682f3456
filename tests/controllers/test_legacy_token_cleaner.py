"""Tokens that were made by themselves and that nobody uses end, a step a year; all others stay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from controllers_world import ControllersWorld, Flags, controllers_world

from kubegate.authentication.service_accounts import INVALID_SINCE_LABEL, LAST_USED_LABEL

Object = dict[str, Any]
DAY = 86400.0
YEAR = 365 * DAY
TRACKING = "kube-apiserver-legacy-service-account-token-tracking"


@pytest.fixture
async def world() -> AsyncIterator[ControllersWorld]:
    """An account with a token of its own, made on 2027-01-15, and uses noted since."""
    async with controllers_world(Flags(service_account_legacy_tokens=True)) as found:
        found.run("serviceaccount-token-controller")
        await found.create("serviceaccounts", {"metadata": {"name": "robot"}})
        since = {"metadata": {"name": TRACKING}, "data": {"since": "2027-01-15"}}
        await found.create("configmaps", since, "kube-system")
        found.run("legacy-serviceaccount-token-cleaner-controller")
        await found.settle()
        yield found


def labels(world: ControllersWorld) -> Object:
    [secret] = world.registry.reader.list("secrets", "ns")
    found: Object = secret["metadata"].get("labels") or {}
    return found


async def test_an_unused_token_is_marked_after_a_year_and_goes_after_another(world: ControllersWorld) -> None:
    await world.advance(YEAR)
    assert INVALID_SINCE_LABEL not in labels(world)  # of the day on which tracking began not all is known
    await world.advance(DAY)
    assert labels(world)[INVALID_SINCE_LABEL] == "2028-01-16"
    await world.advance(YEAR)
    assert labels(world)[INVALID_SINCE_LABEL] == "2028-01-16"
    await world.advance(DAY)
    # it is made anew where accounts have tokens by themselves, with nothing on it
    assert INVALID_SINCE_LABEL not in labels(world)


async def test_a_token_that_was_used_lately_stays(world: ControllersWorld) -> None:
    [name] = world.names("secrets")

    def use(secret: Object) -> None:
        secret["metadata"].setdefault("labels", {})[LAST_USED_LABEL] = "2027-06-01"

    await world.update("secrets", name, use)
    await world.advance(YEAR + DAY)
    assert labels(world) == {LAST_USED_LABEL: "2027-06-01"}
    await world.advance(200 * DAY)
    assert INVALID_SINCE_LABEL in labels(world)


async def test_a_token_that_a_pod_mounts_stays(world: ControllersWorld) -> None:
    [name] = world.names("secrets")
    spec = {"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", "secret": {"secretName": name}}]}
    await world.create("pods", {"metadata": {"name": "p"}, "spec": spec})
    await world.advance(YEAR + DAY)
    assert INVALID_SINCE_LABEL not in labels(world)


async def test_a_token_that_somebody_made_stays(world: ControllersWorld) -> None:
    annotations = {"kubernetes.io/service-account.name": "robot"}
    secret = {"metadata": {"name": "mine", "annotations": annotations}, "type": "kubernetes.io/service-account-token"}
    await world.create("secrets", secret)
    await world.advance(YEAR + DAY)
    marked = {
        found["metadata"]["name"]: INVALID_SINCE_LABEL in (found["metadata"].get("labels") or {})
        for found in world.registry.reader.list("secrets", "ns")
    }
    assert not marked.pop("mine")
    assert list(marked.values()) == [True]


@pytest.mark.parametrize("since", [None, "", "yesterday", "2027-12-01"])
async def test_nothing_is_done_before_uses_have_been_noted_for_long(world: ControllersWorld, since: str | None) -> None:
    if since is None:
        await world.delete("configmaps", TRACKING, "kube-system")
    else:
        await world.update("configmaps", TRACKING, lambda found: found.update(data={"since": since}), "kube-system")
    await world.advance(YEAR + 2 * DAY)
    assert INVALID_SINCE_LABEL not in labels(world)
