"""A whole API server in a thread of this process, with a store of its own in memory."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import urllib.error
import urllib.request
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

from kubegate.api import Object

_LONGEST = 30.0


class ApiError(Exception):
    """The server refused. `status` is the metav1.Status; `code` the HTTP status."""

    def __init__(self, code: int, status: Object) -> None:
        super().__init__(str(status.get("message") or code))
        self.code, self.status = code, status


class Kubegate:
    """An API server on a free port of 127.0.0.1, and its administrator.

    `url` is its address, `kubeconfig` a file with the administrator's certificate, `ca` the authority's. Everything is
    kept under `folder`; nothing runs after `stop`. Flags are those of `kubegate serve`.

    Keys are made once in `pki` and shared by all servers that are given the same folder.
    """

    def __init__(self, folder: Path, *flags: str, pki: Path | None = None) -> None:
        self.folder = folder
        self._flags = (
            "--secure-port=0",
            "--storage=memory",
            f"--data-dir={folder}",
            f"--cert-dir={pki or folder / 'pki'}",
            *flags,
        )
        self.url = ""
        self.kubeconfig = folder / "admin.kubeconfig"
        self.ca = (pki or folder / "pki") / "ca.crt"
        self._started: Future[None] = Future()
        self._ending: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="kubegate", daemon=True)
        self._opener: urllib.request.OpenerDirector | None = None

    def start(self) -> Kubegate:
        """Returns when it answers. Raises UsageError for flags that cannot be used."""
        self._thread.start()
        self._started.result(timeout=_LONGEST)
        return self

    def stop(self) -> None:
        """Returns when nothing of it is left running."""
        if self._loop is not None and self._ending is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(timeout=_LONGEST)

    def __enter__(self) -> Kubegate:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def request(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Object:
        """One request as the administrator; the decoded answer. Raises ApiError for what is refused."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Content-Type": content_type}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with self._http().open(request, timeout=_LONGEST) as answer:
                found: Object = json.loads(answer.read())
                return found
        except urllib.error.HTTPError as error:
            raw = error.read()
            try:
                status = json.loads(raw)
            except ValueError:
                status = {"message": raw.decode(errors="replace")}
            raise ApiError(error.code, status) from None

    def get(self, path: str) -> Object:
        """`kubegate.get("/api/v1/namespaces/default")`."""
        return self.request("GET", path)

    def create(self, path: str, obj: Object) -> Object:
        """POST to a collection: `/api/v1/namespaces/default/configmaps`."""
        return self.request("POST", path, obj)

    def replace(self, path: str, obj: Object) -> Object:
        return self.request("PUT", path, obj)

    def patch(self, path: str, changes: Any) -> Object:
        """A merge patch."""
        return self.request("PATCH", path, changes, content_type="application/merge-patch+json")

    def delete(self, path: str) -> Object:
        return self.request("DELETE", path)

    def _http(self) -> urllib.request.OpenerDirector:
        if self._opener is None:
            context = ssl.create_default_context(cafile=str(self.ca))
            context.load_cert_chain(self.ca.with_name("admin.crt"), self.ca.with_name("admin.key"))
            handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
            self._opener = urllib.request.build_opener(*handlers)
        return self._opener

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)

    async def _serve(self) -> None:
        from kubegate.server.options import parse
        from kubegate.server.process import Server

        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        server = Server(parse(self._flags).options)
        await server.start()
        try:
            self.url = server.url
            server.write_kubeconfig()
            self._started.set_result(None)
            await self._ending.wait()
        finally:
            await server.stop()
