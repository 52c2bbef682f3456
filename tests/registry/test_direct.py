"""What the server itself changes for a request is known here when the request is answered, on a store far away too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from kinds_world import KindsWorld, kinds_world, meta, pod

from kubegate.storage import StoreEvent
from kubegate.storage.memory import MemoryStore


class DistantStore(MemoryStore):
    """Tells of changes after it has answered, as etcd and the store of several workers do."""

    def listen(self, on_events: Callable[[Sequence[StoreEvent]], None]) -> None:
        return None


@pytest.fixture
async def w() -> AsyncIterator[KindsWorld]:
    async with kinds_world(store=DistantStore()) as found:
        yield found


async def test_a_binding_is_known_when_it_is_answered(w: KindsWorld) -> None:
    await w.create("pods", pod())
    await w.post("pods", "p", "binding", {**meta("p"), "target": {"kind": "Node", "name": "n"}})
    assert w.get("pods", "p")["spec"]["nodeName"] == "n"
