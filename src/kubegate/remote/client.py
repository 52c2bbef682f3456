"""An HTTP client for one endpoint: pooled connections, no redirects, bounds on time, size and calls in flight.

What goes wrong is a `RemoteError` whose text is that of Go's net/http and crypto/tls, because Kubernetes shows these
texts to clients (`Post "https://…": context deadline exceeded`). aiohttp is imported with the first call.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import orjson
from msgspec import Struct

from kubegate.pki import kubeconfig

if TYPE_CHECKING:
    import aiohttp

DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_RESPONSE = 16 * 1024 * 1024
DEFAULT_IN_FLIGHT = 100
_KEEP_ALIVE = 15.0
_WAITING_FOR_EACH_SLOT = 20


class RemoteError(Exception):
    """A call that failed; the text is Go's. `transient`: the same call may succeed soon (client-go would retry it).

    `timeout`: the time given was over. `code` is the answer's HTTP status (0: there was no answer).
    """

    def __init__(self, text: str, *, transient: bool = False, timeout: bool = False, code: int = 0) -> None:
        super().__init__(text)
        self.transient, self.timeout, self.code = transient, timeout, code


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to call, whom to trust, what to show. Equal endpoints may share connections.

    `authority` is PEM (None: the system's authorities); `server_name` is the name that the certificate must be for
    (and SNI), where it is not the URL's host; `resolve` is the address to dial whatever the URL's host says.
    `in_flight` bounds calls at one time; more wait for their turn, within their own timeout.
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


class Response(Struct, frozen=True):
    """An answer with its whole body. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")


class Client:
    """Calls one endpoint. Make it anywhere; use it and close it on one event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises ValueError where the endpoint's certificates cannot be used, or its URL is not http or https."""
        scheme = urlsplit(endpoint.url).scheme
        if scheme not in ("http", "https"):
            raise ValueError(f"{endpoint.url}: the URL must begin with https:// or http://")
        self.endpoint = endpoint
        self._tls = _context(endpoint) if scheme == "https" else None
        self._session: aiohttp.ClientSession | None = None
        self._resolver: _Resolver | None = None
        self._slots = asyncio.Semaphore(endpoint.in_flight)
        self._waiting = 0
        self._token_file = _TokenFile(endpoint.token_file) if endpoint.token_file else None

    async def post_json(
        self,
        body: Any,
        *,
        url: str = "",
        within: float = DEFAULT_TIMEOUT,
        headers: Mapping[str, str] | None = None,
        replay: bool = False,
    ) -> Response:
        """POST `body` (bytes are sent as they are, all else as JSON) to `url`, or to the endpoint's own.

        `within` in seconds holds for all of it: waiting for a turn, connecting, answering. With `replay`, a call whose
        connection ended before any answer came is sent once more. Raises RemoteError.
        """
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {"Content-Type": "application/json", "Accept": "application/json, */*", **(headers or {})}
        return await self.request("POST", url, data=data, within=within, headers=sent, replay=replay)

    async def get(
        self, url: str = "", *, within: float = DEFAULT_TIMEOUT, headers: Mapping[str, str] | None = None
    ) -> Response:
        """GET `url`, or the endpoint's own. Raises RemoteError."""
        return await self.request("GET", url, data=None, within=within, headers=headers or {}, replay=True)

    async def request(
        self, method: str, url: str, *, data: bytes | None, within: float, headers: Mapping[str, str], replay: bool
    ) -> Response:
        target = url or self.endpoint.url
        try:
            async with asyncio.timeout(within):
                async with self._turn():
                    try:
                        return await self._send(method, target, data, headers)
                    except _Dropped:
                        if not replay:
                            raise
                        return await self._send(method, target, data, headers)
        except TimeoutError:
            raise RemoteError(f'{_verb(method)} "{target}": context deadline exceeded', timeout=True) from None
        except _Failed as failure:
            text = f'{_verb(method)} "{target}": {failure}'
            raise RemoteError(text, transient=failure.transient, timeout=failure.timeout) from None

    async def close(self) -> None:
        """Close the connections; calls in flight fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def _turn(self) -> Any:
        if self._waiting >= _WAITING_FOR_EACH_SLOT * self.endpoint.in_flight:
            raise _Failed("too many calls are waiting for this endpoint")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _send(self, method: str, url: str, data: bytes | None, headers: Mapping[str, str]) -> Response:
        import aiohttp

        session = self._session or self._open()
        options: dict[str, Any] = {}
        if self.endpoint.proxy_url:
            options["proxy"] = self.endpoint.proxy_url
        if self.endpoint.server_name and url.startswith("https:"):
            options["server_hostname"] = self.endpoint.server_name
        try:
            async with session.request(
                method, _as_given(url), data=data, headers=await self._with_credentials(headers), allow_redirects=False,
                **options
            ) as answer:  # fmt: skip
                body = await self._read(answer)
                found = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status, found, body)
        except aiohttp.ClientConnectorCertificateError as error:
            raise _Failed(await self._certificate_problem(error.certificate_error, url)) from None
        except aiohttp.ClientSSLError as error:
            raise _Failed(_tls_problem(error.__cause__ or error)) from None
        except aiohttp.ClientConnectorDNSError:
            raise _Failed(f"dial tcp: lookup {urlsplit(url).hostname}: no such host") from None
        except aiohttp.ClientConnectorError as error:
            raise _Failed(self._dial_problem(error.os_error, url)) from None
        except aiohttp.ServerDisconnectedError:
            raise _Dropped("EOF") from None
        except aiohttp.ClientPayloadError:
            raise _Failed("unexpected EOF") from None
        except aiohttp.ClientOSError as error:
            if error.errno in (errno.ECONNRESET, errno.EPIPE):
                raise _Dropped("read: connection reset by peer", transient=True) from None
            raise _Failed(_os_text(error)) from None
        except aiohttp.InvalidURL:
            raise _Failed("invalid URL") from None
        except aiohttp.ClientError:
            raise _Failed("net/http: HTTP/1.x transport connection broken: malformed HTTP response") from None

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        limit = self.endpoint.max_response
        pieces: list[bytes] = []
        size = 0
        async for piece in answer.content.iter_any():
            size += len(piece)
            if size > limit:
                answer.close()
                raise _Failed(f"the answer is larger than {limit} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    async def _with_credentials(self, headers: Mapping[str, str]) -> dict[str, str]:
        found = {"User-Agent": self.endpoint.user_agent, **headers}
        token = self._token_file.read() if self._token_file else self.endpoint.token
        if token:
            found.setdefault("Authorization", f"Bearer {token}")
        elif self.endpoint.username:
            import base64

            pair = f"{self.endpoint.username}:{self.endpoint.password}".encode()
            found.setdefault("Authorization", "Basic " + base64.b64encode(pair).decode())
        return found

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        self._resolver = _Resolver(self.endpoint.resolve)
        connector = aiohttp.TCPConnector(
            ssl=self._tls if self._tls is not None else True,
            limit=self.endpoint.in_flight,
            keepalive_timeout=_KEEP_ALIVE,
            resolver=cast(Any, self._resolver),
            use_dns_cache=self.endpoint.resolve is None,
            ttl_dns_cache=10,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=True,
            trust_env=False,
        )
        return self._session

    def _dial_problem(self, error: OSError, url: str) -> str:
        return f"dial tcp {self._address(url)}: connect: {_os_text(error)}"

    def _address(self, url: str) -> str:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        if self.endpoint.resolve:
            host, port = self.endpoint.resolve
        elif self._resolver is not None:
            host = self._resolver.last.get(host, host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def _certificate_problem(self, error: Exception, url: str) -> str:
        """crypto/x509's words. OpenSSL does not hand out a certificate that it refused: ask for it once more."""
        prefix = "tls: failed to verify certificate: x509: "
        code = getattr(error, "verify_code", 0)
        if code in _UNKNOWN_AUTHORITY:
            return prefix + "certificate signed by unknown authority"
        if code == _INVALID_PURPOSE:
            return prefix + "certificate specifies an incompatible key usage"
        name = self.endpoint.server_name or urlsplit(url).hostname or ""
        der = await self._presented(url, name)
        if der is None:
            return prefix + str(getattr(error, "verify_message", "") or "certificate is not valid")
        return prefix + _why_refused(der, code, name)

    async def _presented(self, url: str, name: str) -> bytes | None:
        """The certificate that the server shows, verified by nobody; nothing is sent over that connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, _, port = self._address(url).rpartition(":")
        try:
            _, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=context, server_hostname=name or None
            )
        except (OSError, ssl.SSLError, ValueError):
            return None
        try:
            found = writer.get_extra_info("ssl_object")
            return found.getpeercert(binary_form=True) if found else None
        finally:
            writer.transport.abort()


class Clients:
    """Clients by endpoint, at most `limit` of them: the one not used for longest is closed."""

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._clients: OrderedDict[Endpoint, Client] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    def get(self, endpoint: Endpoint) -> Client:
        """The client of this endpoint, made where there is none. Raises ValueError as Client does."""
        client = self._clients.get(endpoint)
        if client is None:
            client = self._clients[endpoint] = Client(endpoint)
            while len(self._clients) > self._limit:
                _, oldest = self._clients.popitem(last=False)
                task = asyncio.ensure_future(oldest.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        else:
            self._clients.move_to_end(endpoint)
        return client

    async def close(self) -> None:
        clients, self._clients = list(self._clients.values()), OrderedDict()
        await asyncio.gather(*(client.close() for client in clients), *self._closing, return_exceptions=True)


class _Failed(Exception):
    """A failure on its way to becoming a RemoteError; the text is what follows `Post "URL": `."""

    def __init__(self, text: str, *, transient: bool = False, timeout: bool = False) -> None:
        super().__init__(text)
        self.transient, self.timeout = transient, timeout


class _Dropped(_Failed):
    """The connection ended before an answer began."""


class _TokenFile:
    """A bearer token in a file, read again when a minute has passed, as client-go does."""

    def __init__(self, path: Path) -> None:
        self._path, self._token, self._until = path, "", 0.0

    def read(self) -> str:
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            try:
                self._token = self._path.read_text().strip()
            except OSError:
                if not self._token:
                    raise _Failed(f"failed to read token file {str(self._path)!r}") from None
            self._until = now + 60
        return self._token


class _Resolver:
    """Names to addresses through the system's resolver, or always the one address; keeps the last one for errors."""

    def __init__(self, fixed: tuple[str, int] | None) -> None:
        self._fixed = fixed
        self.last: dict[str, str] = {}

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[Any]:
        target = self._fixed or (host, port)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(*target, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        results = []
        for af, _, protocol, _, address in found:
            results.append(
                {"hostname": host, "host": address[0], "port": address[1], "family": af, "proto": protocol,
                 "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV}
            )  # fmt: skip
        if results:
            if len(self.last) > 64:
                self.last.clear()
            self.last[host] = str(results[0]["host"])
        return results

    async def close(self) -> None:
        pass


_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
_EXPIRED = {9, 10}
_INVALID_PURPOSE = 26


def _why_refused(der: bytes, code: int, name: str) -> str:
    from kubegate.pki import certificates

    certificate = certificates.parse_der(der)
    if code in _EXPIRED:
        return expiry_text(certificate.not_valid_before_utc, certificate.not_valid_after_utc, datetime.now(UTC))
    from cryptography import x509

    names = certificates.alternative_names(certificate)
    addresses = [str(n.value) for n in names if isinstance(n, x509.IPAddress)]
    dns = [n.value for n in names if isinstance(n, x509.DNSName)]
    if _is_address(name):
        if not addresses:
            return f"cannot validate certificate for {name} because it doesn't contain any IP SANs"
        return f"certificate is valid for {', '.join(addresses)}, not {name}"
    if not names and certificates.subject_of(certificate).common_name:
        return "certificate relies on legacy Common Name field, use SANs instead"
    if not dns:
        return f"certificate is not valid for any names, but wanted to match {name}"
    return f"certificate is valid for {', '.join(dns)}, not {name}"


def expiry_text(not_before: datetime, not_after: datetime, now: datetime) -> str:
    """crypto/x509's words for a certificate that is out of its time."""
    text, moment = "certificate has expired or is not yet valid: ", now.strftime("%Y-%m-%dT%H:%M:%SZ")
    if now < not_before:
        return f"{text}current time {moment} is before {not_before.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    return f"{text}current time {moment} is after {not_after.strftime('%Y-%m-%dT%H:%M:%SZ')}"


def _is_address(name: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


# OpenSSL's reasons, and what Go says to the same.
_TLS_TEXTS = {
    "WRONG_VERSION_NUMBER": "http: server gave HTTP response to HTTPS client",
    "HTTP_REQUEST": "http: server gave HTTP response to HTTPS client",
    "RECORD_LAYER_FAILURE": "tls: first record does not look like a TLS handshake",
    "PACKET_LENGTH_TOO_LONG": "tls: first record does not look like a TLS handshake",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "remote error: tls: handshake failure",
    "SSLV3_ALERT_BAD_CERTIFICATE": "remote error: tls: bad certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "remote error: tls: unknown certificate authority",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "remote error: tls: certificate required",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "remote error: tls: expired certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "remote error: tls: unknown certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "remote error: tls: protocol version not supported",
    "TLSV1_UNRECOGNIZED_NAME": "remote error: tls: unrecognized name",
    "TLSV1_ALERT_INTERNAL_ERROR": "remote error: tls: internal error",
}


def _tls_problem(error: BaseException) -> str:
    reason = getattr(error, "reason", "") or ""
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError) or reason == "UNEXPECTED_EOF_WHILE_READING":
        return "EOF"
    return _TLS_TEXTS.get(str(reason), f"tls: {str(reason).replace('_', ' ').lower() or 'handshake failure'}")


_ERRNO_TEXTS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ENETUNREACH: "network is unreachable",
    errno.EHOSTUNREACH: "no route to host",
    errno.ETIMEDOUT: "connection timed out",
    errno.ECONNRESET: "connection reset by peer",
    errno.EADDRNOTAVAIL: "cannot assign requested address",
    errno.EACCES: "permission denied",
}


def _os_text(error: OSError) -> str:
    number = error.errno
    if number is None:
        # happy eyeballs: several addresses were tried, and the error is about all of them
        number = errno.ECONNREFUSED if "Errno 111" in str(error) else 0
    return _ERRNO_TEXTS.get(number, os.strerror(number).lower() if number else "connection failed")


def _verb(method: str) -> str:
    return method.capitalize()


def _as_given(url: str) -> Any:
    """The URL as it was written: nothing in it is encoded again or put in order."""
    from yarl import URL

    return URL(url, encoded=True)


def _context(endpoint: Endpoint) -> ssl.SSLContext:
    """TLS as Go's client does it: names from the alternative names alone, any certificate of the pool an anchor."""
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
