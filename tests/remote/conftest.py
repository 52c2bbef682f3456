"""Fixtures of the remote room."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop
from remote_server import serve

__all__ = ["serve"]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Servers run on uvloop; commands, and whoever has the plugin in a test, may run on asyncio's own."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
