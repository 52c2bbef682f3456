"""SelfSubjectRulesReview: what may I do in this namespace? What `kubectl auth can-i --list` asks."""

from __future__ import annotations

from kubegate.api import Object, status
from kubegate.registry import Rules, Scope


async def create(namespace: str, name: str, review: Object, scope: Scope) -> Object:
    wanted = (review.get("spec") or {}).get("namespace") or ""
    if not wanted:
        raise status.bad_request("no namespace on request")
    rules = await scope.registry.rules.rules_for(scope.context.user, wanted)
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


RULES = Rules(connect={"": create})
