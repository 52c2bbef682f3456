"""Where to call, whom to trust, what to show."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubegate.api import durations
from kubegate.pki import kubeconfig

DEFAULT_MAX_RESPONSE = 16 * 1024 * 1024
DEFAULT_IN_FLIGHT = 100


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to call, whom to trust, what to show. Equal endpoints may share connections.

    `authority` is PEM (None: the system's authorities); `server_name` is the name that the certificate must be for
    (and SNI), where it is not the URL's host; `resolve` is the address to dial whatever the URL's host says.
    `in_flight` bounds the calls of one lane at one time (see `Client.request`); more wait for their turn, within their
    own timeout.
    """

    url: str
    authority: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    server_name: str = ""
    verify: bool = True
    proxy_url: str = ""
    resolve: tuple[str, int] | None = None
    in_flight: int = DEFAULT_IN_FLIGHT
    max_response: int = DEFAULT_MAX_RESPONSE
    user_agent: str = "kubegate"

    @classmethod
    def from_kubeconfig(cls, path: Path, context: str = "", **changes: Any) -> Endpoint:
        """The endpoint that a kubeconfig file describes. Raises kubeconfig.BadKubeconfig, naming file and place."""
        found = kubeconfig.load_connection(path, context)
        if found.exec is not None:
            raise kubeconfig.BadKubeconfig(str(path), "users", "exec credentials are not supported for webhooks")
        endpoint = cls(
            url=found.server,
            authority=found.authority,
            certificate=found.certificate,
            key=found.key,
            token=found.token,
            token_file=found.token_file,
            username=found.username,
            password=found.password,
            server_name=found.tls_server_name,
            verify=found.verify,
            proxy_url=found.proxy_url,
        )
        return replace(endpoint, **changes)

    def within(self, seconds: float) -> Endpoint:
        """The endpoint with the time that it has for an answer told in its URL, as client-go does."""
        return replace(self, url=f"{self.url}?timeout={durations.text(seconds)}")
