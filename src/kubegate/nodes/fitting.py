"""Whether a pod fits a node, and in kube-scheduler's words why not. Pure functions.

Looked at: whether the node takes pods at all, its taints, the pod's selector and required affinity, ports of the host,
and what the pod asks for. Not looked at: volumes, other pods' affinities, spreading; and nobody is preempted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kubegate.admission import pod_resources
from kubegate.api import Object
from kubegate.api.quantity import Quantity, parse
from kubegate.controllers.daemonsets import tolerates
from kubegate.controllers.nodeselectors import matches_node

_UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
UNFIT_AFFINITY = "node(s) didn't match Pod's node affinity/selector"
_HELPLESS = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"


def why_not(pod: Object, node: Object, others: Sequence[Object]) -> list[str]:
    """Why the pod cannot run beside the `others` on this node; nothing where it can."""
    spec = pod["spec"]
    tolerations = spec.get("tolerations") or ()
    if node["spec"].get("unschedulable") and not _borne(_UNSCHEDULABLE, tolerations):
        return ["node(s) were unschedulable"]
    for taint in node["spec"].get("taints") or ():
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _borne(taint, tolerations):
            return ["node(s) had untolerated taint(s)"]
    if not matches_node(spec, node):
        return [UNFIT_AFFINITY]
    if _ports(pod) & set().union(*map(_ports, others)):
        return ["node(s) didn't have free ports for the requested pod ports"]
    return _lacking(spec, node, others)


def message(reasons: Iterable[Sequence[str]]) -> str:
    """What the FailedScheduling event says, of the reasons of each node."""
    each = list(reasons)
    if not each:
        return "no nodes available to schedule pods"
    counted = Counter(reason for found in each for reason in found)
    told = ", ".join(sorted(f"{count} {reason}" for reason, count in counted.items()))
    helped = sum(1 for found in each if found and all(_by_room(reason) for reason in found))
    outcomes = sorted(
        f"{count} {text}" for text, count in ((_NO_VICTIMS, helped), (_HELPLESS, len(each) - helped)) if count
    )
    head = f"0/{len(each)} nodes are available: "
    return f"{head}{told}. no new claims to deallocate, preemption: {head}{', '.join(outcomes)}."


def _by_room(reason: str) -> bool:
    return reason == "Too many pods" or reason.startswith(("Insufficient", "node(s) didn't have free ports"))


def _borne(taint: Object, tolerations: Iterable[Object]) -> bool:
    return any(tolerates(one, taint) for one in tolerations)


# ---------------------------------------------------------------------- room
def _ports(pod: Object) -> set[tuple[str, int]]:
    return {
        (port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"].get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


def _lacking(spec: Object, node: Object, others: Sequence[Object]) -> list[str]:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    found = []
    if len(others) + 1 > parse(str(allocatable.get("pods", "0"))).value():
        found.append("Too many pods")
    wanted = pod_resources.of_pod(spec, "requests", overhead=True)
    if not wanted:
        return found
    used: dict[str, Quantity] = {}
    for other in others:
        used = pod_resources.add(used, pod_resources.of_pod(other["spec"], "requests", overhead=True))
    for name, amount in sorted(wanted.items()):
        total = used[name].add(amount) if name in used else amount
        if not amount.is_zero and total.compare(parse(str(allocatable.get(name, "0")))) > 0:
            found.append(f"Insufficient {name}")
    return found
