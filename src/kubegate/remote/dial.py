"""Connections to one endpoint: names to addresses, TLS, proxies. Nothing is sent before the other side is verified."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from kubegate.remote import errors
from kubegate.remote.endpoint import Endpoint
from kubegate.remote.errors import Failed
from kubegate.remote.http1 import Connection

_NAMES_HOLD: Final = 10.0
"""Seconds for which a name's addresses are remembered."""
_MOST_NAMES: Final = 64
_NEXT_ADDRESS: Final = 0.25
"""Seconds after which the next of several addresses is tried beside the one before."""
_GOODBYE: Final = 1.0
"""Seconds within which the other side may answer TLS's goodbye."""

_Address = tuple[int, int, int, str, tuple[Any, ...]]
"""As socket.getaddrinfo gives them."""

_Ends = tuple[()] | tuple[tuple[str, int], tuple[str, int]]


class Origin(NamedTuple):
    """Who answers a URL."""

    scheme: str
    host: str
    port: int

    @property
    def encrypted(self) -> bool:
        return self.scheme == "https"


class Proxy(NamedTuple):
    origin: Origin
    authorization: str
    """The header's value, empty where the proxy asks for none."""

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the proxy's URL must begin with http:// or https://, and {parts.scheme!r} is neither")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        authorization = basic(unquote(parts.username), unquote(parts.password or "")) if parts.username else ""
        return cls(Origin(parts.scheme, parts.hostname, port), authorization)


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Dialer:
    """Makes connections as an endpoint wants them."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises ValueError where the endpoint's certificates or proxy cannot be used."""
        self._endpoint = endpoint
        self._tls: ssl.SSLContext | None = None
        self.proxy = Proxy.parse(endpoint.proxy_url) if endpoint.proxy_url else None
        if endpoint.url.startswith("https:"):
            self._context()
        self._names: dict[tuple[str, int], tuple[float, asyncio.Future[list[_Address]]]] = {}

    async def connect(self, origin: Origin) -> Connection:
        """A connection over which `origin` can be asked. Raises Failed."""
        if origin.encrypted:
            try:
                self._context()
            except ValueError as error:
                raise Failed(str(error)) from None
        if self.proxy is None:
            host, port = self._endpoint.resolve or (origin.host, origin.port)
            return await self._connected(await self._dial(host, port), origin, self._server_name(origin))
        try:
            to = self.proxy.origin
            connection = await self._connected(await self._dial(to.host, to.port), to, to.host)
        except Failed as failure:
            raise Failed(f"proxyconnect tcp: {failure}", transient=failure.transient) from None
        return await self._through(connection, origin) if origin.encrypted else connection

    def _server_name(self, origin: Origin) -> str:
        return self._endpoint.server_name or origin.host

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = tls_context(self._endpoint)
        return self._tls

    async def _dial(self, host: str, port: int) -> socket.socket:
        addresses = await self._resolve(host, port)
        try:
            if len(addresses) == 1:
                return await _to(addresses[0])
            from aiohappyeyeballs import start_connection

            return await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS, interleave=1)
        except OSError as error:
            raise errors.dial_problem(addresses[0][4][:2], error) from None

    async def _resolve(self, host: str, port: int) -> list[_Address]:
        """A name is asked for once, however many wait for it. Raises Failed."""
        if errors.is_address(host):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
        loop = asyncio.get_running_loop()
        known = self._names.get((host, port))
        if known is None or known[0] <= loop.time():
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            lookup = loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            known = self._names[host, port] = loop.time() + _NAMES_HOLD, asyncio.ensure_future(cast(Any, lookup))
        try:
            return await asyncio.shield(known[1])
        except (OSError, UnicodeError):
            self._names.pop((host, port), None)
            raise Failed(f"dial tcp: lookup {host}: no such host") from None

    async def _connected(self, sock: socket.socket, origin: Origin, server_name: str) -> Connection:
        loop = asyncio.get_running_loop()
        ends, options = _ends(sock), dict[str, Any]()
        if origin.encrypted:
            options = {"ssl": self._context(), "server_hostname": server_name, "ssl_shutdown_timeout": _GOODBYE}
        making = loop.create_task(loop.create_connection(lambda: Connection(loop), sock=sock, **options))
        try:
            _, connection = await asyncio.shield(making)
        except asyncio.CancelledError:
            # Event loops lose track of a socket whose handshake is cancelled: it is left to fail, which it does now.
            making.add_done_callback(_drop)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            raise
        except (OSError, ValueError) as error:
            raise await self._tls_problem(error, server_name, ends) from None
        return connection

    async def _through(self, connection: Connection, origin: Origin) -> Connection:
        """TLS with `origin` by way of a proxy."""
        assert self.proxy is not None
        loop = asyncio.get_running_loop()
        place = errors.joined(origin.host, origin.port)
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", f"User-Agent: {self._endpoint.user_agent}"]
        if self.proxy.authorization:
            lines.append(f"Proxy-Authorization: {self.proxy.authorization}")
        head = "\r\n".join([*lines, "", ""]).encode()
        # who waits has its own deadline; this one is never the first
        answer = await connection.exchange("CONNECT", head, b"", loop.time() + 3600, 64 * 1024)
        if answer.status != 200 or not connection.usable:
            connection.transport.abort()
            from http import HTTPStatus

            known = answer.status in HTTPStatus.__members__.values()
            raise Failed(HTTPStatus(answer.status).phrase if known else f"unknown status code {answer.status}")
        name = self._server_name(origin)
        try:
            transport = await loop.start_tls(
                connection.transport, connection, self._context(), server_hostname=name, ssl_shutdown_timeout=_GOODBYE
            )
        except BaseException as error:
            connection.transport.abort()
            if isinstance(error, OSError | ValueError):
                raise await self._tls_problem(error, name, ()) from None
            raise
        if transport is None:  # it was lost meanwhile
            raise Failed("EOF")
        connection.transport = transport
        return connection

    async def _tls_problem(self, error: Exception, server_name: str, ends: _Ends) -> Failed:
        """`ends` are this side's address and the other's, where it is not behind a proxy."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return Failed(await self._certificate_problem(error, server_name, ends[1] if ends else None))
        if isinstance(error, ssl.SSLError):
            return Failed(errors.tls_text(error))
        if isinstance(error, ConnectionError) and error.errno is None:
            return Failed("EOF")
        if isinstance(error, OSError):
            between = "->".join(errors.joined(*end) for end in ends)
            text = f"read tcp {between}: read: {errors.os_text(error)}"
            return Failed(text, transient=isinstance(error, ConnectionError))
        return Failed("invalid URL")  # a name that TLS cannot ask for

    async def _certificate_problem(self, error: Exception, name: str, peer: tuple[str, int] | None) -> str:
        """crypto/x509's words. OpenSSL does not hand out a certificate that it refused: ask for it once more."""
        prefix = "tls: failed to verify certificate: x509: "
        code = getattr(error, "verify_code", 0)
        if code in errors.UNKNOWN_AUTHORITY:
            return prefix + "certificate signed by unknown authority"
        if code == errors.INVALID_PURPOSE:
            return prefix + "certificate specifies an incompatible key usage"
        der = await _presented(peer, name) if peer is not None else None
        if der is None:
            return prefix + str(getattr(error, "verify_message", "") or "certificate is not valid")
        return prefix + errors.why_refused(der, code, name)


async def _to(address: _Address) -> socket.socket:
    family, kind, protocol, _, place = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


def _drop(making: asyncio.Task[tuple[asyncio.Transport, Connection]]) -> None:
    """What was made for a caller who had gone."""
    if not making.cancelled() and making.exception() is None:
        making.result()[0].abort()


def _ends(sock: socket.socket) -> _Ends:
    try:
        return sock.getsockname()[:2], sock.getpeername()[:2]
    except OSError:  # gone already
        return ()


async def _presented(peer: tuple[str, int], name: str) -> bytes | None:
    """The certificate that the server shows, verified by nobody; nothing is sent over that connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(*peer, ssl=context, server_hostname=name or None)
    except (OSError, ssl.SSLError, ValueError):
        return None
    try:
        found = writer.get_extra_info("ssl_object")
        return found.getpeercert(binary_form=True) if found else None
    finally:
        writer.transport.abort()


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """TLS as Go's client does it: names from the alternative names alone, any certificate of the pool an anchor.

    Raises ValueError where the endpoint's certificates cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not endpoint.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif endpoint.authority is not None:
        try:
            context.load_verify_locations(cadata=endpoint.authority.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError):
            raise ValueError(f"{endpoint.url}: the certificate authority is no PEM certificate") from None
    else:
        context.load_default_certs()
    if endpoint.certificate is not None and endpoint.key is not None:
        with _as_file(endpoint.certificate) as certificate, _as_file(endpoint.key) as key:
            try:
                context.load_cert_chain(certificate, key)
            except ssl.SSLError as error:
                raise ValueError(f"{endpoint.url}: the client certificate cannot be used: {error.reason}") from None
    return context


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """OpenSSL takes a client's certificate and key from files alone; where possible, from one that is on no disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("kubegate", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name
