"""What is dangerous, broken or left over in a cluster's roles and bindings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from kubegate.analysis.privileges import Graph, label
from kubegate.analysis.sources import Cluster
from kubegate.analysis.whocan import subject_text
from kubegate.authentication import MASTERS_GROUP, UserInfo
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import GROUP, Binding, Role
from kubegate.authorization.rules import ALL, Rule, compact_string, rule_allows

EVERYBODY = frozenset({"system:anonymous", "system:unauthenticated", "system:authenticated"})


class Severity(IntEnum):
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is a short name to filter by; `where` the object; `steps` the way, for paths to cluster-admin."""

    check: str
    severity: Severity
    where: str
    message: str
    steps: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "check": self.check,
            "severity": self.severity.name.lower(),
            "where": self.where,
            "message": self.message,
        }
        if self.steps:
            found["steps"] = list(self.steps)
        return found


def audit(cluster: Cluster, *, system: bool = False) -> list[Finding]:
    """The worst first. Roles and bindings that every cluster has are left out, unless `system`."""
    found: list[Finding] = []
    for role in cluster.index.roles():
        if role.rules is not None and (system or not cluster.is_system(role)):
            found.extend(_role(role))
    for binding in cluster.index.bindings():
        if system or not cluster.is_system(binding):
            found.extend(_binding(cluster, binding))
    found.extend(_paths(cluster, system))
    return sorted(found, key=lambda each: (-each.severity, each.check, each.where))


_NOBODY = UserInfo("")


def _grants(verb: str, group: str, resource: str) -> Callable[[Rule], bool]:
    resource, _, subresource = resource.partition("/")
    question = Attributes(_NOBODY, verb, True, group, "", resource, subresource)
    # whether names narrow it is told with the finding; here it is asked what the rule is about
    return lambda rule: rule_allows({**rule, "resourceNames": ()}, question)


def _either(*tests: Callable[[Rule], bool]) -> Callable[[Rule], bool]:
    return lambda rule: any(test(rule) for test in tests)


_ADMISSION = "admissionregistration.k8s.io"
_HOOKS = ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")
_RISKS: tuple[tuple[str, Severity, Callable[[Rule], bool], str], ...] = (
    ("escalate", Severity.HIGH,
     _either(_grants("escalate", GROUP, "roles"), _grants("escalate", GROUP, "clusterroles")),
     "may write roles that say more than their writer holds"),
    ("bind", Severity.HIGH, _either(_grants("bind", GROUP, "roles"), _grants("bind", GROUP, "clusterroles")),
     "may bind roles that the binder does not hold"),
    ("impersonate", Severity.HIGH,
     _either(*(_grants("impersonate", "", each) for each in ("users", "groups", "serviceaccounts"))),
     "may act as others"),
    ("read-secrets", Severity.MEDIUM, _either(*(_grants(verb, "", "secrets") for verb in ("get", "list", "watch"))),
     "may read Secrets"),
    ("service-account-tokens", Severity.HIGH, _grants("create", "", "serviceaccounts/token"),
     "may make tokens of service accounts"),
    ("exec", Severity.MEDIUM, _either(_grants("create", "", "pods/exec"), _grants("create", "", "pods/attach")),
     "may run commands in pods"),
    ("nodes-proxy", Severity.HIGH, _either(_grants("get", "", "nodes/proxy"), _grants("create", "", "nodes/proxy")),
     "may reach kubelets past admission and audit"),
    ("approve-certificates", Severity.HIGH,
     _grants("update", "certificates.k8s.io", "certificatesigningrequests/approval"),
     "may approve client certificates"),
    ("admission-webhooks", Severity.HIGH,
     _either(*(_grants(verb, _ADMISSION, kind) for verb in ("create", "update", "patch") for kind in _HOOKS)),
     "may see and change every object by a webhook of their own"),
)  # fmt: skip
"""What single rules allow that others should know about (Kubernetes' RBAC good practices)."""


def _role(role: Role) -> Iterator[Finding]:
    where = f"{role.kind} {_name(role)}"
    for number, rule in enumerate(role.rules or ()):
        shown = f"rule {number}: {compact_string(rule)}"
        stars = [
            name for name in ("verbs", "apiGroups", "resources", "nonResourceURLs") if ALL in (rule.get(name) or ())
        ]
        if "verbs" in stars and "resources" in stars:
            yield Finding("wildcard", Severity.CRITICAL, where, f"everything on every resource; {shown}")
            continue
        if stars:
            yield Finding("wildcard", Severity.MEDIUM, where, f"a star in {' and '.join(stars)}; {shown}")
        names = rule.get("resourceNames")
        for check, severity, matches, text in _RISKS:
            if matches(rule):
                narrowed = f" (those named {', '.join(names)})" if names else ""
                yield Finding(check, Severity.LOW if names else severity, where, f"{text}{narrowed}; {shown}")
    if not role.bound:
        yield Finding("unused-role", Severity.LOW, where, "nothing binds it")
    if not role.rules:
        yield Finding("empty-role", Severity.LOW, where, "it has no rules")


def _binding(cluster: Cluster, binding: Binding) -> Iterator[Finding]:
    where = f"{binding.kind} {_name(binding)}"
    role = binding.role
    if role.rules is None:
        text = f"its {role.kind} {_name(role)} does not exist: whoever makes one of that name fills it"
        yield Finding("missing-role", Severity.MEDIUM, where, text)
    if not binding.subjects:
        yield Finding("unused-binding", Severity.LOW, where, "it names no subject")
    seen = set()
    for subject in binding.subjects:
        kind, name, namespace = subject
        if subject in seen:
            yield Finding("duplicate-subject", Severity.LOW, where, f"{subject_text(subject)} is named twice")
        seen.add(subject)
        if kind == "Group" and name == MASTERS_GROUP:
            text = f"the group {MASTERS_GROUP} may do everything without it, and keeps that when it is gone"
            yield Finding("masters", Severity.LOW, where, text)
        if (kind == "Group" and name in EVERYBODY) or (kind == "User" and name == "system:anonymous"):
            severity = Severity.MEDIUM if name == "system:authenticated" else Severity.HIGH
            yield Finding("everybody", severity, where, f"{role.kind} {role.name} is given to {kind} {name}")
        home = namespace or binding.namespace
        known = cluster.service_accounts
        if kind == "ServiceAccount" and known is not None and (home, name) not in known:
            text = f"ServiceAccount {home}/{name} does not exist: whoever makes it holds {role.kind} {role.name}"
            yield Finding("missing-service-account", Severity.LOW, where, text)
        if kind == "ServiceAccount" and binding.namespace and home != binding.namespace:
            text = f"a service account of another namespace, {home}/{name}, holds {role.kind} {role.name} here"
            yield Finding("foreign-service-account", Severity.LOW, where, text)


def _paths(cluster: Cluster, system: bool) -> Iterator[Finding]:
    graph = Graph(cluster)
    own = {
        (kind, f"{namespace or binding.namespace}/{name}" if kind == "ServiceAccount" else name)
        for binding in cluster.index.bindings()
        if system or not cluster.is_system(binding)
        for kind, name, namespace in binding.subjects
    }
    for subject in graph.subjects():
        if subject not in own:
            continue
        path = graph.path_to_admin(subject)
        if path is None:
            continue
        if graph.is_admin(subject):
            if subject != ("Group", MASTERS_GROUP):
                yield Finding("cluster-admin", Severity.HIGH, label(subject), "may do everything in the cluster")
            continue
        steps = tuple(f"{label(step.source)} {step.how} -> {label(step.target)}" for step in path)
        text = f"can become cluster-admin in {len(steps)} step{'s' if len(steps) != 1 else ''}"
        yield Finding("path-to-admin", Severity.CRITICAL, label(subject), text, steps)


def _name(thing: Binding | Role) -> str:
    return f"{thing.namespace}/{thing.name}" if thing.namespace else thing.name
