"""/livez, /readyz, /healthz and each of their checks, as kube-apiserver names and prints them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kubegate.api.field import quoted
from kubegate.server.responses import TEXT, Response, not_found_page, text
from kubegate.transport.metrics import Counter, Gauge, Labels, exposition

Check = Callable[[], str | None]
"""None when all is well, else what is wrong (for the log; clients are told `reason withheld`)."""

# What kube-apiserver v1.36 does after it has started, in the order in which it prints them. Here all of them are done
# when the server begins to listen; `storage-readiness` goes on to be asked.
_HOOKS = (
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/peer-endpoint-reconciler-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
    "poststarthook/storage-readiness",
    "poststarthook/start-legacy-token-tracking-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-wait-for-first-sync",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
)


def standard(started: Check, store: Check, informers: Check, draining: Check) -> Health:
    """The checks by kube-apiserver's names, each bound to what it stands for here."""
    ping: Mapping[str, Check] = {"ping": _well, "log": _well}
    hooks = {name: store if name.endswith("storage-readiness") else started for name in _HOOKS}
    live = {**ping, "loopback-serving-certificate": _well, "etcd": store, **hooks}
    ready = {**ping, "informer-sync": informers, **hooks, "shutdown": draining}
    return Health({"livez": live, "healthz": live, "readyz": ready})


def _well() -> None:
    return None


class Health:
    """`endpoints` are livez, readyz and healthz, each with its checks in order."""

    def __init__(self, endpoints: Mapping[str, Mapping[str, Check]]) -> None:
        self._endpoints = endpoints
        self._last: dict[Labels, float] = {}
        self._last_gauge = Gauge(
            "kubernetes_healthcheck", "The last result of a health check.", ("name", "type"), self._last.items
        )
        self._results = Counter(
            "kubernetes_healthchecks_total", "Results of health checks.", ("name", "status", "type")
        )

    def metrics(self) -> str:
        """What the checks found whenever somebody asked for them all, in the exposition format."""
        return exposition([self._last_gauge, self._results])

    def _count(self, endpoint: str, name: str, *, well: bool) -> None:
        self._last[(name, endpoint)] = float(well)
        self._results.add((name, "success" if well else "error", endpoint))

    def paths(self) -> list[str]:
        """Where each of them is asked."""
        return [
            path
            for endpoint, checks in self._endpoints.items()
            for path in (f"/{endpoint}", *(f"/{endpoint}/{name}" for name in checks))
        ]

    def failing(self, endpoint: str) -> dict[str, str]:
        """The checks that fail now and why."""
        found = {}
        for name, check in self._endpoints[endpoint].items():
            why = check()
            if why is not None:
                found[name] = why
        return found

    def answer(self, path: str, query: Mapping[str, list[str]]) -> Response:
        endpoint, slash, name = path.removeprefix("/").partition("/")
        checks = self._endpoints[endpoint]
        if slash:
            if name not in checks:
                return not_found_page()
            why = checks[name]()
            return Response(200, b"ok", TEXT) if why is None else text(f"internal server error: {why}\n", 500)
        excluded = set(query.get("exclude", []))
        lines, failed = [], []
        for check_name, check in checks.items():
            if check_name in excluded:
                excluded.discard(check_name)
                lines.append(f"[+]{check_name} excluded: ok")
                continue
            well = check() is None
            self._count(endpoint, check_name, well=well)
            if well:
                lines.append(f"[+]{check_name} ok")
            else:
                failed.append(check_name)
                lines.append(f"[-]{check_name} failed: reason withheld")
        if excluded:
            names = ",".join(map(quoted, sorted(excluded)))
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        if failed:
            return text("\n".join([*lines, f"{endpoint} check failed"]) + "\n", 500)
        if "verbose" in query:
            return text("\n".join([*lines, f"{endpoint} check passed"]) + "\n")
        return text("ok")
