"""AuthorizationConfiguration: several authorizers in order, from a file (--authorization-config).

Follows k8s.io/apiserver/pkg/apis/apiserver (types, defaults, validation) at v1. What is wrong with a file is told with
the place in it, which for the fields of `webhook` does not say `webhook`.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from kubegate.api import durations, field
from kubegate.api.configfile import ConfigFileError, decode
from kubegate.api.field import FieldError, child, index
from kubegate.api.names import is_dns1123_subdomain

TYPES = ("ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
_LONGEST_TIMEOUT = 30.0
_MOST_CONDITIONS = 64
_GO_TYPES = {
    "AuthorizationConfiguration": {"authorizers": "[]AuthorizerConfiguration"},
    "AuthorizerConfiguration": {"type": "string", "name": "string", "webhook": "WebhookConfiguration"},
    "WebhookConfiguration": {
        **dict.fromkeys(("authorizedTTL", "unauthorizedTTL", "timeout"), "string"),
        **dict.fromkeys(("cacheAuthorizedRequests", "cacheUnauthorizedRequests"), "bool"),
        **dict.fromkeys(("subjectAccessReviewVersion", "matchConditionSubjectAccessReviewVersion"), "string"),
        "failurePolicy": "string",
        "connectionInfo": "WebhookConnectionInfo",
        "matchConditions": "[]WebhookMatchCondition",
    },
    "WebhookConnectionInfo": {"type": "string", "kubeConfigFile": "string"},
    "WebhookMatchCondition": {"expression": "string"},
}


class ConfigError(Exception):
    """A file that cannot be used; `problems` are lines for people, each with its place."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__(f"{path}: " + "; ".join(problems))
        self.path, self.problems = path, problems


class WebhookConfiguration(Struct, frozen=True):
    """`spec.authorizers[].webhook`, checked and with defaults. Times in seconds; `kubeconfig` None: in-cluster."""

    timeout: float
    authorized_ttl: float
    unauthorized_ttl: float
    version: str
    deny_on_failure: bool
    kubeconfig: Path | None
    conditions: tuple[str, ...] = ()


class AuthorizerConfiguration(Struct, frozen=True):
    """One of `authorizers`. `webhook` is there where `type` is Webhook."""

    type: str
    name: str
    webhook: WebhookConfiguration | None = None


def load(path: Path) -> list[AuthorizerConfiguration]:
    """Raises ConfigError."""
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise ConfigError(path, [f"cannot be read: {error.strerror}"]) from None


def parse(content: bytes, path: Path) -> list[AuthorizerConfiguration]:
    """The authorizers of a file's content. Raises ConfigError."""
    try:
        found = decode(content, "AuthorizationConfiguration", _GO_TYPES) if content else {}
        reader = _Reader()
        configured = reader.configuration(found)
    except ConfigFileError as error:
        raise ConfigError(path, [str(error)]) from None
    if reader.errors:
        raise ConfigError(path, [str(error) for error in reader.errors])
    problems = [
        f"expected name {each.type.lower()} for authorizer {each.type} instead of {each.name}"
        for each in configured
        if each.type != "Webhook" and each.name != each.type.lower()
    ]
    if problems:
        raise ConfigError(path, problems)
    return configured


class _Reader:
    """Reads authorizers and collects what is wrong with them."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._types: set[str] = set()
        self._names: set[str] = set()

    def configuration(self, found: Mapping[str, Any]) -> list[AuthorizerConfiguration]:
        authorizers = found.get("authorizers") or []
        if not authorizers:
            self.errors.append(field.required("authorizers", "at least one authorization mode must be defined"))
        read = [self._authorizer(each, index("authorizers", place)) for place, each in enumerate(authorizers)]
        return [each for each in read if each is not None]

    def _authorizer(self, each: Mapping[str, Any], path: str) -> AuthorizerConfiguration | None:
        kind, name = each.get("type") or "", each.get("name") or ""
        where = child(path, "type")
        if not kind:
            self.errors.append(field.required(where))
            return None
        if kind not in TYPES:
            self.errors.append(field.not_supported(where, kind, TYPES))
            return None
        if kind in self._types and kind != "Webhook":
            self.errors.append(field.duplicate(where, kind))
            return None
        self._types.add(kind)
        self._name(name, child(path, "name"))
        webhook = each.get("webhook")
        where = child(path, "webhook")
        if kind != "Webhook":
            if webhook is not None:
                self.errors.append(field.invalid(where, "non-null", "may only be specified when type=Webhook"))
            return AuthorizerConfiguration(kind, name)
        if webhook is None:
            self.errors.append(field.required(where, "required when type=Webhook"))
            return None
        return AuthorizerConfiguration(kind, name, self._webhook(webhook, path))

    def _name(self, name: str, path: str) -> None:
        problems = is_dns1123_subdomain(name)
        if not name:
            self.errors.append(field.required(path))
        elif name in self._names:
            self.errors.append(field.duplicate(path, name))
        elif problems:
            self.errors.append(field.invalid(path, name, f"authorizer name is invalid: {', '.join(problems)}"))
        self._names.add(name)

    def _webhook(self, found: Mapping[str, Any], path: str) -> WebhookConfiguration:
        """`path` is the authorizer's: kube-apiserver tells of these fields as if they were its own."""
        timeout = self._duration(found, "timeout", path, 0.0, "must be > 0s and <= 30s", _LONGEST_TIMEOUT)
        if not timeout:
            self.errors.append(field.required(child(path, "timeout")))
        authorized_ttl = self._duration(found, "authorizedTTL", path, 300.0, "must be > 0s")
        unauthorized_ttl = self._duration(found, "unauthorizedTTL", path, 30.0, "must be > 0s")
        version = self._choice(found, path, "subjectAccessReviewVersion", ("v1", "v1beta1"))
        self._conditions_version(found, path)
        policy = self._choice(found, path, "failurePolicy", ("NoOpinion", "Deny"))
        return WebhookConfiguration(
            timeout=timeout,
            authorized_ttl=authorized_ttl if found.get("cacheAuthorizedRequests", True) else 0.0,
            unauthorized_ttl=unauthorized_ttl if found.get("cacheUnauthorizedRequests", True) else 0.0,
            version=version,
            deny_on_failure=policy == "Deny",
            kubeconfig=self._connection(found.get("connectionInfo") or {}, child(path, "connectionInfo")),
            conditions=self._conditions(found.get("matchConditions") or (), child(path, "matchConditions")),
        )

    def _conditions_version(self, found: Mapping[str, Any], path: str) -> None:
        name = "matchConditionSubjectAccessReviewVersion"
        version = found.get(name)
        if not version and found.get("matchConditions"):
            self.errors.append(field.required(child(path, name), "required if match conditions are specified"))
        elif version and version != "v1":
            self.errors.append(field.not_supported(child(path, name), version, ("v1",)))

    def _conditions(self, conditions: Sequence[Mapping[str, Any]], path: str) -> tuple[str, ...]:
        if len(conditions) > _MOST_CONDITIONS:
            self.errors.append(field.too_many(path, len(conditions), _MOST_CONDITIONS))
            return ()
        seen: dict[str, None] = {}
        for place, condition in enumerate(conditions):
            where = child(index(path, place), "expression")
            expression = condition.get("expression") or ""
            if not expression.strip():
                self.errors.append(field.required(where))
            elif expression in seen:
                self.errors.append(field.duplicate(where, expression))
            else:
                seen[expression] = None
                self._compile(expression, where)
        return tuple(seen)

    def _compile(self, expression: str, path: str) -> None:
        # here, because most servers have no such conditions
        from kubegate.authorization.conditions import compile_condition
        from kubegate.cel import CompileError

        try:
            compile_condition(expression)
        except CompileError as error:
            text = f"compilation failed: {error}" if error.kind == "syntax" else str(error)
            self.errors.append(field.invalid(path, expression, text))

    def _connection(self, found: Mapping[str, Any], path: str) -> Path | None:
        kind, name = found.get("type") or "", found.get("kubeConfigFile")
        where = child(path, "kubeConfigFile")
        if not kind:
            self.errors.append(field.required(child(path, "type")))
        elif kind == "InClusterConfig":
            if name is not None:
                self.errors.append(field.invalid(where, name, "can only be set when type=KubeConfigFile"))
        elif kind != "KubeConfigFile":
            # the whole is shown, as Go has it
            shown = {"Type": kind, "KubeConfigFile": name}
            choices = ("InClusterConfig", "KubeConfigFile")
            self.errors.append(field.not_supported(child(path, "type"), shown, choices))
        elif not name:
            self.errors.append(field.required(where))
        else:
            problem = _wrong_file(name)
            if problem:
                self.errors.append(field.invalid(where, name, problem))
            return Path(name)
        return None

    def _choice(self, found: Mapping[str, Any], path: str, name: str, choices: tuple[str, ...]) -> str:
        value: str = found.get(name) or ""
        if not value:
            self.errors.append(field.required(child(path, name)))
        elif value not in choices:
            self.errors.append(field.not_supported(child(path, name), value, choices))
        return value

    def _duration(
        self, found: Mapping[str, Any], name: str, path: str, default: float, bounds: str, longest: float = math.inf
    ) -> float:
        """Seconds; the default also for none at all. Raises ConfigFileError for what is no duration."""
        try:
            seconds = durations.parse(found.get(name, "0"))
        except ValueError as error:
            raise ConfigFileError(f"time: {error}") from None
        if not 0 <= seconds <= longest:
            self.errors.append(field.invalid(child(path, name), durations.text(seconds), bounds))
        return seconds or default


def _wrong_file(name: str) -> str:
    """What is wrong with a kubeconfig file's path; "" for nothing."""
    if not os.path.isabs(name):
        return "must be an absolute path"
    try:
        mode = os.stat(name).st_mode
    except OSError as error:
        return f"error loading file: stat {name}: {(error.strerror or '').lower()}"
    return "" if stat.S_ISREG(mode) else "must be a regular file"
