"""Access policies of access entries: what EKS's own authorizer allows an IAM identity beside RBAC.

A policy stands for the rules of a ClusterRole, in the whole cluster or in namespaces. Whose request it is, is told by
the identity's ARN in `extra`, where the authenticator of IAM identities puts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kubegate.api import Object
from kubegate.authentication import UserInfo
from kubegate.authentication.aws_iam import CANONICAL_ARN
from kubegate.authorization import NO_OPINION, Attributes, Decision, SubjectRules, Verdict
from kubegate.authorization.rbac import CLUSTER_ROLES
from kubegate.authorization.rules import Rule, rule_allows
from kubegate.aws.access_entries import ACCESS_ENTRIES, AccessEntry, AccessPolicy, parse_entry
from kubegate.aws.by_arn import ByArn
from kubegate.aws.mapping import BadMapping
from kubegate.storage import ObjectEvent, Reader

NAME = "access-entries"


class AccessEntries:
    """Follows the AccessEntry objects; `close` ends that."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._entries: ByArn[AccessEntry] = ByArn()
        self._end: Callable[[], None] = reader.subscribe(ACCESS_ENTRIES, self._changed)

    async def close(self) -> None:
        self._end()

    async def authorize(self, attributes: Attributes) -> Decision:
        for entry, policy in self._policies(attributes.user):
            if not policy.holds_in(attributes.namespace if attributes.resource_request else ""):
                continue
            if any(rule_allows(rule, attributes) for rule in self._rules(policy)):
                where = "the cluster" if policy.namespaces is None else f"namespace {attributes.namespace!r}"
                reason = f"access entry {entry.name!r}: {policy.name} in {where}"
                return Decision(Verdict.ALLOW, reason, "", NAME)
        return NO_OPINION

    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules:
        found = SubjectRules()
        for _, policy in self._policies(user):
            if policy.holds_in(namespace):
                for rule in self._rules(policy):
                    resource = rule.get("resources")
                    (found.resource_rules if resource else found.non_resource_rules).append(dict(rule))
        return found

    def _policies(self, user: UserInfo) -> Iterator[tuple[AccessEntry, AccessPolicy]]:
        arns = user.extra.get(CANONICAL_ARN)
        if arns is None or len(arns) != 1:
            return
        entry = self._entries.find(arns[0])
        if entry is not None:
            for policy in entry.policies:
                yield entry, policy

    def _rules(self, policy: AccessPolicy) -> Sequence[Rule]:
        role = self._reader.get(CLUSTER_ROLES, "", policy.role)
        return (role or {}).get("rules") or ()

    def _changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        self._entries.remove(obj["metadata"]["name"])
        if event is ObjectEvent.DELETED:
            return
        try:
            entry = parse_entry(obj)
        except BadMapping:
            return  # the authenticator's mappings say what is wrong with it
        self._entries.put(obj, entry.entry.arn, entry)
