"""The flow schemas and priority levels that kube-apiserver v1.36 keeps in every cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kubegate.api import Object
from kubegate.registry.checks import listed

GROUP = "flowcontrol.apiserver.k8s.io"
_ALL: Object = {
    "resourceRules": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    ],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}
_EVERYONE = ("system:unauthenticated", "system:authenticated")


def _user(name: str) -> Object:
    return {"kind": "User", "user": {"name": name}}


def _group(name: str) -> Object:
    return {"kind": "Group", "group": {"name": name}}


def _service_account(name: str) -> Object:
    return {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}


def _rule(
    group: str, *resources: str, verbs: Iterable[str] = ("get", "create", "update"), cluster: bool = False
) -> Object:
    rule: Object = {
        "verbs": list(verbs),
        "apiGroups": [group],
        "resources": list(resources),
        "namespaces": ["*"],
    }
    return rule | {"clusterScope": True} if cluster else rule


_COMPONENTS = (_user("system:kube-controller-manager"), _user("system:kube-scheduler"))
_LEASES = {"resourceRules": [_rule("coordination.k8s.io", "leases")]}
_NODES: Object = {
    "resourceRules": [
        _rule("", "nodes", "nodes/status", verbs=("*",), cluster=True),
        _rule("coordination.k8s.io", "leases", verbs=("*",)),
    ]
}
_PROBES: Object = {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}
_ENDPOINTS: Object = {"resourceRules": [_rule("", "endpoints")]}
_MIRRORS = (_service_account("endpoint-controller"), _service_account("endpointslicemirroring-controller"))

# name, priority level, precedence, what tells flows apart, subjects, rules
_SCHEMAS: tuple[tuple[str, str, int, str, tuple[Object, ...], Object], ...] = (
    ("exempt", "exempt", 1, "", (_group("system:masters"),), _ALL),
    ("probes", "exempt", 2, "", tuple(map(_group, _EVERYONE)), _PROBES),
    ("system-leader-election", "leader-election", 100, "ByUser", (*_COMPONENTS, _service_account("*")), _LEASES),
    ("endpoint-controller", "workload-high", 150, "ByUser", (_COMPONENTS[0], *_MIRRORS), _ENDPOINTS),
    ("workload-leader-election", "leader-election", 200, "ByUser", (_service_account("*"),), _LEASES),
    ("system-node-high", "node-high", 400, "ByUser", (_group("system:nodes"),), _NODES),
    ("system-nodes", "system", 500, "ByUser", (_group("system:nodes"),), _ALL),
    ("kube-controller-manager", "workload-high", 800, "ByNamespace", _COMPONENTS[:1], _ALL),
    ("kube-scheduler", "workload-high", 800, "ByNamespace", _COMPONENTS[1:], _ALL),
    ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", (_service_account("*"),), _ALL),
    ("service-accounts", "workload-low", 9000, "ByUser", (_group("system:serviceaccounts"),), _ALL),
    ("global-default", "global-default", 9900, "ByUser", tuple(map(_group, _EVERYONE)), _ALL),
    ("catch-all", "catch-all", 10000, "ByUser", tuple(map(_group, _EVERYONE)), _ALL),
)

# name, shares, percent that may be lent, (queues, hand size, queue length) or None to reject
_LEVELS: tuple[tuple[str, int, int, tuple[int, int, int] | None], ...] = (
    ("catch-all", 5, 0, None),
    ("system", 30, 33, (64, 6, 50)),
    ("node-high", 40, 25, (64, 6, 50)),
    ("leader-election", 10, 0, (16, 4, 50)),
    ("workload-high", 40, 50, (128, 6, 50)),
    ("workload-low", 100, 90, (128, 6, 50)),
    ("global-default", 20, 50, (128, 6, 50)),
)


def objects() -> Iterable[tuple[str, Object]]:
    """Group resource and object of each."""
    yield f"prioritylevelconfigurations.{GROUP}", _level("exempt", _exempt())
    for name, shares, lendable, queuing in _LEVELS:
        yield f"prioritylevelconfigurations.{GROUP}", _level(name, _limited(shares, lendable, queuing))
    for schema in _SCHEMAS:
        yield f"flowschemas.{GROUP}", _schema(*schema)


def _metadata(name: str) -> Object:
    return {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}


def _level(name: str, spec: Object) -> Object:
    kind = {"kind": "PriorityLevelConfiguration", "apiVersion": f"{GROUP}/v1"}
    return {**kind, "metadata": _metadata(name), "spec": spec}


def _exempt() -> Object:
    return {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}


def _limited(shares: int, lendable: int, queuing: tuple[int, int, int] | None) -> Object:
    response: Object = {"type": "Reject"}
    if queuing is not None:
        names = ("queues", "handSize", "queueLengthLimit")
        response = {"type": "Queue", "queuing": dict(zip(names, queuing, strict=True))}
    limited = {"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable}
    return {"type": "Limited", "limited": limited}


def _schema(
    name: str, level: str, precedence: int, distinguisher: str, subjects: tuple[Object, ...], rules: Mapping[str, Any]
) -> Object:
    rule: Object = {"subjects": list(subjects)}
    for part in ("resourceRules", "nonResourceRules"):
        if listed(rules, part):
            rule[part] = rules[part]
    spec: Object = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
    if distinguisher:
        spec["distinguisherMethod"] = {"type": distinguisher}
    spec["rules"] = [rule]
    return {"kind": "FlowSchema", "apiVersion": f"{GROUP}/v1", "metadata": _metadata(name), "spec": spec}
