"""Calling a webhook: where it is, with which credentials, in how much time."""

from __future__ import annotations

import asyncio
import math
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from msgspec import Struct, field

from kubegate.admission.config import ConfigurationError
from kubegate.admission.webhooks import services
from kubegate.api import Object
from kubegate.pki import kubeconfig
from kubegate.remote.client import Client, Clients, Endpoint, RemoteError, Response
from kubegate.storage import Reader

USER_AGENT = "kube-apiserver-admission"


class Credentials(Struct, frozen=True):
    """How this server shows who it is to webhooks, by the name of the host called: `*.example.org`, `*`."""

    by_host: Mapping[str, Endpoint] = field(default_factory=dict)

    def of(self, host: str, port: int) -> Endpoint | None:
        """Those for `host:port`, for the host where the port is 443, for `*.` its parents, or for `*`."""
        names = [f"{host}:{port}", *([host] if port == 443 else [])]
        parts = host.split(".")
        for level in range(1, len(parts)):
            parent = "*." + ".".join(parts[level:])
            names += [f"{parent}:{port}", *([parent] if port == 443 else [])]
        return next((self.by_host[name] for name in (*names, "*") if name in self.by_host), None)


def credentials(configuration: Object, base: Path) -> Credentials:
    """From a WebhookAdmissionConfiguration: the users of the kubeconfig that it names, which hosts are the names of.

    A relative file name is taken from `base`. Raises ConfigurationError.
    """
    file = configuration.get("kubeConfigFile")
    if not file:
        return Credentials()
    path = base / file
    try:
        users = kubeconfig.load(path).get("users") or []
        return Credentials({user["name"]: _endpoint(user, path) for user in users})
    except kubeconfig.BadKubeconfig as error:
        raise ConfigurationError(str(error)) from error


def _endpoint(user: Object, path: Path) -> Endpoint:
    """The user's credentials alone; the cluster is whatever webhook is called."""
    config = {
        "users": [user],
        "clusters": [{"name": "", "cluster": {"server": "https://webhook"}}],
        "contexts": [{"name": "-", "context": {"cluster": "", "user": user["name"]}}],
        "current-context": "-",
    }
    found = kubeconfig.resolve(config, str(path), directory=path.parent)
    if found.exec is not None:
        raise kubeconfig.BadKubeconfig(str(path), "users", "exec credentials are not supported for webhooks")
    return Endpoint(
        url="https://webhook",
        certificate=found.certificate,
        key=found.key,
        token=found.token,
        token_file=found.token_file,
        username=found.username,
        password=found.password,
        user_agent=USER_AGENT,
    )


_NO_CREDENTIALS = Endpoint(url="https://webhook", user_agent=USER_AGENT)
_MOST_WAYS = 1024


class Target(Protocol):
    """A webhook to call: `clientConfig`, its CA bundle as PEM, and how many seconds it may take."""

    @property
    def client_config(self) -> Object: ...

    @property
    def authority(self) -> bytes | None: ...

    @property
    def timeout(self) -> int: ...


class _Way(Struct):
    """To a webhook: the URL to show in errors, and where and how to really go.

    The path is its `lane`: of several webhooks on one server, one that hangs holds up no other.
    """

    url: str
    endpoint: Endpoint
    lane: str
    client: Client | None = None


class Dispatcher:
    """Calls webhooks over connections that are kept. Close it when nothing is called any more."""

    def __init__(
        self, reader: Reader, services: Mapping[str, tuple[str, int]], credentials: Credentials | None = None
    ) -> None:
        """`services` are addresses to use for services by `NAME.NAMESPACE.svc`, whatever the API says of them."""
        self._reader, self._services = reader, services
        self._credentials = credentials or Credentials()
        self._clients = Clients()
        self._ways: dict[tuple[object, ...], _Way] = {}

    async def call(self, webhook: Target, body: bytes, until: float = math.inf) -> Response:
        """POST a review, within the webhook's timeout and until then at most, in the event loop's time.

        Raises RemoteError with Go's text.
        """
        service = webhook.client_config.get("service")
        way = self._to_url(webhook) if service is None else self._to_service(webhook, service)
        client = way.client
        if client is None or client.retired:
            try:
                client = way.client = self._clients.get(way.endpoint)
            except ValueError:
                text = "could not get REST client: unable to load root certificates: unable to parse bytes as PEM block"
                raise RemoteError(text) from None
        within, url = float(webhook.timeout), way.url
        left = until - asyncio.get_running_loop().time()
        if left < within:
            within, url = left, f"{url.partition('?')[0]}?timeout={max(math.ceil(left), 1)}s"
        return await client.post_json(body, url=url, within=within, replay=True, lane=way.lane)

    async def close(self) -> None:
        await self._clients.close()

    def _to_url(self, webhook: Target) -> _Way:
        """Raises RemoteError where there is no such port."""
        given = webhook.client_config.get("url") or ""
        key = (given, webhook.authority, webhook.timeout)
        known = self._ways.get(key)
        if known is not None:
            return known
        parts = urlsplit(given)
        server, path = f"{parts.scheme}://{parts.netloc}", _path(parts.path)
        url = f"{server}{path}?timeout={webhook.timeout}s"
        try:
            port = parts.port or 443
        except ValueError:
            wrong = parts.netloc.rpartition(":")[2]
            raise RemoteError(f'Post "{url}": dial tcp: address {wrong}: invalid port') from None
        found = self._credentials.of(parts.hostname or "", port) or _NO_CREDENTIALS
        return self._remember(key, _Way(url, replace(found, url=server, authority=webhook.authority), path))

    def _to_service(self, webhook: Target, service: Object) -> _Way:
        """Raises RemoteError where the Service has no address."""
        name, namespace, port = service.get("name", ""), service.get("namespace", ""), service.get("port") or 443
        host, given = f"{name}.{namespace}.svc", service.get("path") or ""
        try:
            address = self._services.get(host) or services.resolve(self._reader, namespace, name, port)
        except services.Unroutable as error:
            url = f"https://{host}:{port}{_path(given)}?timeout={webhook.timeout}s"
            raise RemoteError(f'Post "{url}": {error}') from None
        key = (host, port, given, address, webhook.authority, webhook.timeout)
        known = self._ways.get(key)
        if known is not None:
            return known
        server, path = f"https://{host}:{port}", _path(given)
        found = self._credentials.of(host, port) or _NO_CREDENTIALS
        endpoint = replace(found, url=server, authority=webhook.authority, server_name=host, resolve=address)
        return self._remember(key, _Way(f"{server}{path}?timeout={webhook.timeout}s", endpoint, path))

    def _remember(self, key: tuple[object, ...], way: _Way) -> _Way:
        if len(self._ways) >= _MOST_WAYS:
            self._ways.clear()
        self._ways[key] = way
        return way


def _path(given: str) -> str:
    return posixpath.normpath(f"/{given}").replace("//", "/")
