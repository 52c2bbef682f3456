"""system:masters may do anything, whatever the roles say, and is asked about first.

Follows authorizerfactory.NewPrivilegedGroups of k8s.io/apiserver.
"""

from __future__ import annotations

from kubegate.authentication import MASTERS_GROUP
from kubegate.authorization import NO_OPINION, Attributes, Decision, Verdict


class Masters:
    async def authorize(self, attributes: Attributes) -> Decision:
        return self.decide(attributes)

    def decide(self, attributes: Attributes) -> Decision:
        return _ALLOWED if MASTERS_GROUP in attributes.user.groups else NO_OPINION


_ALLOWED = Decision(Verdict.ALLOW, "", "", "masters")
