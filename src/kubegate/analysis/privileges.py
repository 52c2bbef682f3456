"""The privilege graph: how a subject that may do one thing comes to be able to do everything.

An edge is a permission that lets its holder act as another subject, or take any role. What an edge needs is taken from
Kubernetes' own page on RBAC good practices (privilege escalation risks).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kubegate.analysis.sources import Cluster
from kubegate.authentication import AUTHENTICATED_GROUP, MASTERS_GROUP, UserInfo
from kubegate.authorization import Attributes
from kubegate.authorization.rbac import GROUP, SERVICE_ACCOUNT_PREFIX, Binding
from kubegate.authorization.rules import FULL_AUTHORITY, Rule, covers, rule_allows

Subject = tuple[str, str]
"""Kind and name; a service account's name is `NAMESPACE/NAME`."""
ADMIN: Subject = ("", "cluster-admin")
"""Not a subject: being able to do everything."""
MASTERS: Subject = ("Group", MASTERS_GROUP)

WORKLOADS = (
    ("", "pods"),
    ("", "replicationcontrollers"),
    ("apps", "deployments"),
    ("apps", "daemonsets"),
    ("apps", "statefulsets"),
    ("apps", "replicasets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
)
"""What runs pods: who may create one in a namespace may use any of its service accounts."""


@dataclass(frozen=True, slots=True)
class Step:
    """`source` may, because of `how`, act as `target`."""

    source: Subject
    target: Subject
    how: str


@dataclass(frozen=True, slots=True)
class Held:
    """A rule that a subject holds through a binding; `scope` "" is the whole cluster."""

    rule: Rule
    scope: str
    binding: Binding


class Graph:
    """Built once of a cluster; `path_to_admin` then answers for each subject."""

    def __init__(self, cluster: Cluster) -> None:
        self._held: dict[Subject, list[Held]] = {}
        accounts: set[tuple[str, str]] = set(cluster.service_accounts or ())
        for binding in cluster.index.bindings():
            for kind, name, namespace in binding.subjects:
                home = namespace or binding.namespace
                if kind == "ServiceAccount":
                    accounts.add((home, name))
                subject = (kind, f"{home}/{name}" if kind == "ServiceAccount" else name)
                held = self._held.setdefault(subject, [])
                held.extend(Held(rule, binding.namespace, binding) for rule in binding.role.rules or ())
        self._accounts: dict[str, list[Subject]] = {}
        for namespace, name in sorted(accounts):
            self._accounts.setdefault(namespace, []).append(("ServiceAccount", f"{namespace}/{name}"))
        self._steps: dict[Subject, list[Step]] = {}

    def subjects(self) -> list[Subject]:
        return sorted(self._held)

    def path_to_admin(self, subject: Subject) -> list[Step] | None:
        """The shortest way to everything; an empty one for who has it already, None where there is none."""
        if subject == MASTERS:
            return []
        before: dict[Subject, Step] = {}
        queue = deque([subject])
        while queue:
            current = queue.popleft()
            for step in self.steps(current):
                if step.target in before or step.target == subject:
                    continue
                before[step.target] = step
                if step.target in (ADMIN, MASTERS):
                    return _path(before, step.target, subject)
                queue.append(step.target)
        return None

    def steps(self, subject: Subject) -> list[Step]:
        """What the subject may become in one step."""
        known = self._steps.get(subject)
        if known is None:
            found: dict[Subject, Step] = {}
            for step in self._find(subject):
                found.setdefault(step.target, step)
            known = self._steps[subject] = list(found.values())
        return known

    def is_admin(self, subject: Subject) -> bool:
        """Whether the subject's own rules already are everything."""
        return subject == MASTERS or self._admin_binding(subject) is not None

    def _admin_binding(self, subject: Subject) -> Held | None:
        for held in self._held.get(subject, ()):
            if not held.scope and not covers([held.rule], FULL_AUTHORITY[:1]):
                return held
        return None

    def _find(self, subject: Subject) -> Iterator[Step]:
        for group in _groups(subject):
            if group in self._held:
                yield Step(subject, group, "is a member")
        admin = self._admin_binding(subject)
        if admin is not None:
            yield Step(subject, ADMIN, f"holds everything through {_through(admin)}")
        held = self._held.get(subject, [])
        yield from self._roles(subject, held)
        for each in held:
            yield from self._impersonation(subject, each)
            yield from self._service_accounts(subject, each)

    def _roles(self, subject: Subject, held: Sequence[Held]) -> Iterator[Step]:
        """Taking a role: binding any, or rewriting one's own."""
        everywhere = [each for each in held if not each.scope]
        bind = _first(everywhere, "bind", GROUP, "clusterroles", "cluster-admin")
        if bind is not None:
            write = _first(everywhere, "create", GROUP, "clusterrolebindings")
            if write is not None:
                yield Step(
                    subject, ADMIN, f"may bind cluster roles and create cluster role bindings ({_through(bind)})"
                )
        escalate = _first(everywhere, "escalate", GROUP, "clusterroles")
        if escalate is not None:
            for verb in ("update", "patch"):
                write = _first(everywhere, verb, GROUP, "clusterroles")
                if write is not None:
                    text = f"may escalate and {verb} the cluster roles that it holds ({_through(escalate)})"
                    yield Step(subject, ADMIN, text)
        proxy = _first(everywhere, "create", "", "nodes/proxy") or _first(everywhere, "get", "", "nodes/proxy")
        if proxy is not None:
            for accounts in self._accounts.values():
                for account in accounts:
                    yield Step(subject, account, f"may run commands in every pod by nodes/proxy ({_through(proxy)})")

    def _impersonation(self, subject: Subject, held: Held) -> Iterator[Step]:
        def may(resource: str, name: str, namespace: str = "") -> bool:
            return _allows(held.rule, "impersonate", "", resource, name, namespace)

        if not held.scope and may("groups", MASTERS_GROUP):
            user = any(may("users", name) for name in _any_user(held.rule))
            if user:
                yield Step(subject, MASTERS, f"may impersonate the group ({_through(held)})")
        if not held.scope:
            for kind, name in self.subjects():
                if kind == "User" and may("users", name):
                    yield Step(subject, (kind, name), f"may impersonate the user ({_through(held)})")
        for namespace in self._reached(held.scope):
            for account in self._accounts.get(namespace, ()):
                short = account[1].partition("/")[2]
                if may("serviceaccounts", short, namespace):
                    yield Step(subject, account, f"may impersonate the service account ({_through(held)})")

    def _service_accounts(self, subject: Subject, held: Held) -> Iterator[Step]:
        rule = held.rule
        workload = next((f"{r}.{g}" if g else r for g, r in WORKLOADS if _allows(rule, "create", g, r)), "")
        command = _allows(rule, "create", "", "pods/exec") or _allows(rule, "get", "", "pods/exec")
        secrets = any(_allows(rule, verb, "", "secrets") for verb in ("list", "get"))
        made = secrets and _allows(rule, "create", "", "secrets")
        for namespace in self._reached(held.scope):
            for account in self._accounts.get(namespace, ()):
                short = account[1].partition("/")[2]
                if _allows(rule, "create", "", "serviceaccounts/token", short, namespace):
                    yield Step(subject, account, f"may make tokens for it ({_through(held)})")
                if workload:
                    yield Step(subject, account, f"may create {workload} that run as it ({_through(held)})")
                if made:
                    yield Step(subject, account, f"may make a token Secret for it and read it ({_through(held)})")
                if command:
                    yield Step(subject, account, f"may run commands in pods that run as it ({_through(held)})")

    def _reached(self, scope: str) -> Iterable[str]:
        return (scope,) if scope else self._accounts


def _groups(subject: Subject) -> Iterator[Subject]:
    kind, name = subject
    if kind == "ServiceAccount":
        yield "Group", "system:serviceaccounts"
        yield "Group", f"system:serviceaccounts:{name.partition('/')[0]}"
    if kind in ("User", "ServiceAccount") and name != "system:anonymous":
        yield "Group", AUTHENTICATED_GROUP
    if (kind, name) == ("User", "system:anonymous"):
        yield "Group", "system:unauthenticated"


_NOBODY = UserInfo("")


def _allows(rule: Rule, verb: str, group: str, resource: str, name: str = "", namespace: str = "") -> bool:
    resource, _, subresource = resource.partition("/")
    return rule_allows(rule, Attributes(_NOBODY, verb, True, group, "", resource, subresource, namespace, name))


def _first(held: Sequence[Held], verb: str, group: str, resource: str, name: str = "") -> Held | None:
    return next((each for each in held if _allows(each.rule, verb, group, resource, name)), None)


def _any_user(rule: Rule) -> Sequence[str]:
    """Impersonating a group takes a user as well: any that the rule lets impersonate."""
    return tuple(rule.get("resourceNames") or ("anybody",))


def _through(held: Held) -> str:
    binding = held.binding
    place = f" in {binding.namespace}" if binding.namespace else ""
    return f"{binding.kind} {binding.name} to {binding.role.kind} {binding.role.name}{place}"


def _path(before: dict[Subject, Step], target: Subject, start: Subject) -> list[Step]:
    steps = [before[target]]
    while steps[-1].source != start:
        steps.append(before[steps[-1].source])
    return steps[::-1]


def label(subject: Subject) -> str:
    """`ServiceAccount ci/deployer`, `User system:serviceaccount:…`, `cluster-admin`."""
    kind, name = subject
    return f"{kind} {name}" if kind else name


def user_name(subject: Subject) -> str:
    kind, name = subject
    if kind == "ServiceAccount":
        namespace, _, short = name.partition("/")
        return f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{short}"
    return name
