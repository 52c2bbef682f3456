"""Handlers: what probes and lifecycle hooks do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry.checks import listed, nonnegative, port_number_or_name

_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_COUNTS: Final = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_WINDOWS_SIGNALS: Final = ("SIGKILL", "SIGTERM")
_SIGNALS: Final = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP "
    "TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX"
)
_LINUX_SIGNALS: Final = tuple(
    sorted(
        [
            *(f"SIG{name}" for name in _SIGNALS.split()),
            *(f"SIGRTMIN+{step}" for step in range(1, 16)),
            *(f"SIGRTMAX-{step}" for step in range(1, 15)),
        ]
    )
)


def liveness(probe: Object | None, grace: int | None, path: str) -> list[FieldError]:
    if probe is None:
        return []
    errors = _probe(probe, grace, path)
    if probe.get("successThreshold", 0) != 1:
        errors.append(
            field.invalid(field.child(path, "successThreshold"), probe.get("successThreshold", 0), "must be 1")
        )
    return errors


startup = liveness


def readiness(probe: Object | None, grace: int | None, path: str) -> list[FieldError]:
    if probe is None:
        return []
    errors = _probe(probe, grace, path)
    period = probe.get("terminationGracePeriodSeconds")
    if period is not None:
        here = field.child(path, "terminationGracePeriodSeconds")
        errors.append(field.invalid(here, period, "must not be set for readinessProbes"))
    return errors


def _probe(probe: Object, grace: int | None, path: str) -> list[FieldError]:
    errors = handler({name: probe[name] for name in _HANDLERS[:4] if name in probe}, grace, path)
    for name in _COUNTS:
        errors += nonnegative(probe.get(name, 0), field.child(path, name))
    period = probe.get("terminationGracePeriodSeconds")
    if period is not None and period <= 0:
        errors.append(
            field.invalid(field.child(path, "terminationGracePeriodSeconds"), period, "must be greater than 0")
        )
    return errors


def lifecycle(found: Object, grace: int | None, path: str, os: str | None) -> list[FieldError]:
    errors = []
    for name in ("postStart", "preStop"):
        if name in found:
            errors += handler(found[name], grace, field.child(path, name))
    if "stopSignal" in found:
        errors += _stop_signal(found["stopSignal"], field.child(path, "stopSignal"), os)
    return errors


def _stop_signal(signal: str, path: str, os: str | None) -> list[FieldError]:
    if os is None:
        return [field.forbidden(path, "may not be set for containers with empty `spec.os.name`")]
    supported = {"windows": _WINDOWS_SIGNALS, "linux": _LINUX_SIGNALS}.get(os)
    if supported is not None and signal not in supported:
        return [field.not_supported(path, signal, supported)]
    return []


def handler(found: Mapping[str, Any], grace: int | None, path: str) -> list[FieldError]:
    """Exactly one way to act, and that one well formed."""
    errors = []
    chosen = 0
    for name in _HANDLERS:
        if name not in found:
            continue
        here = field.child(path, name)
        if chosen:
            errors.append(field.forbidden(here, "may not specify more than 1 handler type"))
            continue
        chosen += 1
        errors += _CHECKS[name](found[name], grace, here)
    if not chosen:
        errors.append(field.required(path, "must specify a handler type"))
    return errors


def _exec(found: Object, grace: int | None, path: str) -> list[FieldError]:
    return [] if listed(found, "command") else [field.required(field.child(path, "command"))]


def _http_get(found: Object, grace: int | None, path: str) -> list[FieldError]:
    errors = []
    if not found.get("path"):
        errors.append(field.required(field.child(path, "path")))
    errors += port_number_or_name(found.get("port", 0), field.child(path, "port"))
    scheme = found.get("scheme", "")
    if scheme not in ("HTTP", "HTTPS"):
        errors.append(field.not_supported(field.child(path, "scheme"), scheme, ("HTTP", "HTTPS")))
    for header in listed(found, "httpHeaders"):
        name = header.get("name", "")
        errors += [field.invalid(field.child(path, "httpHeaders"), name, t) for t in names.is_http_header_name(name)]
    return errors


def _tcp_socket(found: Object, grace: int | None, path: str) -> list[FieldError]:
    return port_number_or_name(found.get("port", 0), field.child(path, "port"))


def _sleep(found: Object, grace: int | None, path: str) -> list[FieldError]:
    seconds = found.get("seconds", 0)
    if grace is None or 0 <= seconds <= grace:
        return []
    return [field.invalid(path, seconds, f"must be non-negative and less than terminationGracePeriodSeconds ({grace})")]


_CHECKS: Final = {
    "exec": _exec,
    "httpGet": _http_get,
    "tcpSocket": _tcp_socket,
    "grpc": _tcp_socket,
    "sleep": _sleep,
}
