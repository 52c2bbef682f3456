"""What is not a resource: versions and discovery, OpenAPI, health, metrics, flags, the token issuer's documents."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from kubegate import KUBERNETES_VERSION, __version__
from kubegate.api import negotiate
from kubegate.api.clock import Clock
from kubegate.server import responses
from kubegate.server.call import Call
from kubegate.server.discovery import Discovery
from kubegate.server.health import Health
from kubegate.server.metrics import Metrics
from kubegate.server.responses import Response
from kubegate.server.routing import check_method, no_such_resource

if TYPE_CHECKING:
    from kubegate.server.openapi import OpenApi

_INDEX = (
    "/.well-known/openid-configuration",
    "/api",
    "/api/v1",
    "/apis",
    "/apis/",
    "/flagz",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/openid/v1/jwks",
    "/statusz",
    "/version",
)


class Paths:
    """`openapi` makes the keeper of the OpenAPI documents when they are first asked for.

    `documents`: further paths (the service account issuer's keys) -> a function that answers a call. `flags` gives the
    value of each flag by its name.
    """

    def __init__(
        self,
        discovery: Discovery,
        openapi: Callable[[], OpenApi],
        health: Health,
        metrics: Metrics,
        documents: dict[str, Callable[[Call], Response]],
        flags: Callable[[], Mapping[str, str]],
        clock: Clock,
    ) -> None:
        self._discovery, self._openapi, self._health, self._metrics = discovery, cache(openapi), health, metrics
        self._documents, self._flags = documents, flags
        self._clock, self._started = clock, clock.now()
        self._version = responses.json(version(), pretty=True)  # whoever asks, with kubectl or curl

    async def handle(self, call: Call) -> Response:
        path = call.path
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        if first in ("healthz", "livez", "readyz"):
            return self._health.answer(path, call.query)
        if first in ("api", "apis"):
            return self._discovery.answer(call)
        if first == "openapi":
            return self._openapi().answer(call)
        if first == "version":
            return self._of_version(call)
        if path in ("/metrics", "/metrics/slis"):
            text = self._metrics.text() if path == "/metrics" else self._health.metrics()
            return Response(200, text.encode(), b"text/plain; version=0.0.4; charset=utf-8; escaping=underscores")
        if first in (".well-known", "openid"):
            return self._of_issuer(call)
        if path in ("/", "/index.html"):
            return responses.json({"paths": sorted(self._listed())}, pretty=True)
        if path in ("/flagz", "/statusz"):
            return self._of_process(call)
        return responses.not_found_page()

    def _listed(self) -> list[str]:
        return [*_INDEX, *self._health.paths(), *self._discovery.paths()]

    def _of_process(self, call: Call) -> Response:
        """Raises 406."""
        from kubegate.server import zpages  # for people who look for something, not for every start

        if call.path == "/flagz":
            return zpages.flagz(call, self._flags())
        return zpages.statusz(
            call, started=self._started, now=self._clock.now(), paths=self._listed(), go_version=version()["goVersion"]
        )

    def _of_issuer(self, call: Call) -> Response:
        """A document of the service account issuer, for those who take its one media type. Raises 404, 405, 406."""
        found = self._documents.get(call.path)
        if found is None:
            if any(call.path.startswith(f"{path}/") for path in self._documents):
                raise no_such_resource()
            return responses.not_found_page()
        check_method(call)
        document = found(call)
        negotiate.check_route(call.header("accept"), (document.content_type.decode(),))
        return document

    def _of_version(self, call: Call) -> Response:
        """Raises 404, 405, 406."""
        if call.path.rstrip("/") != "/version":
            raise no_such_resource()
        check_method(call)
        negotiate.check_route(call.header("accept"), (negotiate.JSON,))
        return self._version


def version() -> dict[str, str]:
    """/version: the Kubernetes version whose behaviour this is, and kubegate's own after the plus sign."""
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"{KUBERNETES_VERSION}+kubegate.{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{sys.version.split()[0]}",
        "compiler": "gc",  # clients compare it; what runs is told by goVersion
        "platform": f"{sys.platform}/{_machine()}",
    }


def _machine() -> str:
    machine = os.uname().machine.lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
