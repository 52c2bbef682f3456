"""EventRateLimit: a flood of events does not fill the store.

Follows k8s.io/kubernetes/plugin/pkg/admission/eventratelimit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kubegate.admission import Attributes, Operation
from kubegate.admission.config import ConfigurationError, only
from kubegate.admission.dependencies import Dependencies
from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.api.field import aggregate
from kubegate.api.status import StatusError

_DEFAULT_CACHE_SIZE = 4096
_GROUP_VERSION = "eventratelimit.admission.k8s.io/v1alpha1"


def _source_and_object(attributes: Attributes) -> str:
    event = attributes.object or {}
    source, involved = event.get("source") or {}, event.get("involvedObject") or {}
    parts = [source.get("component"), source.get("host")]
    parts += [involved.get(field) for field in ("kind", "namespace", "name", "uid", "apiVersion")]
    return "".join(part or "" for part in parts)


_KEYS: Mapping[str, Callable[[Attributes], str]] = {
    "Server": lambda attributes: "",
    "Namespace": lambda attributes: attributes.namespace,
    "User": lambda attributes: attributes.user.name,
    "SourceAndObject": _source_and_object,
}


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Limiter:
    """`qps` a second for each key, and `burst` at once. Of keys, those not used for longest are forgotten."""

    def __init__(self, type: str, qps: float, burst: int, cache_size: int, clock: Clock) -> None:
        self.type = type
        self._qps, self._burst, self._size, self._clock = qps, burst, cache_size, clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def refuses(self, attributes: Attributes) -> str:
        """Why there was one event too many, "" where there was not."""
        key = _KEYS[self.type](attributes)
        now = self._clock.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._burst, now)
            if len(self._buckets) > self._size:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._qps)
        bucket.at = now
        if bucket.tokens < 1:
            return f"limit reached on type {self.type} for key {key}"
        bucket.tokens -= 1
        return ""


class EventRateLimit:
    name = "EventRateLimit"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    # Those of events.k8s.io are of another kind, and were never limited.
    resources = frozenset({"events"})
    changes = False

    def __init__(self, limiters: Sequence[Limiter]) -> None:
        self._limiters = tuple(limiters)

    async def validate(self, attributes: Attributes) -> None:
        if attributes.dry_run:
            return
        # Every limiter counts the event, also where another one refuses it.
        reasons = [reason for limiter in self._limiters if (reason := limiter.refuses(attributes))]
        if reasons:
            raise StatusError(429, "TooManyRequests", f"Too many requests: {aggregate(reasons)}")


def _limiters(configuration: Object, clock: Clock, processes: int) -> list[Limiter]:
    """Each of several processes gives out its part of what is allowed, and one event at least."""
    where = "EventRateLimit"
    only(configuration, ("apiVersion", "kind", "limits"), where)
    if configuration.get("apiVersion") != _GROUP_VERSION or configuration.get("kind") != "Configuration":
        raise ConfigurationError(f"{where}: wanted {_GROUP_VERSION} Configuration")
    limits = configuration.get("limits") or []
    if not limits:
        raise ConfigurationError(f"{where}: limits: must not be empty")
    found = []
    for position, limit in enumerate(limits):
        at = f"{where}: limits[{position}]"
        only(limit, ("type", "qps", "burst", "cacheSize"), at)
        if limit.get("type") not in _KEYS:
            raise ConfigurationError(f"{at}.type: must be one of {', '.join(sorted(_KEYS))}")
        for field in ("qps", "burst"):
            if not isinstance(limit.get(field), int) or limit[field] <= 0:
                raise ConfigurationError(f"{at}.{field}: must be positive")
        size = limit.get("cacheSize") or _DEFAULT_CACHE_SIZE
        if not isinstance(size, int) or size < 0:
            raise ConfigurationError(f"{at}.cacheSize: must not be negative")
        burst = max(limit["burst"] // processes, 1)
        found.append(Limiter(limit["type"], limit["qps"] / processes, burst, size, clock))
    return found


def build(dependencies: Dependencies) -> EventRateLimit:
    return EventRateLimit(
        _limiters(dependencies.configuration("EventRateLimit"), dependencies.clock, dependencies.processes)
    )
