"""AlwaysAllow and AlwaysDeny: authorizers without a question. Follows k8s.io/apiserver's authorizerfactory."""

from __future__ import annotations

from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes, Decision, SubjectRules, Verdict


class AlwaysAllow:
    """Everything, for everybody who is known or anonymous."""

    async def authorize(self, attributes: Attributes) -> Decision:
        return _ALLOWED

    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules:
        every = ["*"]
        return SubjectRules(
            resource_rules=[{"verbs": every, "apiGroups": every, "resources": every}],
            non_resource_rules=[{"verbs": every, "nonResourceURLs": every}],
        )


class AlwaysDeny:
    """Nothing, for nobody (but system:masters, which are asked about before)."""

    async def authorize(self, attributes: Attributes) -> Decision:
        return _DENIED

    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules:
        return SubjectRules()


_ALLOWED = Decision(Verdict.ALLOW, "", "", "alwaysallow")
_DENIED = Decision(Verdict.NO_OPINION, "Everything is forbidden.", "", "alwaysdeny")
