"""Metrics of the API server, under kube-apiserver's names where the thing measured is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kubegate.api.clock import Clock
from kubegate.api.requestinfo import RequestInfo
from kubegate.transport.metrics import (
    Counter,
    Gauge,
    Histogram,
    Labels,
    Metric,
    Sample,
    Shared,
    exposition,
    process_gauges,
)

_REQUEST = ("verb", "dry_run", "group", "version", "resource", "subresource", "scope", "component")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PUBLISH_SECONDS = 1.0


# Whose requests are told apart, as kube-apiserver does: clients must not make series without end, nor be named in them.
_KNOWN_USERS = {
    name: (name,) for name in ("admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default")
}
_EMAIL_USER, _OTHER_USER = ("email_id",), ("other",)


def request_labels(info: RequestInfo) -> Labels:
    """What is told of a request, but for the answer's code."""
    scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
    return (info.verb.upper(), "", info.group, info.version, info.resource, info.subresource, scope, "apiserver")


class Metrics:
    """All metrics of one server process; told with those of the others where several serve together."""

    def __init__(self, shared: Shared | None = None) -> None:
        self._shared = shared
        self.requests = Counter(
            "apiserver_request_total", "Requests by verb, resource and answer.", (*_REQUEST, "code")
        )
        self.durations = Histogram(
            "apiserver_request_duration_seconds", "Time to answer, watches left out.", _REQUEST, _SECONDS
        )
        self.authenticated = Counter(
            "authenticated_user_requests", "Authenticated requests by who asked, all but a few together.", ("username",)
        )
        self.attempts = Counter("authentication_attempts", "Attempts to authenticate by result.", ("result",))
        self.decisions = Counter(
            "apiserver_authorization_decisions_total", "Final decisions by authorizer.", ("type", "name", "decision")
        )
        self.rejected = Counter(
            "apiserver_flowcontrol_rejected_requests_total", "Requests refused to keep bounds.", ("reason",)
        )
        self.watch_events = Counter("apiserver_watch_events_total", "Events sent.", ("group", "version", "resource"))
        self.audit_events = Counter("apiserver_audit_event_total", "Audit events that were made.")
        self.audit_levels = Counter(
            "apiserver_audit_level_total", "Requests by the level that the audit policy gives them.", ("level",)
        )
        self.audit_errors = Counter(
            "apiserver_audit_error_total", "Audit events that were lost, by the plugin that lost them.", ("plugin",)
        )
        self._codes: dict[Labels, dict[int, int]] = {}
        self._all: list[Metric] = [
            self.requests,
            self.durations,
            self.authenticated,
            self.attempts,
            self.decisions,
            self.rejected,
            self.watch_events,
            self.audit_events,
            self.audit_levels,
            self.audit_errors,
            *process_gauges(),
        ]

    def show_running(self, lasting: Callable[[], Iterable[Sample]], held: Callable[[], Iterable[Sample]]) -> None:
        """What is being answered now: requests that last, by their labels, and those that bounds count, by kind."""
        name = "apiserver_longrunning_requests"
        self.add(Gauge(name, "Requests that last, being answered now.", _REQUEST, lasting, "living"))
        name = "apiserver_current_inflight_requests"
        self.add(Gauge(name, "Requests in flight that the bounds count.", ("request_kind",), held, "living"))

    def add(self, metric: Metric) -> None:
        self._all.append(metric)

    def authenticated_as(self, username: str) -> None:
        """A request is known to be of this user."""
        labels = _KNOWN_USERS.get(username) or (_EMAIL_USER if "@" in username else _OTHER_USER)
        counted = self.authenticated.values
        counted[labels] = counted.get(labels, 0.0) + 1.0

    def answered(self, labels: Labels, code: int, seconds: float | None) -> None:
        """One request is done; `seconds` None for watches, whose length says nothing."""
        codes = self._codes.get(labels)
        if codes is None:
            codes = self._codes[labels] = {}
        codes[code] = codes.get(code, 0) + 1
        if seconds is not None:
            self.durations.observe(labels, seconds)

    def text(self) -> str:
        """The exposition format 0.0.4."""
        self._count_up()
        return exposition(self._all) if self._shared is None else self._shared.text(self._all)

    async def publish(self, clock: Clock) -> None:
        """Let the others know what was counted here, about each second, until cancelled."""
        assert self._shared is not None
        while True:
            self._count_up()
            self._shared.publish(self._all)
            await clock.sleep(_PUBLISH_SECONDS)

    def _count_up(self) -> None:
        """What is counted on a request's way in the cheapest form, as it is told."""
        for labels, codes in self._codes.items():
            for code, count in codes.items():
                self.requests.values[(*labels, str(code))] = count
        # Whoever was known has authenticated: that is counted once, and told twice.
        known = sum(self.authenticated.values.values())
        if known:
            self.attempts.values[("success",)] = known
