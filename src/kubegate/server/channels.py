"""Streams of a remote command over one websocket: v4.channel.k8s.io and v5.channel.k8s.io.

A message is a channel's number and bytes: 0 what the command reads, 1 and 2 what it writes, 3 how it ended (a Status),
4 the terminal's size; in v5 255 and a channel's number close that channel. Follows
k8s.io/apimachinery/pkg/util/remotecommand and k8s.io/kubelet/pkg/cri/streaming/remotecommand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import orjson

from kubegate.api import Object, status
from kubegate.server.responses import Message

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_MOST_BYTES = 32 * 1024


def chosen(offered: Sequence[str]) -> str:
    """The newest protocol that both know. Raises 400."""
    for protocol in PROTOCOLS:
        if protocol in offered:
            return protocol
    known = ", ".join(PROTOCOLS)
    raise status.bad_request(f"unable to upgrade: no websocket subprotocol in common; {known} are spoken here")


class Channels:
    def __init__(
        self, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]], protocol: str
    ) -> None:
        self._receive, self._send, self._protocol = receive, send, protocol

    async def open(self, first: int) -> None:
        """Accept the websocket; an empty message on the channel `first` tells that all is set up."""
        await self._send({"type": "websocket.accept", "subprotocol": self._protocol})
        await self.write(first, b"")

    async def read(self) -> tuple[int, bytes] | None:
        """(channel, bytes) of the next message; None when the client has gone. An empty message is passed over."""
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                return None
            data = message.get("bytes")
            if data is None:
                data = (message.get("text") or "").encode()
            if data:
                return data[0], data[1:]

    async def write(self, channel: int, data: bytes) -> None:
        for start in range(0, len(data) or 1, _MOST_BYTES):
            part = data[start : start + _MOST_BYTES]
            await self._send({"type": "websocket.send", "bytes": bytes([channel]) + part})

    async def close(self, outcome: Object) -> None:
        """Tell how it ended, and end."""
        await self.write(ERROR, orjson.dumps(outcome))
        await self._send({"type": "websocket.close", "code": 1000})


def ended(code: int) -> Object:
    """The Status of a command that has ended with this exit code."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failed(text: str) -> Object:
    """The Status of a command that could not be run."""
    return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": text, "code": 500}
