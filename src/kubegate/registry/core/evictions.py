"""Evictions: deleting a pod where its disruption budget allows it. Follows the eviction REST storage of v1.36."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kubegate.api import Object, selectors, status
from kubegate.api.clock import rfc3339
from kubegate.api.resources import Resource
from kubegate.api.status import StatusError
from kubegate.registry import Scope, deletion
from kubegate.registry.checks import listed, mapped
from kubegate.registry.direct import guaranteed_update

_BUDGETS = "poddisruptionbudgets.policy"
_MAX_DISRUPTED_PODS = 2000
_ATTEMPTS = 20
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
    pinned = bool(mapped(options, "preconditions").get("resourceVersion"))
    for attempt in range(_ATTEMPTS):
        pod = registry.entry(pods, namespace, name).object()
        if not _ends_anyway(pod):
            break
        waits = pod.get("status", {}).get("phase") == "Pending" and "deletionTimestamp" not in pod["metadata"]
        try:
            await _mark_and_delete(pods, namespace, name, _at(options, pod) if waits else options, scope)
        except StatusError as error:
            if error.reason != "Conflict" or pinned or attempt == _ATTEMPTS - 1:
                raise
            continue  # it changed meanwhile, and may be ready now
        return _SUCCESS
    budgets = _budgets_of(pod, scope)
    if len(budgets) > 1:
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise StatusError(500, "", text)
    unready = False
    if budgets:
        found, policy = mapped(budgets[0], "status"), budgets[0]["spec"].get("unhealthyPodEvictionPolicy")
        desired = found.get("desiredHealthy", 0)
        enough = policy == "AlwaysAllow" or found.get("currentHealthy", 0) >= desired > 0
        unready = enough and not _is_ready(pod)
        if not unready:
            await _take_one(budgets[0]["metadata"]["name"], namespace, name, scope)
        else:
            options = _at(options, pod)
    try:
        await _mark_and_delete(pods, namespace, name, options, scope)
    except StatusError as error:
        if error.reason == "Conflict" and unready and not pinned:
            raise _still_processed(budgets[0]["metadata"]["name"]) from error
        raise
    return _SUCCESS


async def _mark_and_delete(pods: Resource, namespace: str, name: str, options: dict[str, Any], scope: Scope) -> None:
    """Say in the pod's status why it goes, and delete it: no admission is asked about the latter."""
    if not scope.context.dry_run:
        now = rfc3339(scope.clock.now())

        def mark(found: Object) -> None:
            deletion.check_preconditions(pods, found, options)
            _set_disrupted(found.setdefault("status", {}), now)

        written = await guaranteed_update(scope, "pods", namespace, name, mark)
        wanted = mapped(options, "preconditions")
        if wanted.get("resourceVersion"):
            now_at = {**wanted, "resourceVersion": written["metadata"]["resourceVersion"]}
            options = {**options, "preconditions": now_at}
    await scope.registry.delete(pods, namespace, name, options, scope.context, admit=False)


def _set_disrupted(state: Object, now: str) -> None:
    told = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    conditions = state.setdefault("conditions", [])
    for place, before in enumerate(conditions):
        if before.get("type") == told["type"]:
            if before.get("status") == told["status"]:
                told["lastTransitionTime"] = before.get("lastTransitionTime")
            conditions[place] = told
            return
    conditions.append(told)


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
        if selector.matches(labels):
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
            raise _too_many(_why_not(budget, state), 0)
        now = rfc3339(scope.clock.now())
        state["disruptionsAllowed"] = allowed - 1
        if allowed == 1:
            _set_insufficient(state, found["metadata"].get("generation", 0), now)
        state.setdefault("disruptedPods", {})[pod] = now

    await guaranteed_update(scope, _BUDGETS, namespace, budget, change)


def _why_not(budget: str, state: Object) -> str:
    """Why a budget allows no disruption."""
    conditions = (one for one in listed(state, "conditions") if one.get("type") == "DisruptionAllowed")
    told: Object = next((one for one in conditions if one.get("status") == "False" and one.get("message")), {})
    reason, message = told.get("reason", ""), told.get("message", "")
    refusal = f"The disruption budget {budget} does not allow evicting pods currently"
    if reason == "SyncFailed":
        return f"{refusal} because it failed sync: {message}"
    desired, current = state.get("desiredHealthy", 0), state.get("currentHealthy", 0)
    if current <= desired:
        return f"The disruption budget {budget} needs {desired} healthy pods and has {current} currently"
    return f"{refusal} ({reason}): {message}" if told else refusal


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
