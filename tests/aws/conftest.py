"""An authenticator and its STS."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))

from aws_tokens import Make, World, identity, make_world
from remote_server import Serve, serve  # noqa: F401


@pytest.fixture
async def make(serve: Serve) -> AsyncIterator[Make]:  # noqa: F811
    """`await make(answer)`: `answer(head)` gives the bytes of STS's answer; jane where none is given."""
    made: list[World] = []

    async def jane(head: str) -> bytes:
        return identity()

    async def begin(answer: Callable[[str], Awaitable[bytes | None]] = jane, *others: Any, **bounds: Any) -> World:
        made.append(await make_world(serve, answer, *others, **bounds))
        return made[-1]

    yield begin
    for world in made:
        await world.authenticator.close()
