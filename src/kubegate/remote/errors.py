"""What goes wrong in calls, in the words of Go's net/http and crypto/tls: Kubernetes shows these to clients."""

from __future__ import annotations

import errno
import os
import ssl
from datetime import UTC, datetime


class RemoteError(Exception):
    """A call that failed; the text is Go's. `transient`: the same call may succeed soon (client-go would retry it).

    `timeout`: the time given was over; `in_body`: the answer had begun. `code` is its HTTP status (0: there was none).
    """

    def __init__(
        self, text: str, *, transient: bool = False, timeout: bool = False, in_body: bool = False, code: int = 0
    ) -> None:
        super().__init__(text)
        self.transient, self.timeout, self.in_body, self.code = transient, timeout, in_body, code


class Failed(Exception):
    """A failure on its way to becoming a RemoteError, without what was asked. `in_body`: the answer's head had come."""

    def __init__(self, text: str, *, transient: bool = False) -> None:
        super().__init__(text)
        self.transient, self.in_body = transient, False


class Dropped(Failed):
    """The connection ended before an answer began."""


class OutOfTime(Failed):
    """The time given was over."""

    def __init__(self) -> None:
        super().__init__("context deadline exceeded")


def dial_problem(address: tuple[str, int], error: OSError) -> Failed:
    return Failed(f"dial tcp {joined(*address)}: connect: {os_text(error)}")


def joined(host: str, port: int) -> str:
    """`host:port`, as net.JoinHostPort writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
_ENDED = ("UNEXPECTED_EOF_WHILE_READING", "APPLICATION_DATA_AFTER_CLOSE_NOTIFY")


def tls_text(error: BaseException | None) -> str:
    if ended_without_words(error):
        return "EOF"
    reason = str(getattr(error, "reason", "") or "")
    return _TLS_TEXTS.get(reason, f"tls: {reason.replace('_', ' ').lower() or 'handshake failure'}")


def ended_without_words(error: BaseException | None) -> bool:
    """Whether the other side just ended the connection: with or without TLS's own goodbye."""
    return error is None or isinstance(error, ssl.SSLEOFError) or getattr(error, "reason", "") in _ENDED


_ERRNO_TEXTS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ENETUNREACH: "network is unreachable",
    errno.EHOSTUNREACH: "no route to host",
    errno.ETIMEDOUT: "connection timed out",
    errno.ECONNRESET: "connection reset by peer",
    errno.EPIPE: "broken pipe",
    errno.EADDRNOTAVAIL: "cannot assign requested address",
    errno.EACCES: "permission denied",
}


def os_text(error: OSError) -> str:
    number = error.errno
    if number is None:
        # several addresses were tried, and the error is about all of them
        number = errno.ECONNREFUSED if "Errno 111" in str(error) else 0
    return _ERRNO_TEXTS.get(number, os.strerror(number).lower() if number else "connection failed")


# OpenSSL's verdicts on certificates.
UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
INVALID_PURPOSE = 26
_EXPIRED = frozenset({9, 10})


def why_refused(der: bytes, code: int, name: str) -> str:
    """crypto/x509's words for a certificate that OpenSSL refused with `code`, where it was to be for `name`."""
    from kubegate.pki import certificates

    certificate = certificates.parse_der(der)
    if code in _EXPIRED:
        return expiry_text(certificate.not_valid_before_utc, certificate.not_valid_after_utc, datetime.now(UTC))
    from cryptography import x509

    names = certificates.alternative_names(certificate)
    addresses = [str(n.value) for n in names if isinstance(n, x509.IPAddress)]
    dns = [n.value for n in names if isinstance(n, x509.DNSName)]
    if is_address(name):
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


def is_address(name: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
