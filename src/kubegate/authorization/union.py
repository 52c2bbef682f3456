"""Several authorizers as one: the first that allows or denies decides. Follows k8s.io/apiserver's union authorizer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from kubegate.api.field import aggregate
from kubegate.authentication import UserInfo
from kubegate.authorization import NO_OPINION, Attributes, Authorizer, Decision, RuleResolver, SubjectRules, Verdict

log = logging.getLogger(__name__)
CRASHED = Decision(Verdict.DENY, "", "an authorizer failed; the server's log says how")


class Union:
    """Asks in order. Reasons of those without an opinion are told together, where nobody has one.

    An authorizer that raises refuses: what it would have said is not known, and it might have been a denial.
    """

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self.authorizers = tuple(authorizers)
        self._ways: list[tuple[Authorizer, Callable[[Attributes], Decision] | None]] = [
            (each, getattr(each, "decide", None)) for each in authorizers
        ]

    async def authorize(self, attributes: Attributes) -> Decision:
        reasons: list[str] = []
        errors: list[str] = []
        for authorizer, decide in self._ways:
            try:
                decision = await authorizer.authorize(attributes) if decide is None else decide(attributes)
            except Exception:
                log.exception("%s failed to decide on %s", type(authorizer).__name__, attributes.verb)
                return CRASHED
            if decision.verdict is not Verdict.NO_OPINION:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
            if decision.error:
                errors.append(decision.error)
        if not reasons and not errors:
            return NO_OPINION
        return Decision(Verdict.NO_OPINION, "\n".join(reasons), aggregate(errors))


class UnionRules:
    """All rules of several resolvers, in their order."""

    def __init__(self, resolvers: Sequence[RuleResolver]) -> None:
        self.resolvers = tuple(resolvers)

    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules:
        found = SubjectRules()
        errors: list[str] = []
        for resolver in self.resolvers:
            part = await resolver.rules_for(user, namespace)
            found.resource_rules += part.resource_rules
            found.non_resource_rules += part.non_resource_rules
            found.incomplete = found.incomplete or part.incomplete
            if part.error:
                errors.append(part.error)
        found.error = aggregate(errors)
        return found
