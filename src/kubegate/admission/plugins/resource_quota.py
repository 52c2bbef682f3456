"""ResourceQuota: no namespace uses more than its quotas allow.

A request is charged before its object is stored: the new `used` is written to each quota by compare-and-set, so that
two processes cannot both give away what is left. Requests for one namespace that arrive together are charged in one
write. Follows k8s.io/apiserver/pkg/admission/plugin/resourcequota.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from kubegate.admission import Attributes, Operation
from kubegate.admission import pod_resources as amounts
from kubegate.admission.config import ConfigurationError, only
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pod_resources import Resources
from kubegate.admission.quota import QUOTAS, Evaluator, Evaluators, matches, scopes_of
from kubegate.admission.refusal import forbidden, unexpected
from kubegate.api import Object
from kubegate.api.quantity import QuantityError
from kubegate.api.status import StatusError, internal
from kubegate.storage import ObjectEvent

# How often a charge is worked out again because a quota was changed meanwhile by another process.
_ATTEMPTS = 10
# Quotas that this process wrote and that its reader may not show yet.
_MOST_WRITTEN = 1000
# Seconds that a request waits for its turn.
_TIMEOUT = 10.0

_GROUP_VERSIONS = frozenset(
    {
        "apiserver.config.k8s.io/v1",
        "resourcequota.admission.k8s.io/v1beta1",
        "resourcequota.admission.k8s.io/v1alpha1",
    }
)


class Limited(Struct, frozen=True):
    """Consumption that is refused where no quota covers it."""

    group_resource: str
    contains: tuple[str, ...]
    scopes: tuple[Mapping[str, Any], ...]


class _Charge(Struct, eq=False):
    """One request's turn: settled with `error` None (charged, or nothing to charge) or with the refusal."""

    attributes: Attributes
    evaluator: Evaluator
    settled: bool = False
    error: Exception | None = None
    usage: Resources = field(default_factory=dict)

    def settle(self, error: Exception | None = None) -> None:
        self.settled, self.error = True, error


class _Queue(Struct):
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: list[_Charge] = field(default_factory=list)
    users: int = 0


class ResourceQuota:
    name = "ResourceQuota"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = None
    changes = False

    def __init__(self, dependencies: Dependencies, limited: Sequence[Limited] = ()) -> None:
        self._reader, self._writer = dependencies.reader, dependencies.writer
        self._evaluators = Evaluators(dependencies.clock)
        self._reservations = dependencies.reservations
        self._limited = tuple(limited)
        self._queues: dict[str, _Queue] = {}
        self._written: dict[tuple[str, str], Object] = {}
        self._quotas: Counter[str] = Counter()
        """How many there are, by namespace."""
        dependencies.reader.subscribe(QUOTAS, self._on_quota)

    def _on_quota(self, event: ObjectEvent, quota: Object, _previous: Object | None) -> None:
        namespace = quota["metadata"]["namespace"]
        if event is ObjectEvent.ADDED:
            self._quotas[namespace] += 1
        elif event is ObjectEvent.DELETED:
            self._quotas[namespace] -= 1
            if not self._quotas[namespace]:
                del self._quotas[namespace]

    def idle(self, attributes: Attributes) -> bool:
        return not self._quotas and not self._limited

    async def validate(self, attributes: Attributes) -> None:
        namespace = attributes.namespace
        if not namespace or attributes.group_resource == "namespaces":
            return
        limited = any(entry.group_resource == attributes.group_resource for entry in self._limited)
        if not limited and namespace not in self._quotas:
            return
        evaluator = self._evaluators.of(attributes.group_resource)
        if evaluator is None or attributes.operation not in evaluator.operations(attributes.subresource):
            return
        charge = _Charge(attributes, evaluator)
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._take_turn(namespace, charge)
        except TimeoutError:
            raise internal("resource quota evaluation timed out") from None
        if charge.error is not None:
            raise charge.error
        if charge.usage and self._reservations is not None and attributes.object is not None:
            self._reservations.add(attributes.group_resource, attributes.object, charge.usage)

    async def _take_turn(self, namespace: str, charge: _Charge) -> None:
        """Wait for those before; who comes first settles everybody who came meanwhile."""
        queue = self._queues.setdefault(namespace, _Queue())
        queue.users += 1
        queue.waiting.append(charge)
        try:
            async with queue.lock:
                if not charge.settled:
                    batch, queue.waiting = queue.waiting, []
                    try:
                        await self._settle(namespace, batch)
                    finally:
                        # Were this request cut off, the others would wait for an answer that nobody gives.
                        queue.waiting[:0] = [other for other in batch if not other.settled and other is not charge]
        finally:
            if charge in queue.waiting:
                queue.waiting.remove(charge)
            queue.users -= 1
            if not queue.users:
                del self._queues[namespace]

    async def _settle(self, namespace: str, batch: Sequence[_Charge]) -> None:
        """Charge all requests of a batch, with one write for each quota that changes.

        Where another process was faster with some quotas, those alone are worked out again: the others are charged.
        Should a request then be refused, they keep too much until they are counted anew; none ever keeps too little.
        """
        quotas = {quota["metadata"]["name"]: self._newest(quota) for quota in self._reader.list(QUOTAS, namespace)}
        unwritten = set(quotas)
        lost: StatusError | None = None
        for _ in range(_ATTEMPTS):
            before = {name: amounts.amounts((quota.get("status") or {}).get("used")) for name, quota in quotas.items()}
            after = dict(before)
            charged = [c for c in batch if not c.settled and self._check(c, quotas, unwritten, after)]
            unwritten, lost = await self._write(
                namespace, quotas, {n: after[n] for n in after if after[n] != before[n]}
            )
            if lost is None:
                for charge in charged:
                    charge.settle()
                return
            for name in sorted(unwritten):
                live = await self._writer.get(QUOTAS, namespace, name)
                if live is None:
                    del quotas[name]
                else:
                    quotas[name] = live
        for charge in batch:
            if not charge.settled:
                charge.settle(lost)

    async def _write(
        self, namespace: str, quotas: Mapping[str, Object], used: Mapping[str, Resources]
    ) -> tuple[set[str], StatusError | None]:
        """Which quotas somebody else changed meanwhile, and the last of those errors."""
        conflicts: set[str] = set()
        lost = None
        for name in sorted(used):
            status = {**(quotas[name].get("status") or {}), "used": amounts.texts(used[name])}
            try:
                stored = await self._writer.update_status(QUOTAS, namespace, name, {**quotas[name], "status": status})
            except StatusError as error:
                if error.reason not in ("Conflict", "NotFound"):
                    raise
                conflicts.add(name)
                lost = error
            else:
                self._remember(namespace, name, stored)
        return conflicts, lost

    def _check(
        self, charge: _Charge, quotas: Mapping[str, Object], unwritten: set[str], used: dict[str, Resources]
    ) -> bool:
        """Add one request to `used`, or settle it with a refusal. Gives whether it still has to be written."""
        try:
            changes = self._changes(charge, quotas, unwritten, used)
        except StatusError as error:
            charge.settle(error)
            return False
        except QuantityError as error:
            charge.settle(forbidden(charge.attributes, str(error)))
            return False
        if not changes or charge.attributes.dry_run:
            charge.settle()
            return False
        used.update(changes)
        return True

    def _changes(
        self, charge: _Charge, quotas: Mapping[str, Object], unwritten: set[str], used: Mapping[str, Resources]
    ) -> dict[str, Resources]:
        """What the request makes of each quota that it counts against. Raises StatusError where one is exceeded."""
        attributes, evaluator = charge.attributes, charge.evaluator
        object = attributes.object or {}
        concerned: list[tuple[str, Resources]] = []
        covered: set[str] = set()
        for name, quota in sorted(quotas.items()):
            hard = amounts.amounts((quota.get("status") or {}).get("hard"))
            if not matches(quota, hard, evaluator, object):
                continue
            names = evaluator.matching(hard)
            missing = evaluator.missing(names, object)
            if missing:
                raise forbidden(attributes, f"failed quota: {name}: {missing}")
            if any(resource not in used[name] for resource in names):
                listed = ",".join(sorted(names))
                raise forbidden(attributes, f"status unknown for quota: {name}, resources: {listed}")
            if name in unwritten:
                concerned.append((name, hard))
            covered.update(names)
        usage = evaluator.usage(object)
        negative = sorted(name for name, amount in usage.items() if amount.sign() < 0)
        if negative:
            why = f"quota usage is negative for resource(s): {','.join(negative)}"
            raise forbidden(attributes, why)
        before = self._usage_before(attributes, evaluator)
        more = _increase(usage, before)
        deltas = {}
        for name, hard in concerned:
            counted = bool(before) and matches(quotas[name], hard, evaluator, attributes.old_object or {})
            deltas[name] = more if counted else _increase(usage, {})
        if not any(deltas.values()) and (deltas or not more):
            return {}
        self._check_limited(attributes, evaluator, usage, covered, quotas)
        changes = {}
        for name, hard in concerned:
            delta = deltas[name]
            requested = {resource: amount for resource, amount in delta.items() if resource in hard}
            total = amounts.add(used[name], requested)
            exceeded = sorted(resource for resource in requested if total[resource].compare(hard[resource]) > 0)
            if exceeded:
                raise forbidden(
                    attributes,
                    f"exceeded quota: {name}, requested: {_listed(requested, exceeded)}, "
                    f"used: {_listed(used[name], exceeded)}, limited: {_listed(hard, exceeded)}",
                )
            if requested:
                changes[name] = total
        charge.usage = more if changes else {}
        return changes

    def _usage_before(self, attributes: Attributes, evaluator: Evaluator) -> Resources:
        """What the object used until now: an update is charged with the difference."""
        if attributes.operation is Operation.UPDATE and attributes.old_object is not None:
            return evaluator.usage(attributes.old_object)
        return {}

    def _check_limited(
        self,
        attributes: Attributes,
        evaluator: Evaluator,
        usage: Resources,
        covered: set[str],
        quotas: Mapping[str, Object],
    ) -> None:
        object = attributes.object or {}
        ours = [entry for entry in self._limited if entry.group_resource == attributes.group_resource]
        uncovered = {
            name
            for entry in ours
            for name in usage
            if any(text in name for text in entry.contains) and name not in covered
        }
        if uncovered:
            raise forbidden(attributes, f"insufficient quota to consume: {','.join(sorted(uncovered))}")
        given = [requirement for quota in quotas.values() for requirement in scopes_of(quota)]
        for entry in ours:
            for scope in entry.scopes:
                inside = evaluator.matches_scope(scope, object)
                if inside and not any(
                    other.get("scopeName") == scope.get("scopeName") and evaluator.matches_scope(other, object)
                    for other in given
                ):
                    text = (
                        f"{{{scope.get('scopeName')} {scope.get('operator')} [{' '.join(scope.get('values') or [])}]}}"
                    )
                    raise unexpected(f"insufficient quota to match these scopes: [{text}]")

    def _newest(self, quota: Object) -> Object:
        """The reader's, or what this process wrote after it."""
        metadata = quota["metadata"]
        written = self._written.get((metadata["namespace"], metadata["name"]))
        if written is None or written["metadata"].get("uid") != metadata.get("uid"):
            return quota
        later = int(written["metadata"]["resourceVersion"]) > int(metadata["resourceVersion"])
        return written if later else quota

    def _remember(self, namespace: str, name: str, stored: Object) -> None:
        self._written.pop((namespace, name), None)
        if len(self._written) >= _MOST_WRITTEN:
            self._written.pop(next(iter(self._written)))
        self._written[namespace, name] = stored


def _increase(usage: Resources, before: Resources) -> Resources:
    """How much more is used. What is given back is counted later, when the object is stored."""
    found = {name: amount.sub(before[name]) if name in before else amount for name, amount in usage.items()}
    return {name: amount for name, amount in found.items() if amount.sign() > 0}


def _listed(found: Resources, names: Iterable[str]) -> str:
    return ",".join(f"{name}={found[name]}" for name in names if name in found)


def _limited(configuration: Object) -> list[Limited]:
    where = "ResourceQuota"
    only(configuration, ("apiVersion", "kind", "limitedResources"), where)
    if configuration and configuration.get("apiVersion") not in _GROUP_VERSIONS:
        raise ConfigurationError(f"{where}: apiVersion must be apiserver.config.k8s.io/v1")
    found = []
    for position, entry in enumerate(configuration.get("limitedResources") or []):
        at = f"{where}: limitedResources[{position}]"
        only(entry, ("apiGroup", "resource", "matchContains", "matchScopes"), at)
        if not entry.get("resource"):
            raise ConfigurationError(f"{at}.resource: must be named")
        group = entry.get("apiGroup") or ""
        resource = f"{entry['resource']}.{group}" if group else entry["resource"]
        contains, scopes = entry.get("matchContains") or (), entry.get("matchScopes") or ()
        found.append(Limited(resource, tuple(contains), tuple(scopes)))
    return found


def build(dependencies: Dependencies) -> ResourceQuota:
    return ResourceQuota(dependencies, _limited(dependencies.configuration("ResourceQuota")))
