"""SelfSubjectRulesReview: what may I do in this namespace? What `kubectl auth can-i --list` asks."""

from __future__ import annotations

from kubegate.api import Object, status
from kubegate.registry import Rules, Scope


def check(review: Object, old: Object | None, scope: Scope) -> None:
    if not (review.get("spec") or {}).get("namespace"):
        raise status.bad_request("no namespace on request")


async def create(namespace: str, name: str, review: Object, scope: Scope) -> Object:
    rules = await scope.registry.rules.rules_for(scope.context.user, review["spec"]["namespace"])
    found: Object = {
        "resourceRules": rules.resource_rules,
        "nonResourceRules": rules.non_resource_rules,
        "incomplete": rules.incomplete,
    }
    if rules.error:
        found["evaluationError"] = rules.error
    return {
        "kind": "SelfSubjectRulesReview",
        "apiVersion": scope.resource.api_version,
        "metadata": {},
        "spec": {},
        "status": found,
    }


RULES = Rules(prepare=check, connect={"": create})
