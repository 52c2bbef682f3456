"""RBAC as an index: subject -> bindings -> compiled rules, kept current in steps.

A decision costs what the subject's own rules cost, whatever the number of bindings in the cluster. Follows
k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac: cluster role bindings are asked first, then the role bindings of
the request's namespace; the first that grants gives the reason; roles that do not exist are told where nothing grants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kubegate.api import Object
from kubegate.api.field import aggregate, quoted
from kubegate.authentication import UserInfo
from kubegate.authorization import NO_OPINION, Attributes, Decision, SubjectRules, Verdict
from kubegate.authorization.rules import ALL, Rule
from kubegate.storage import ObjectEvent, Reader

GROUP = "rbac.authorization.k8s.io"
ROLES = f"roles.{GROUP}"
CLUSTER_ROLES = f"clusterroles.{GROUP}"
ROLE_BINDINGS = f"rolebindings.{GROUP}"
CLUSTER_ROLE_BINDINGS = f"clusterrolebindings.{GROUP}"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
NAME = "rbac"
_MOST_USERS = 1024
"""Users of whom one scope remembers what is bound to them and their groups, until its bindings change."""

_ResourceRule = tuple[frozenset[str] | None, frozenset[str] | None, frozenset[str] | None]
"""Verbs, API groups and names that one rule takes; None takes all."""
_UrlRule = frozenset[str] | None
"""Verbs that one rule takes; None takes all."""


class _Compiled:
    """A role's rules by the resource (or URL) that they name, so that a decision looks at the few that could apply."""

    __slots__ = ("prefixes", "resources", "urls")

    def __init__(self, rules: Sequence[Rule]) -> None:
        resources: dict[str, list[_ResourceRule]] = {}
        urls: dict[str, list[_UrlRule]] = {}
        prefixes: list[tuple[str, _UrlRule]] = []
        for rule in rules:
            verbs = _choice(rule.get("verbs"))
            groups = _choice(rule.get("apiGroups"))
            names = frozenset(rule.get("resourceNames") or ()) or None
            for resource in dict.fromkeys(rule.get("resources") or ()):
                resources.setdefault(resource, []).append((verbs, groups, names))
            for url in dict.fromkeys(rule.get("nonResourceURLs") or ()):
                urls.setdefault(url, []).append(verbs)
                if url.endswith(ALL):
                    prefixes.append((url.rstrip(ALL), verbs))
        self.resources = resources
        self.urls = urls
        self.prefixes = prefixes

    def allow(self, attributes: Attributes, keys: tuple[str, ...]) -> bool:
        """`keys` are the resource as rules may write it: `pods/log`, `*/log`, `*`."""
        verb, group, name = attributes.verb, attributes.api_group, attributes.name
        for key in keys:
            for verbs, groups, names in self.resources.get(key, ()):
                if (
                    (verbs is None or verb in verbs)
                    and (groups is None or group in groups)
                    and (names is None or name in names)
                ):
                    return True
        return False

    def allow_path(self, attributes: Attributes) -> bool:
        path, verb = attributes.path, attributes.verb
        for verbs in self.urls.get(path, ()):
            if verbs is None or verb in verbs:
                return True
        prefixes = self.prefixes
        return bool(prefixes) and any(
            path.startswith(prefix) and (verbs is None or verb in verbs) for prefix, verbs in prefixes
        )


def _choice(values: Sequence[str] | None) -> frozenset[str] | None:
    chosen = frozenset(values or ())
    return None if ALL in chosen else chosen


class Role:
    """A Role or ClusterRole as bindings see it; `rules` is None while there is none of this name.

    `bound` counts its bindings; `aggregated` tells that its rules are gathered from other roles.

    Bindings point at it, so that a change of the role is one assignment however many bindings there are.
    """

    __slots__ = ("aggregated", "bound", "kind", "name", "namespace", "ready", "rules")

    def __init__(self, kind: str, namespace: str, name: str) -> None:
        self.kind, self.namespace, self.name = kind, namespace, name
        self.rules: Sequence[Rule] | None = None
        self.bound = 0
        self.aggregated = False
        self.ready: _Compiled | None = None
        """`rules`, compiled when somebody first asked."""

    def change(self, rules: Sequence[Rule] | None) -> None:
        self.rules, self.ready = rules, None

    def compiled(self) -> _Compiled | None:
        if self.ready is None and self.rules is not None:
            self.ready = _Compiled(self.rules)
        return self.ready

    @property
    def missing(self) -> str:
        """The error that a binding to this role makes while there is none."""
        if self.kind not in ("Role", "ClusterRole"):
            return f"unsupported role reference kind: {quoted(self.kind)}"
        return f"{self.kind.lower()}.{GROUP} {quoted(self.name)} not found"


Subject = tuple[str, str, str]
"""Kind, name and namespace of a binding's subject, as written."""


class Binding:
    """A RoleBinding, or a ClusterRoleBinding where `namespace` is empty."""

    __slots__ = ("_allowances", "name", "namespace", "role", "subjects")

    def __init__(self, namespace: str, name: str, role: Role, subjects: tuple[Subject, ...]) -> None:
        self.namespace, self.name, self.role, self.subjects = namespace, name, role, subjects
        self._allowances: dict[Subject, Decision] | None = None

    @property
    def kind(self) -> str:
        return "RoleBinding" if self.namespace else "ClusterRoleBinding"

    def subject_for(self, user: UserInfo) -> Subject | None:
        """The first subject that is this user, one of its groups, or its service account."""
        for subject in self.subjects:
            kind, name, _ = subject
            if kind == "Group":
                if name in user.groups:
                    return subject
            elif user_of(subject, self.namespace) == user.name:
                return subject
        return None

    def allowance(self, subject: Subject) -> Decision:
        """What it decides for a subject whom its role allows; the words are put together once."""
        if self._allowances is None:
            self._allowances = {}
        found = self._allowances.get(subject)
        if found is None:
            found = Decision(Verdict.ALLOW, f"RBAC: allowed by {self.describe(subject)}", "", NAME)
            self._allowances[subject] = found
        return found

    def describe(self, subject: Subject) -> str:
        """`RoleBinding "read/ns" of ClusterRole "view" to User "alice"`."""
        own = quoted(f"{self.name}/{self.namespace}" if self.namespace else self.name)
        return f"{self.kind} {own} of {self.role.kind} {quoted(self.role.name)} to {self.describe_subject(subject)}"

    def describe_subject(self, subject: Subject) -> str:
        kind, name, namespace = subject
        if kind == "ServiceAccount":
            name = f"{name}/{namespace or self.namespace}"
        return f"{kind} {quoted(name)}"


def user_of(subject: Subject, binding_namespace: str) -> str | None:
    """The user name that a User or ServiceAccount subject means; None for any other, and where it can mean nobody."""
    kind, name, namespace = subject
    if kind == "User":
        return name
    if kind == "ServiceAccount":
        namespace = namespace or binding_namespace
        return f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}" if namespace else None
    return None


class _Scope:
    """The bindings of the cluster, or of one namespace, by user name and by group name."""

    __slots__ = ("_found", "groups", "users")

    def __init__(self) -> None:
        self.users: dict[str, list[Binding]] = {}
        self.groups: dict[str, list[Binding]] = {}
        self._found: dict[tuple[str, tuple[str, ...]], tuple[Binding, ...]] = {}

    def of(self, user: UserInfo) -> tuple[Binding, ...]:
        """What the user's own name has, then what each of its groups has, each binding once."""
        key = (user.name, user.groups)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MOST_USERS:
                self._found.clear()
            names = self.users.get(user.name, ()), *(self.groups.get(group, ()) for group in user.groups)
            found = self._found[key] = tuple(dict.fromkeys(binding for bindings in names for binding in bindings))
        return found

    def add(self, binding: Binding) -> None:
        self._found.clear()
        for where, name in self._places(binding):
            known = where.get(name)
            if known is None:
                where[name] = [binding]
            else:
                known.append(binding)

    def remove(self, binding: Binding) -> None:
        self._found.clear()
        for where, name in self._places(binding):
            known = where[name]
            known.remove(binding)
            if not known:
                del where[name]

    def _places(self, binding: Binding) -> Iterable[tuple[dict[str, list[Binding]], str]]:
        if len(binding.subjects) == 1:
            place = self._place(binding, binding.subjects[0])
            return (place,) if place else ()
        places = {}
        for subject in binding.subjects:
            place = self._place(binding, subject)
            if place:
                places[(subject[0] == "Group", place[1])] = place
        return places.values()

    def _place(self, binding: Binding, subject: Subject) -> tuple[dict[str, list[Binding]], str] | None:
        if subject[0] == "Group":
            return self.groups, subject[1]
        user = user_of(subject, binding.namespace)
        return None if user is None else (self.users, user)


class RbacIndex:
    """The RBAC authorizer and rule resolver, and what explanations and escalation checks ask.

    Feed it with `follow` (a Reader) or with `put` and `remove` (single objects). Everything is synchronous; a change
    costs what the changed object costs.
    """

    def __init__(self) -> None:
        self._roles: dict[tuple[str, str, str], Role] = {}
        self._bindings: dict[tuple[str, str], Binding] = {}
        self._cluster = _Scope()
        self._namespaces: dict[str, _Scope] = {}

    # What the index is told

    def follow(self, reader: Reader) -> Callable[[], None]:
        """Take all there is, then every change. Returns a function that ends it."""

        def on_event(event: ObjectEvent, obj: Object, previous: Object | None) -> None:
            if event is ObjectEvent.DELETED:
                self.remove(obj)
            else:
                self.put(obj)

        def on_role(kind: str) -> Callable[[ObjectEvent, Object, Object | None], None]:
            return lambda event, obj, previous: on_event(event, _with_kind(obj, kind), previous)

        ends = [
            reader.subscribe(CLUSTER_ROLES, on_role("ClusterRole")),
            reader.subscribe(ROLES, on_role("Role")),
            reader.subscribe(CLUSTER_ROLE_BINDINGS, on_role("ClusterRoleBinding")),
            reader.subscribe(ROLE_BINDINGS, on_role("RoleBinding")),
        ]

        def end() -> None:
            for each in ends:
                each()

        return end

    def put(self, obj: Object) -> None:
        """A Role, ClusterRole, RoleBinding or ClusterRoleBinding as it is now; other kinds are not looked at."""
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace") or "", metadata["name"]
        match obj.get("kind"):
            case "Role":
                self._role("Role", namespace, name).change(obj.get("rules") or ())
            case "ClusterRole":
                role = self._role("ClusterRole", "", name)
                role.change(obj.get("rules") or ())
                role.aggregated = obj.get("aggregationRule") is not None
            case "RoleBinding":
                self._bind(namespace, name, obj)
            case "ClusterRoleBinding":
                self._bind("", name, obj)

    def remove(self, obj: Object) -> None:
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace") or "", metadata["name"]
        match obj.get("kind"):
            case "Role" | "ClusterRole" as kind:
                namespace = namespace if kind == "Role" else ""
                role = self._role(kind, namespace, name)
                role.change(None)
                self._forget_unused(role)
            case "RoleBinding":
                self._unbind(namespace, name)
            case "ClusterRoleBinding":
                self._unbind("", name)

    def _role(self, kind: str, namespace: str, name: str) -> Role:
        key = (kind, namespace, name)
        role = self._roles.get(key)
        if role is None:
            role = self._roles[key] = Role(kind, namespace, name)
        return role

    def _forget_unused(self, role: Role) -> None:
        if role.rules is None and not role.bound:
            self._roles.pop((role.kind, role.namespace, role.name), None)

    def _bind(self, namespace: str, name: str, obj: Object) -> None:
        reference = obj.get("roleRef") or {}
        kind = reference.get("kind") or ""
        subjects = tuple(
            (each.get("kind") or "", each.get("name") or "", each.get("namespace") or "")
            for each in obj.get("subjects") or ()
        )
        role = self._role(kind, namespace if kind == "Role" else "", reference.get("name") or "")
        old = self._bindings.get((namespace, name))
        if old is not None:
            if old.role is role and old.subjects == subjects:
                return
            self._unbind(namespace, name)
        binding = Binding(namespace, name, role, subjects)
        role.bound += 1
        self._bindings[(namespace, name)] = binding
        scope = self._namespaces.setdefault(namespace, _Scope()) if namespace else self._cluster
        scope.add(binding)

    def _unbind(self, namespace: str, name: str) -> None:
        binding = self._bindings.pop((namespace, name), None)
        if binding is None:
            return
        scope = self._namespaces.get(namespace) if namespace else self._cluster
        if scope is not None:  # bindings without subjects are in no scope's lists, and may outlive it
            scope.remove(binding)
            if namespace and not scope.users and not scope.groups:
                del self._namespaces[namespace]
        binding.role.bound -= 1
        self._forget_unused(binding.role)

    # What it is asked

    async def authorize(self, attributes: Attributes) -> Decision:
        return self.decide(attributes)

    def decide(self, attributes: Attributes) -> Decision:
        """Allow with the binding as reason, or no opinion, with the missing roles of the user's bindings as reason."""
        user = attributes.user
        keys: tuple[str, ...] = ()
        scopes: tuple[_Scope, ...] = (self._cluster,)  # paths are in no namespace
        if attributes.resource_request:
            resource, subresource = attributes.resource, attributes.subresource
            keys = (f"{resource}/{subresource}", f"*/{subresource}", ALL) if subresource else (resource, ALL)
            scopes = self._scopes(attributes.namespace)
        errors: list[str] = []
        for scope in scopes:
            for binding in scope.of(user):
                role = binding.role
                rules = role.ready or role.compiled()
                if rules is None:
                    errors.append(role.missing)
                elif rules.allow(attributes, keys) if keys else rules.urls and rules.allow_path(attributes):
                    return _allow(binding, user)
        if errors:
            return Decision(Verdict.NO_OPINION, f"RBAC: {aggregate(errors)}", "", NAME)
        return NO_OPINION

    def _scopes(self, namespace: str) -> tuple[_Scope, ...]:
        local = self._namespaces.get(namespace) if namespace else None
        return (self._cluster,) if local is None else (self._cluster, local)

    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules:
        rules, errors = self.policy_rules(user, namespace)
        found = SubjectRules(error=aggregate(errors))
        for rule in rules:
            if rule.get("resources"):
                found.resource_rules.append(_listed(rule, "verbs", "apiGroups", "resources", "resourceNames"))
            if rule.get("nonResourceURLs"):
                found.non_resource_rules.append(_listed(rule, "verbs", "nonResourceURLs"))
        return found

    def policy_rules(self, user: UserInfo, namespace: str) -> tuple[list[Rule], list[str]]:
        """All rules that the user holds in a namespace ("": in the whole cluster), and errors for missing roles."""
        rules: list[Rule] = []
        errors: list[str] = []
        for binding in self.bindings_of(user, namespace):
            if binding.role.rules is None:
                errors.append(binding.role.missing)
            else:
                rules.extend(binding.role.rules)
        return rules, errors

    def bindings_of(self, user: UserInfo, namespace: str = "") -> Iterator[Binding]:
        """Each binding that names the user: those of the cluster, then those of the namespace, in order of name."""
        for scope in self._scopes(namespace):
            yield from sorted(scope.of(user), key=lambda binding: binding.name)

    def role_rules(self, kind: str, namespace: str, name: str) -> Sequence[Rule] | None:
        """The rules of a Role or ClusterRole; None where there is none."""
        role = self._roles.get((kind, namespace if kind == "Role" else "", name))
        return role.rules if role is not None else None

    def bindings(self) -> Iterable[Binding]:
        """All bindings, in no particular order. Do not change the index while going through them."""
        return self._bindings.values()

    def roles(self) -> Iterable[Role]:
        """All roles, also those that are only referred to (their `rules` is None)."""
        return self._roles.values()

    def namespaces(self) -> Iterable[str]:
        """Namespaces that have role bindings."""
        return self._namespaces.keys()

    def __len__(self) -> int:
        return len(self._bindings)


def _allow(binding: Binding, user: UserInfo) -> Decision:
    subject = binding.subject_for(user)
    assert subject is not None, "a binding is found under a subject that it does not name"
    return binding.allowance(subject)


def _listed(rule: Rule, *keys: str) -> dict[str, Any]:
    return {key: list(rule[key]) for key in keys if rule.get(key)}


def _with_kind(obj: Object, kind: str) -> Object:
    """Stored objects may leave `kind` to the place they are kept in."""
    return obj if obj.get("kind") == kind else {**obj, "kind": kind}


def index_of(objects: Iterable[Mapping[str, Any]]) -> RbacIndex:
    """An index over objects from files or a list, for tools and tests."""
    index = RbacIndex()
    for obj in objects:
        index.put(dict(obj))
    return index
