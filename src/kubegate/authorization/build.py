"""The authorizers that a server's flags ask for, put together in one visible place."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from msgspec import Struct, field

from kubegate.api.clock import Clock
from kubegate.api.field import quoted
from kubegate.authentication import UserInfo
from kubegate.authorization import Attributes, Authorizer, Decision, RuleResolver, SubjectRules, Verdict, config
from kubegate.authorization.always import AlwaysAllow, AlwaysDeny
from kubegate.authorization.bootstrap import node_rules
from kubegate.authorization.masters import Masters
from kubegate.authorization.node import Graph, NodeAuthorizer
from kubegate.authorization.rbac import RbacIndex
from kubegate.authorization.union import Union, UnionRules
from kubegate.storage import Reader

if TYPE_CHECKING:
    from kubegate.authorization.webhook import WebhookAuthorizer
    from kubegate.remote.client import Endpoint

log = logging.getLogger(__name__)
MODES = config.TYPES
_RELOAD_SECONDS = 10.0


class Options(Protocol):
    """kube-apiserver's flags, as `server.options.Options` has them. Times in seconds."""

    authorization_mode: list[str]
    authorization_config: str
    authorization_policy_file: str
    authorization_webhook_config_file: str
    authorization_webhook_version: str
    authorization_webhook_cache_authorized_ttl: float
    authorization_webhook_cache_unauthorized_ttl: float


class AuthorizationOptions(Struct):
    """The same for those who have no command line."""

    authorization_mode: list[str] = field(default_factory=lambda: ["Node", "RBAC"])
    authorization_config: str = ""
    authorization_policy_file: str = ""
    authorization_webhook_config_file: str = ""
    authorization_webhook_version: str = "v1beta1"
    authorization_webhook_cache_authorized_ttl: float = 300.0
    authorization_webhook_cache_unauthorized_ttl: float = 30.0


class BuildError(Exception):
    """Flags or files that make no authorizer; one line for people."""


class Authorization(Struct):
    """What decides, what lists rules, and the indexes behind them.

    `rbac` follows the cluster's roles whatever the modes are, because escalation checks and explanations ask it.
    `modes` are the configured types in order. `run` keeps an AuthorizationConfiguration file's content in force;
    `close` ends what was begun.
    """

    authorizer: _Current
    rules: RuleResolver
    rbac: RbacIndex
    graph: Graph
    modes: tuple[str, ...]
    _reload: _Reload | None = None
    _ends: list[Callable[[], None]] = field(default_factory=list)

    async def run(self) -> None:
        """Look at the configuration file now and then; returns at once where there is none. Cancel it to end."""
        if self._reload is not None:
            await self._reload.run(self.authorizer)

    async def close(self) -> None:
        for end in self._ends:
            end()
        self._ends.clear()
        await self.authorizer.close()


class _Current:
    """The authorizers in force: a union that may be exchanged while the server runs. Always begins with `Masters`."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self._union = Union([Masters()])
        self._rules = UnionRules([])
        self.put(authorizers)

    @property
    def authorizers(self) -> tuple[Authorizer, ...]:
        return self._union.authorizers

    def put(self, authorizers: Sequence[Authorizer]) -> None:
        self._union = Union([Masters(), *authorizers])
        self._rules = UnionRules([cast(RuleResolver, each) for each in authorizers if hasattr(each, "rules_for")])

    def authorize(self, attributes: Attributes) -> Coroutine[Any, Any, Decision]:
        return self._union.authorize(attributes)

    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules:
        return await self._rules.rules_for(user, namespace)

    async def close(self) -> None:
        await _close(self._union.authorizers)


def build(options: Options, reader: Reader, clock: Clock, first: Sequence[Authorizer] = ()) -> Authorization:
    """`first` are asked before those that flags name. Raises BuildError, naming the flag, or the file and the place."""
    try:
        return _build(options, reader, clock, first)
    except (config.ConfigError, ValueError) as error:  # BadKubeconfig and PolicyError are ValueErrors
        raise BuildError(str(error)) from error


def _build(options: Options, reader: Reader, clock: Clock, first: Sequence[Authorizer]) -> Authorization:
    rbac, graph = RbacIndex(), Graph()
    parts = _Parts(options, clock, rbac, graph, first)
    reload = None
    if options.authorization_config:
        path = Path(options.authorization_config)
        content = _read(path)
        configured = config.parse(content, path)
        reload = _Reload(path, content, parts, clock)
    else:
        configured = [config.AuthorizerConfiguration(mode, mode.lower()) for mode in _modes(options)]
    authorizers = parts.make_all(configured)
    modes = tuple(each.type for each in configured)
    ends = [rbac.follow(reader)]
    if "Node" in modes or reload is not None:  # which may bring Node later
        ends.append(graph.follow(reader))
    current = _Current(authorizers)
    return Authorization(current, current, rbac, graph, modes, reload, ends)


def _modes(options: Options) -> list[str]:
    """Raises BuildError with all that is wrong with the flags, in kube-apiserver's words."""
    modes, problems = options.authorization_mode, []
    policy, webhook = options.authorization_policy_file, options.authorization_webhook_config_file
    if not modes:
        problems.append("at least one authorization-mode must be passed")
    for mode in modes:
        if mode not in MODES:
            problems.append(f"authorization-mode {quoted(mode)} is not a valid mode; there are {', '.join(MODES)}")
        if mode == "ABAC" and not policy:
            problems.append("authorization-mode ABAC's authorization policy file not passed")
        if mode == "Webhook" and not webhook:
            problems.append("authorization-mode Webhook's authorization config file not passed")
    if policy and "ABAC" not in modes:
        problems.append("cannot specify --authorization-policy-file without mode ABAC")
    if webhook and "Webhook" not in modes:
        problems.append("cannot specify --authorization-webhook-config-file without mode Webhook")
    if len(modes) != len(set(modes)):
        shown = " ".join(map(quoted, modes))
        problems.append(f"authorization-mode [{shown}] has mode specified more than once")
    if problems:
        raise BuildError("; ".join(problems))
    return modes


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise config.ConfigError(path, [f"cannot be read: {error.strerror}"]) from None


class _Parts:
    """Makes authorizers of their configuration; those with state are made once."""

    def __init__(
        self, options: Options, clock: Clock, rbac: RbacIndex, graph: Graph, first: Sequence[Authorizer]
    ) -> None:
        self._options, self._clock, self._rbac, self._first = options, clock, rbac, first
        self._node = NodeAuthorizer(graph, node_rules())

    def make_all(self, configured: Sequence[config.AuthorizerConfiguration]) -> list[Authorizer]:
        return [*self._first, *(self._make(each) for each in configured)]

    def _make(self, configured: config.AuthorizerConfiguration) -> Authorizer:
        match configured.type:
            case "AlwaysAllow":
                return AlwaysAllow()
            case "AlwaysDeny":
                return AlwaysDeny()
            case "ABAC":
                if not self._options.authorization_policy_file:
                    raise BuildError("ABAC needs a policy file: --authorization-policy-file")
                from kubegate.authorization.abac import Abac

                return Abac.from_file(Path(self._options.authorization_policy_file))
            case "Node":
                return self._node
            case "RBAC":
                return self._rbac
            case _:
                return self._webhook(configured)

    def _webhook(self, configured: config.AuthorizerConfiguration) -> WebhookAuthorizer:
        # here, because most servers ask no webhook, and an HTTP client takes its time to load
        from kubegate.authorization.webhook import Settings, WebhookAuthorizer
        from kubegate.remote.client import Client, Endpoint

        found = configured.webhook
        if found is None:
            options = self._options
            settings = Settings(
                name=configured.name,
                version=options.authorization_webhook_version,
                authorized_ttl=options.authorization_webhook_cache_authorized_ttl,
                unauthorized_ttl=options.authorization_webhook_cache_unauthorized_ttl,
            )
            endpoint = Endpoint.from_kubeconfig(Path(options.authorization_webhook_config_file))
            return WebhookAuthorizer(Client(endpoint.within(settings.timeout)), settings, self._clock)
        settings = Settings(
            name=configured.name,
            version=found.version,
            timeout=found.timeout,
            authorized_ttl=found.authorized_ttl,
            unauthorized_ttl=found.unauthorized_ttl,
            failure=Verdict.DENY if found.deny_on_failure else Verdict.NO_OPINION,
        )
        endpoint = _in_cluster() if found.kubeconfig is None else Endpoint.from_kubeconfig(found.kubeconfig)
        conditions = None
        if found.conditions:
            from kubegate.authorization.conditions import MatchConditions

            conditions = MatchConditions(found.conditions)
        return WebhookAuthorizer(Client(endpoint.within(settings.timeout)), settings, self._clock, conditions)


def _in_cluster() -> Endpoint:
    """The API server of the cluster that this process is a pod of."""
    from kubegate.remote.client import Endpoint

    folder = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise BuildError("connectionInfo.type: InClusterConfig works in a pod alone (no KUBERNETES_SERVICE_HOST here)")
    authority = folder / "ca.crt"
    return Endpoint(f"https://{host}:{port}", authority=authority.read_bytes(), token_file=folder / "token")


class _Reload:
    """Puts a changed AuthorizationConfiguration in force; one that cannot be used is told, and the old one stays."""

    def __init__(self, path: Path, content: bytes, parts: _Parts, clock: Clock) -> None:
        self._path, self._content, self._parts, self._clock = path, content, parts, clock
        self._told = b""

    async def run(self, current: _Current) -> None:
        while True:
            await self._clock.sleep(_RELOAD_SECONDS)
            await self.look(current)

    async def look(self, current: _Current) -> bool:
        """Whether another configuration came into force."""
        try:
            content = await asyncio.to_thread(self._path.read_bytes)
        except OSError as error:
            log.warning("%s cannot be read, the authorizers stay as they are: %s", self._path, error.strerror)
            return False
        if content in (self._content, self._told):
            return False
        try:
            authorizers = self._parts.make_all(config.parse(content, self._path))
        except Exception as error:  # whatever is wrong with it, the old one stays in force
            self._told = content
            log.error("the authorizers stay as they are: %s", error)
            return False
        old = current.authorizers
        current.put(authorizers)
        self._content = content
        log.info("%s: a new configuration is in force", self._path)
        await _close(old)
        return True


async def _close(authorizers: Sequence[Authorizer]) -> None:
    """End what has connections."""
    for authorizer in authorizers:
        if hasattr(authorizer, "close"):
            await authorizer.close()
