"""Calling a webhook: where it is, with which credentials, in how much time."""

from __future__ import annotations

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
from kubegate.remote.client import Clients, Endpoint, RemoteError, Response
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


class Target(Protocol):
    """A webhook to call: `clientConfig`, its CA bundle as PEM, and how many seconds it may take."""

    @property
    def client_config(self) -> Object: ...

    @property
    def authority(self) -> bytes | None: ...

    @property
    def timeout(self) -> int: ...


class Dispatcher:
    """Calls webhooks over connections that are kept. Close it when nothing is called any more."""

    def __init__(
        self, reader: Reader, services: Mapping[str, tuple[str, int]], credentials: Credentials | None = None
    ) -> None:
        """`services` are addresses to use for services by `NAME.NAMESPACE.svc`, whatever the API says of them."""
        self._reader, self._services = reader, services
        self._credentials = credentials or Credentials()
        self._clients = Clients()

    async def call(self, webhook: Target, body: bytes) -> Response:
        """POST a review, within the webhook's timeout. Raises RemoteError with Go's text."""
        url, endpoint = self._target(webhook)
        try:
            client = self._clients.get(endpoint)
        except ValueError:
            text = "could not get REST client: unable to load root certificates: unable to parse bytes as PEM block"
            raise RemoteError(text) from None
        return await client.post_json(body, url=url, within=float(webhook.timeout), replay=True)

    async def close(self) -> None:
        await self._clients.close()

    def _target(self, webhook: Target) -> tuple[str, Endpoint]:
        """The URL to show in errors, and where and how to really go."""
        service = webhook.client_config.get("service")
        timeout = f"?timeout={webhook.timeout}s"
        if service is None:
            parts = urlsplit(webhook.client_config.get("url") or "")
            path = posixpath.normpath(f"/{parts.path}").replace("//", "/")
            url = f"{parts.scheme}://{parts.netloc}{path}{timeout}"
            try:
                number = parts.port or 443
            except ValueError:
                given = parts.netloc.rpartition(":")[2]
                raise RemoteError(f'Post "{url}": dial tcp: address {given}: invalid port') from None
            found = self._credentials.of(parts.hostname or "", number) or _NO_CREDENTIALS
            return url, replace(found, url=f"{parts.scheme}://{parts.netloc}", authority=webhook.authority)
        name, namespace, port = service.get("name", ""), service.get("namespace", ""), service.get("port") or 443
        host = f"{name}.{namespace}.svc"
        path = posixpath.normpath(f"/{service.get('path') or ''}").replace("//", "/")
        url = f"https://{host}:{port}{path}{timeout}"
        try:
            address = self._services.get(host) or services.resolve(self._reader, namespace, name, port)
        except services.Unroutable as error:
            raise RemoteError(f'Post "{url}": {error}') from None
        found = self._credentials.of(host, port) or _NO_CREDENTIALS
        endpoint = replace(
            found,
            url=f"https://{host}:{port}",
            authority=webhook.authority,
            server_name=host,
            resolve=address,
        )
        return url, endpoint
