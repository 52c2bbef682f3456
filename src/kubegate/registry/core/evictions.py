"""Evictions: deleting a pod where its disruption budget allows it. Follows the eviction REST storage of v1.36."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kubegate.api import Object, selectors, status
from kubegate.api.clock import rfc3339
from kubegate.api.status import StatusError
from kubegate.registry import Scope
from kubegate.registry.checks import listed, mapped
from kubegate.registry.direct import guaranteed_update

_BUDGETS = "poddisruptionbudgets.policy"
_MAX_DISRUPTED_PODS = 2000
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


async def evict(namespace: str, name: str, eviction: Object, scope: Scope) -> Object:
    """POST pods/NAME/eviction. Raises 400, 404, 409, 429, 500."""
    if name != mapped(eviction, "metadata").get("name", ""):
        raise status.bad_request("name in URL does not match name in Eviction object")
    options = _delete_options(eviction, scope)
    dry_run = bool(options.get("dryRun"))
    scope = replace(scope, context=replace(scope.context, dry_run=dry_run))
    registry = scope.registry
    pods = registry.resources.by_group_resource("pods")
    assert pods is not None
    pod = registry.entry(pods, namespace, name).object()
    pinned = bool(mapped(options, "preconditions").get("resourceVersion"))
    if _ends_anyway(pod):
        if pod.get("status", {}).get("phase") == "Pending" and "deletionTimestamp" not in pod["metadata"]:
            options = _at(options, pod)
        await registry.delete(pods, namespace, name, options, scope.context)
        return _SUCCESS
    budgets = _budgets_of(pod, scope)
    if len(budgets) > 1:
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise StatusError(500, "", text)
    unready = False
    if budgets:
        found = mapped(budgets[0], "status")
        desired = found.get("desiredHealthy", 0)
        unready = not _is_ready(pod) and found.get("currentHealthy", 0) >= desired > 0
        if not unready:
            await _take_one(budgets[0]["metadata"]["name"], namespace, name, scope)
        else:
            options = _at(options, pod)
    try:
        await registry.delete(pods, namespace, name, options, scope.context)
    except StatusError as error:
        if error.reason == "Conflict" and unready and not pinned:
            raise _still_processed(budgets[0]["metadata"]["name"]) from error
        raise
    return _SUCCESS


def _delete_options(eviction: Object, scope: Scope) -> dict[str, Any]:
    options = dict(eviction.get("deleteOptions") or {})
    asked, own = ["All"] if scope.context.dry_run else [], list(options.get("dryRun") or [])
    if asked and own and asked != own:
        text = f"Non-matching dry-run options in request and content: [{' '.join(asked)}] and [{' '.join(own)}]"
        raise StatusError(500, "", text)
    if asked or own:
        options["dryRun"] = own or asked
    return options


def _at(options: dict[str, Any], pod: Object) -> dict[str, Any]:
    """Only this very pod, as it was read."""
    preconditions = dict(options.get("preconditions") or {})
    preconditions.setdefault("resourceVersion", pod["metadata"]["resourceVersion"])
    return {**options, "preconditions": preconditions}


def _ends_anyway(pod: Object) -> bool:
    phase = pod.get("status", {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _is_ready(pod: Object) -> bool:
    conditions = listed(mapped(pod, "status"), "conditions")
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _budgets_of(pod: Object, scope: Scope) -> list[Object]:
    labels = mapped(pod["metadata"], "labels")
    found = []
    for budget in scope.reader.list(_BUDGETS, pod["metadata"]["namespace"]):
        try:
            selector = selectors.from_object(budget["spec"].get("selector"))
        except selectors.SelectorError:
            continue
        if not selector.empty and selector.matches(labels):
            found.append(budget)
    return found


async def _take_one(budget: str, namespace: str, pod: str, scope: Scope) -> None:
    """Count one disruption. Raises 429 where none is left, 403 where the budget's status makes no sense."""

    def change(found: Object) -> None:
        state = found.setdefault("status", {})
        allowed = state.get("disruptionsAllowed", 0)
        if state.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
            raise _still_processed(budget)
        if allowed < 0:
            raise status.forbidden("policy", "poddisruptionbudget", budget, "pdb disruptions allowed is negative")
        if len(mapped(state, "disruptedPods")) > _MAX_DISRUPTED_PODS:
            text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
            raise status.forbidden("policy", "poddisruptionbudget", budget, text)
        if allowed == 0:
            text = (
                f"The disruption budget {budget} needs {state.get('desiredHealthy', 0)} healthy pods "
                f"and has {state.get('currentHealthy', 0)} currently"
            )
            raise _too_many(text, 0)
        now = rfc3339(scope.clock.now())
        state["disruptionsAllowed"] = allowed - 1
        if allowed == 1:
            _set_insufficient(state, found["metadata"].get("generation", 0), now)
        state.setdefault("disruptedPods", {})[pod] = now

    await guaranteed_update(scope, _BUDGETS, namespace, budget, change)


def _set_insufficient(state: Object, generation: int, now: str) -> None:
    condition = {
        "type": "DisruptionAllowed",
        "status": "False",
        "observedGeneration": generation,
        "lastTransitionTime": now,
        "reason": "InsufficientPods",
        "message": "",
    }
    others = [one for one in listed(state, "conditions") if one.get("type") != "DisruptionAllowed"]
    state["conditions"] = [*others, condition]


def _still_processed(budget: str) -> StatusError:
    return _too_many(f"The disruption budget {budget} is still being processed by the server.", 10)


def _too_many(cause: str, retry_after: int) -> StatusError:
    details: dict[str, Any] = {"causes": [{"reason": "DisruptionBudget", "message": cause}]}
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    headers = {"Retry-After": str(retry_after)} if retry_after else None
    return StatusError(429, "TooManyRequests", _REFUSED, details, headers=headers)
