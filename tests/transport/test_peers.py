"""Who is connected to a port, as the kernel knows it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from kubegate.transport.peers import Peer, gone


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as found:
        try:
            found.bind((request.param, 0))
        except OSError:
            pytest.skip(f"this machine has no {request.param}")
        found.listen()
        yield found


def connected(listening: socket.socket) -> tuple[socket.socket, socket.socket, Peer]:
    """A client's socket, the server's, and the client as the server sees it."""
    client = socket.create_connection(listening.getsockname()[:2])
    server, address = listening.accept()
    return client, server, (address[0], address[1])


def test_who_has_closed_is_gone_and_others_are_not(listening: socket.socket) -> None:
    port = listening.getsockname()[1]
    staying, held, here = connected(listening)
    leaving, left_with, there = connected(listening)
    with staying, held, left_with:
        assert gone(port, {here, there}) == set()
        leaving.close()
        assert gone(port, {here, there}) == {there}
        assert gone(port, {(here[0], 1)}) == {(here[0], 1)}, "nobody ever came from there"


def test_an_address_of_ipv4_is_the_same_in_the_form_of_ipv6() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client, server, (address, number) = connected(listening)
        with client, server:
            assert gone(listening.getsockname()[1], {(f"::ffff:{address}", number)}) == set()
