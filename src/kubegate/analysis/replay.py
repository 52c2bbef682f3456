"""Recorded requests put to another policy: which would be decided otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kubegate.analysis.auditlog import Recorded
from kubegate.analysis.questions import text_of
from kubegate.analysis.sources import Cluster
from kubegate.authentication import MASTERS_GROUP
from kubegate.authorization import Attributes

_REMEMBERED = 200_000
_KEPT = 100_000


@dataclass(slots=True)
class Otherwise:
    """Equal requests that would be decided otherwise; `reason` is the new decision's, `audit_id` the first one's."""

    attributes: Attributes
    allowed: bool
    reason: str
    audit_id: str
    count: int = 0

    def to_dict(self) -> dict[str, Any]:
        user = self.attributes.user
        return {
            "user": {"name": user.name, "groups": list(user.groups)},
            "request": text_of(self.attributes),
            "recorded": "allow" if not self.allowed else "forbid",
            "now": "allow" if self.allowed else "forbid",
            "reason": self.reason,
            "count": self.count,
            "firstAuditID": self.audit_id,
        }


@dataclass(slots=True)
class Replay:
    """`undecided` have no decision in the log; `elsewhere` were allowed by another authorizer than RBAC.

    `otherwise` holds so many distinct requests at most; of the others it is known in `more` how many there were.
    """

    requests: int = 0
    same: int = 0
    undecided: int = 0
    elsewhere: int = 0
    more: int = 0
    otherwise: list[Otherwise] = field(default_factory=list)

    @property
    def changed(self) -> int:
        return self.more + sum(each.count for each in self.otherwise)

    def to_dict(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "same": self.same,
            "undecided": self.undecided,
            "decidedElsewhere": self.elsewhere,
            "changed": self.changed,
            "otherwise": [each.to_dict() for each in self.otherwise],
        }


def replay(cluster: Cluster, requests: Iterable[Recorded]) -> Replay:
    """The refused first, the most frequent first. Distinct requests are judged once each."""
    found = Replay()
    index = cluster.index
    known: dict[tuple[Any, ...], tuple[bool, str]] = {}
    changed: dict[tuple[Any, ...], Otherwise] = {}
    for request in requests:
        found.requests += 1
        attributes, user = request.attributes, request.attributes.user
        if request.allowed is None:
            found.undecided += 1
            continue
        masters = MASTERS_GROUP in user.groups
        if request.allowed and not masters and not request.reason.startswith("RBAC: "):
            found.elsewhere += 1
            continue
        key = (
            user.name, user.groups, attributes.verb, attributes.api_group, attributes.resource, attributes.subresource,
            attributes.namespace, attributes.name, attributes.path,
        )  # fmt: skip
        decided = known.get(key)
        if decided is None:
            decision = index.decide(attributes)
            decided = (masters or decision.allowed, decision.reason)
            if len(known) >= _REMEMBERED:
                known.clear()
            known[key] = decided
        allowed, reason = decided
        if allowed == request.allowed:
            found.same += 1
            continue
        other = changed.get(key)
        if other is None:
            if len(changed) >= _KEPT:
                found.more += 1
                continue
            other = changed[key] = Otherwise(attributes, allowed, reason, request.audit_id)
        other.count += 1
    found.otherwise = sorted(changed.values(), key=lambda each: (each.allowed, -each.count, each.attributes.user.name))
    return found
