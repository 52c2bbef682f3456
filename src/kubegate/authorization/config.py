"""AuthorizationConfiguration: several authorizers in order, from a file (--authorization-config).

Follows k8s.io/apiserver/pkg/apis/apiserver (types, defaults, validation) at v1. What is wrong with a file is told with
the place in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from kubegate.api import field
from kubegate.api.field import FieldError, child, index
from kubegate.api.names import is_dns1123_subdomain

VERSIONS = tuple(f"apiserver.config.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
TYPES = ("ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
_LONGEST_TIMEOUT = 30.0
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")


class ConfigError(Exception):
    """A file that cannot be used; `problems` are lines for people, each with its place."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__(f"{path}: " + "; ".join(problems))
        self.path, self.problems = path, problems


class Condition(Struct, frozen=True):
    """One match condition; `place` is where it stands in the file."""

    expression: str
    place: str


class WebhookConfiguration(Struct, frozen=True):
    """`spec.authorizers[].webhook`, checked and with defaults. Times in seconds; `kubeconfig` None: in-cluster."""

    timeout: float
    authorized_ttl: float
    unauthorized_ttl: float
    version: str
    deny_on_failure: bool
    kubeconfig: Path | None
    conditions: tuple[Condition, ...] = ()


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
    found = _decode(content, path)
    if found.get("apiVersion") not in VERSIONS or found.get("kind") != "AuthorizationConfiguration":
        said = f"{found.get('apiVersion')}, {found.get('kind')}"
        raise ConfigError(path, [f"apiVersion, kind: must be {VERSIONS[0]}, AuthorizationConfiguration, not {said}"])
    errors: list[FieldError] = []
    for name in found.keys() - {"apiVersion", "kind", "authorizers"}:
        errors.append(field.forbidden(name, "unknown field"))
    authorizers = found.get("authorizers") or []
    if not isinstance(authorizers, list) or not authorizers:
        errors.append(field.required("authorizers", "at least one authorization mode must be defined"))
        authorizers = []
    read = _Reader(errors)
    configured = [read.authorizer(each, index("authorizers", place)) for place, each in enumerate(authorizers)]
    if errors:
        raise ConfigError(path, [str(error) for error in errors])
    return [each for each in configured if each is not None]


def _decode(content: bytes, path: Path) -> dict[str, Any]:
    import yaml

    from kubegate.api import yamlcodec

    try:
        found = yamlcodec.load(content)  # which takes JSON as well
    except yaml.YAMLError as error:
        raise ConfigError(path, [" ".join(str(error).split())]) from None
    if not isinstance(found, dict):
        raise ConfigError(path, ["must be an object of kind AuthorizationConfiguration"])
    return found


class _Reader:
    """Reads authorizers and collects what is wrong with them."""

    def __init__(self, errors: list[FieldError]) -> None:
        self._errors = errors
        self._types: set[str] = set()
        self._names: set[str] = set()

    def authorizer(self, each: Any, path: str) -> AuthorizerConfiguration | None:
        if not isinstance(each, dict):
            self._errors.append(field.invalid(path, each, "must be an object"))
            return None
        self._known(each, path, {"type", "name", "webhook"})
        kind, name = str(each.get("type") or ""), str(each.get("name") or "")
        where = child(path, "type")
        if not kind:
            self._errors.append(field.required(where))
            return None
        if kind not in TYPES:
            self._errors.append(field.not_supported(where, kind, TYPES))
            return None
        if kind in self._types and kind != "Webhook":
            self._errors.append(field.duplicate(where, kind))
            return None
        self._types.add(kind)
        self._name(name, child(path, "name"))
        webhook = each.get("webhook")
        where = child(path, "webhook")
        if kind != "Webhook":
            if webhook is not None:
                self._errors.append(field.invalid(where, "non-null", "may only be specified when type=Webhook"))
            return AuthorizerConfiguration(kind, name)
        if not isinstance(webhook, dict):
            self._errors.append(field.required(where, "required when type=Webhook"))
            return None
        return AuthorizerConfiguration(kind, name, self._webhook(webhook, where))

    def _name(self, name: str, path: str) -> None:
        problems = is_dns1123_subdomain(name)
        if not name:
            self._errors.append(field.required(path))
        elif name in self._names:
            self._errors.append(field.duplicate(path, name))
        elif problems:
            self._errors.append(field.invalid(path, name, f"authorizer name is invalid: {', '.join(problems)}"))
        self._names.add(name)

    def _webhook(self, found: Mapping[str, Any], path: str) -> WebhookConfiguration:
        self._known(found, path, _WEBHOOK_FIELDS)
        timeout = self._duration(found.get("timeout"), child(path, "timeout"), 0.0)
        if not timeout:
            self._errors.append(field.required(child(path, "timeout")))
        elif not 0 < timeout <= _LONGEST_TIMEOUT:
            text = "must be > 0s and <= 30s"
            self._errors.append(field.invalid(child(path, "timeout"), str(found["timeout"]), text))
        ttls = []
        for name, default, switch in (
            ("authorizedTTL", 300.0, "cacheAuthorizedRequests"),
            ("unauthorizedTTL", 30.0, "cacheUnauthorizedRequests"),
        ):
            ttl = self._duration(found.get(name), child(path, name), 0.0) or default
            if ttl < 0:
                self._errors.append(field.invalid(child(path, name), str(found[name]), "must be > 0s"))
            ttls.append(0.0 if found.get(switch) is False else ttl)
        version = self._choice(found, path, "subjectAccessReviewVersion", ("v1", "v1beta1"))
        policy = self._choice(found, path, "failurePolicy", ("NoOpinion", "Deny"))
        return WebhookConfiguration(
            timeout=timeout,
            authorized_ttl=ttls[0],
            unauthorized_ttl=ttls[1],
            version=version,
            deny_on_failure=policy == "Deny",
            kubeconfig=self._connection(found.get("connectionInfo"), child(path, "connectionInfo")),
            conditions=self._conditions(found, path),
        )

    def _conditions(self, found: Mapping[str, Any], path: str) -> tuple[Condition, ...]:
        conditions = found.get("matchConditions") or ()
        name = "matchConditionSubjectAccessReviewVersion"
        version = found.get(name)
        if conditions and not version:
            text = "required if match conditions are specified"
            self._errors.append(field.required(child(path, name), text))
        elif version not in (None, "", "v1"):
            self._errors.append(field.not_supported(child(path, name), version, ("v1",)))
        read = []
        seen: set[str] = set()
        for place, condition in enumerate(conditions):
            where = child(index(child(path, "matchConditions"), place), "expression")
            expression = condition.get("expression") if isinstance(condition, dict) else None
            if not isinstance(expression, str) or not expression.strip():
                self._errors.append(field.required(where))
            elif expression in seen:
                self._errors.append(field.duplicate(where, expression))
            else:
                seen.add(expression)
                read.append(Condition(expression, where))
        return tuple(read)

    def _connection(self, found: Any, path: str) -> Path | None:
        found = found if isinstance(found, dict) else {}
        kind = self._choice(found, path, "type", ("InClusterConfig", "KubeConfigFile"))
        name = found.get("kubeConfigFile")
        where = child(path, "kubeConfigFile")
        if kind == "InClusterConfig":
            if name is not None:
                self._errors.append(field.invalid(where, name, "can only be set when type=KubeConfigFile"))
            return None
        if kind != "KubeConfigFile":
            return None
        if not name:
            self._errors.append(field.required(where))
            return None
        file = Path(str(name))
        if not file.is_absolute():
            self._errors.append(field.invalid(where, name, "must be an absolute path"))
        elif not file.exists():
            self._errors.append(field.invalid(where, name, "error loading file: no such file or directory"))
        elif not file.is_file():
            self._errors.append(field.invalid(where, name, "must be a regular file"))
        return file

    def _choice(self, found: Mapping[str, Any], path: str, name: str, choices: tuple[str, ...]) -> str:
        value = str(found.get(name) or "")
        if not value:
            self._errors.append(field.required(child(path, name)))
        elif value not in choices:
            self._errors.append(field.not_supported(child(path, name), value, choices))
        return value

    def _duration(self, value: Any, path: str, default: float) -> float:
        if value is None:
            return default
        seconds = duration(value) if isinstance(value, str) else None
        if seconds is None:
            self._errors.append(field.invalid(path, value, 'must be a duration such as "5s" or "1m30s"'))
            return 1.0
        return seconds

    def _known(self, found: Mapping[str, Any], path: str, names: frozenset[str] | set[str]) -> None:
        for name in sorted(found.keys() - names):
            self._errors.append(field.forbidden(child(path, name), "unknown field"))


_WEBHOOK_FIELDS = frozenset(
    {
        "timeout", "authorizedTTL", "unauthorizedTTL", "cacheAuthorizedRequests", "cacheUnauthorizedRequests",
        "subjectAccessReviewVersion", "matchConditionSubjectAccessReviewVersion", "failurePolicy", "connectionInfo",
        "matchConditions",
    }
)  # fmt: skip


def duration(text: str) -> float | None:
    """Go's durations in seconds: `1h30m`, `-1.5s`, `0`; None for what is none."""
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text.lstrip("+-")
    if rest == "0":
        return 0.0
    parts = _DURATION.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        return None
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)
