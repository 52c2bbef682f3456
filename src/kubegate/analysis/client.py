"""A running API server, asked as whoever a kubeconfig says.

Questions read; `kubegate iam` also writes what it maps (`ApiServer.send`). Lists are read page by page, so that a large
cluster is not asked for everything at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from kubegate.analysis.sources import Cluster, Key, Progress, SourceError, apply_patch, key_of
from kubegate.api import Object
from kubegate.authorization import Attributes
from kubegate.authorization.webhook import review_of, spec_of
from kubegate.pki import kubeconfig
from kubegate.remote import result
from kubegate.remote.client import Client, Endpoint, RemoteError

_PAGE = 500
_EXEC_SECONDS = 60.0
_WRITE_SECONDS = 30.0
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_AUTHORIZATION = "/apis/authorization.k8s.io/v1"
_LISTS = {
    "ClusterRole": f"{_RBAC}/clusterroles",
    "Role": f"{_RBAC}/roles",
    "ClusterRoleBinding": f"{_RBAC}/clusterrolebindings",
    "RoleBinding": f"{_RBAC}/rolebindings",
}


class ApiServer:
    """Use it as `async with connect(...) as server`."""

    def __init__(self, client: Client, server: str) -> None:
        self._client, self.server = client, server.rstrip("/")

    async def get(self, path: str) -> Object:
        """Raises SourceError."""
        try:
            answer = await self._client.get(self.server + path, headers={"Accept": "application/json"})
            return result.into(answer)
        except RemoteError as error:
            raise SourceError(f"{self.server}{path}: {error}", error.code) from None

    async def document(self, path: str) -> Object:
        """A JSON document that is no Kubernetes object. Raises SourceError."""
        try:
            answer = await self._client.get(self.server + path, headers={"Accept": "application/json"})
            if answer.status != 200:
                raise result.failure(answer)
            found = orjson.loads(answer.body)
        except (RemoteError, orjson.JSONDecodeError) as error:
            raise SourceError(f"{self.server}{path}: {error}") from None
        return found if isinstance(found, dict) else {}

    async def post(self, path: str, body: Object) -> Object:
        """Raises SourceError."""
        try:
            answer = await self._client.post_json(body, url=self.server + path)
            return result.into(answer)
        except RemoteError as error:
            raise SourceError(f"{self.server}{path}: {error}", error.code) from None

    async def send(self, method: str, path: str, body: Object, content_type: str = "application/json") -> Object:
        """Write an object: PUT or PATCH it. Raises SourceError, with the answer's status as its `code`."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        url, data = self.server + path, orjson.dumps(body)
        try:
            sent = self._client.request(method, url, data=data, within=_WRITE_SECONDS, headers=headers, replay=False)
            return result.into(await sent)
        except RemoteError as error:
            raise SourceError(f"{self.server}{path}: {error}", error.code) from None

    async def items(self, path: str) -> AsyncIterator[Object]:
        """All objects of a list. Raises SourceError."""
        token = ""
        while True:
            page = await self.get(f"{path}?limit={_PAGE}&continue={quote(token)}")
            for item in page.get("items") or ():
                yield item
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    async def cluster(self, progress: Progress | None = None, patch: Path | None = None) -> Cluster:
        """All RBAC, and where it may be read, which namespaces and service accounts there are. Raises SourceError.

        `patch` is as in `sources.from_folder`.
        """
        found: dict[Key, Object] = {}
        for kind, path in _LISTS.items():
            async for item in self.items(path):
                obj = {**item, "kind": kind}
                found[key_of(obj)] = obj
                if progress is not None and not len(found) % _PAGE:
                    progress(len(found), 0)
        if patch is not None:
            apply_patch(found, patch)
        cluster = Cluster.of_objects(found.values(), self.server, aggregated=patch is None)
        with contextlib.suppress(SourceError):
            cluster.namespaces = frozenset([ns["metadata"]["name"] async for ns in self.items("/api/v1/namespaces")])
        with contextlib.suppress(SourceError):
            cluster.service_accounts = frozenset(
                [
                    (each["metadata"]["namespace"], each["metadata"]["name"])
                    async for each in self.items("/api/v1/serviceaccounts")
                ]
            )
        return cluster

    async def review(self, attributes: Attributes) -> Object:
        """The status of a SubjectAccessReview: what all of the server's authorizers say. Raises SourceError."""
        answer = await self.post(f"{_AUTHORIZATION}/subjectaccessreviews", review_of(spec_of(attributes), "v1"))
        status = answer.get("status")
        return status if isinstance(status, dict) else {}

    async def whoami(self) -> Object:
        """The UserInfo that the server knows this caller by. Raises SourceError."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await self.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
        user = (answer.get("status") or {}).get("userInfo")
        return user if isinstance(user, dict) else {}


@contextlib.asynccontextmanager
async def connect(path: Path | None = None, context: str = "") -> AsyncIterator[ApiServer]:
    """The server of a kubeconfig (kubectl's own where none is named). Raises SourceError."""
    try:
        connection = await asyncio.to_thread(_connection, path, context)
        endpoint = await _endpoint(connection)
        client = Client(endpoint)
    except (kubeconfig.BadKubeconfig, ValueError) as error:
        raise SourceError(str(error)) from None
    try:
        yield ApiServer(client, connection.server)
    finally:
        await client.close()


def _connection(path: Path | None, context: str) -> kubeconfig.Connection:
    paths = [path] if path is not None else [p for p in kubeconfig.default_paths() if p.exists()]
    if not paths:
        raise SourceError("there is no kubeconfig: name one with --kubeconfig, or a folder of manifests with --from")
    configs = [kubeconfig.load(each) for each in paths]
    merged = configs[0] if len(configs) == 1 else kubeconfig.merge(configs[0], *configs[1:])
    return kubeconfig.resolve(merged, os.pathsep.join(map(str, paths)), context, paths[0].parent)


async def _endpoint(connection: kubeconfig.Connection) -> Endpoint:
    token, certificate, key = connection.token, connection.certificate, connection.key
    if connection.exec is not None:
        credential = await _run_exec(connection.exec)
        token = str(credential.get("token") or "")
        certificate = _pem(credential.get("clientCertificateData")) or certificate
        key = _pem(credential.get("clientKeyData")) or key
    return Endpoint(
        url=connection.server,
        authority=connection.authority,
        certificate=certificate,
        key=key,
        token=token,
        token_file=connection.token_file,
        username=connection.username,
        password=connection.password,
        server_name=connection.tls_server_name,
        verify=connection.verify,
        proxy_url=connection.proxy_url,
    )


def _pem(text: Any) -> bytes | None:
    return text.encode() if isinstance(text, str) and text else None


async def _run_exec(plugin: Mapping[str, Any]) -> Object:
    """The status of the ExecCredential that a credential plugin prints (client.authentication.k8s.io). ValueError."""
    version = str(plugin.get("apiVersion") or "client.authentication.k8s.io/v1")
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {**os.environ, "KUBERNETES_EXEC_INFO": orjson.dumps(info).decode()}
    environment.update({str(each["name"]): str(each["value"]) for each in plugin.get("env") or ()})
    command = [str(plugin.get("command") or ""), *map(str, plugin.get("args") or ())]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise ValueError(f"the credential plugin {command[0]} cannot be run: {error.strerror}") from None
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _EXEC_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ValueError(f"the credential plugin {command[0]} took longer than {_EXEC_SECONDS:.0f} s") from None
    try:
        found = orjson.loads(output) if process.returncode == 0 else None
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("status"), dict):
        raise ValueError(f"the credential plugin {command[0]} gave no ExecCredential (exit code {process.returncode})")
    status: Object = found["status"]
    return status
