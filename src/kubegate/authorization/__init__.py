"""May they. One narrow protocol, a module for each authorizer, and their union.

`authorize(attributes)` gives a `Decision`: allow, deny or no opinion, with a reason. An error in a decision is a
refusal with a reason, never an allowance. Follows k8s.io/apiserver/pkg/authorization/authorizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct, field

from kubegate.authentication import UserInfo


class Attributes(Struct):
    """The question; not to be changed (nor frozen: one is made for every request).

    For a non-resource request `resource_request` is false and `path` is the URL's path. `field_requirements` and
    `label_requirements` are the parsed selectors of list, watch and deletecollection: each {"key", "operator",
    "values"} as in FieldSelectorRequirement; None where not given or not parseable.
    """

    user: UserInfo
    verb: str
    resource_request: bool = True
    api_group: str = ""
    api_version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_requirements: Sequence[dict[str, Any]] | None = None
    label_requirements: Sequence[dict[str, Any]] | None = None


class Verdict(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    NO_OPINION = "no opinion"


class Decision(Struct, frozen=True):
    """`reason` is what SubjectAccessReview tells; `error` its evaluationError; `authorizer` who decided."""

    verdict: Verdict
    reason: str = ""
    error: str = ""
    authorizer: str = ""

    @property
    def allowed(self) -> bool:
        return self.verdict is Verdict.ALLOW


NO_OPINION = Decision(Verdict.NO_OPINION)


class SubjectRules(Struct):
    """What SelfSubjectRulesReview lists: rules as JSON, whether some are missing, and what went wrong."""

    resource_rules: list[dict[str, Any]] = field(default_factory=list)
    non_resource_rules: list[dict[str, Any]] = field(default_factory=list)
    incomplete: bool = False
    error: str = ""


class Authorizer(Protocol):
    """One that need not wait for anything has `decide(attributes)` as well, which spares the union a coroutine."""

    async def authorize(self, attributes: Attributes) -> Decision: ...


class RuleResolver(Protocol):
    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules: ...
