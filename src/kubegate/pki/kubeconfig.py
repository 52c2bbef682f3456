"""Kubeconfig files: made, written and read. Who uses one is told what is wrong in it, in which file and where.

A kubeconfig is a plain dict as `kubectl config view --raw -o json` shows it. `resolve` turns one context of it into a
`Connection`, with the files that it names read in.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kubegate.pki import files

Config = dict[str, Any]


class BadKubeconfig(ValueError):
    """What is wrong in a kubeconfig; the text begins with the file and names the place."""

    def __init__(self, source: str, place: str, problem: str) -> None:
        super().__init__(f"{source}: {place}: {problem}" if place else f"{source}: {problem}")
        self.source, self.place, self.problem = source, place, problem


@dataclass(frozen=True, slots=True)
class User:
    """Credentials for a kubeconfig's `users` entry; give those of one kind.

    `exec` is an ExecConfig: {"apiVersion", "command", "args", "env", …}.
    """

    certificate: bytes | Path | None = None
    key: bytes | Path | None = None
    token: str = ""
    token_file: Path | None = None
    exec: Mapping[str, Any] | None = None
    username: str = ""
    password: str = field(default="", repr=False)

    def entry(self) -> dict[str, Any]:
        entry: dict[str, Any] = {}
        if self.certificate is not None:
            _embed_or_refer(entry, "client-certificate", self.certificate)
        if self.key is not None:
            _embed_or_refer(entry, "client-key", self.key)
        if self.token:
            entry["token"] = self.token
        if self.token_file is not None:
            entry["tokenFile"] = str(self.token_file)
        if self.exec is not None:
            entry["exec"] = dict(self.exec)
        if self.username:
            entry.update(username=self.username, password=self.password)
        return entry


def new(
    server: str,
    *,
    authority: bytes | Path | None,
    user: User,
    cluster_name: str = "kubegate",
    user_name: str = "kubernetes-admin",
    namespace: str = "",
    tls_server_name: str = "",
) -> Config:
    """A kubeconfig with one cluster, one user and one context. Bytes are embedded, paths are referred to."""
    cluster: dict[str, Any] = {"server": server}
    if authority is not None:
        _embed_or_refer(cluster, "certificate-authority", authority)
    if tls_server_name:
        cluster["tls-server-name"] = tls_server_name
    context = {"cluster": cluster_name, "user": user_name}
    if namespace:
        context["namespace"] = namespace
    context_name = f"{user_name}@{cluster_name}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster_name, "cluster": cluster}],
        "users": [{"name": user_name, "user": user.entry()}],
        "contexts": [{"name": context_name, "context": context}],
        "current-context": context_name,
    }


def merge(first: Config, *others: Config) -> Config:
    """Several kubeconfigs as one, as kubectl merges them: the first to name an entry, or the current context, wins."""
    merged: Config = {"apiVersion": "v1", "kind": "Config"}
    for section in ("clusters", "users", "contexts"):
        by_name: dict[str, Any] = {}
        for config in (first, *others):
            for entry in config.get(section) or []:
                by_name.setdefault(entry["name"], entry)
        merged[section] = list(by_name.values())
    merged["current-context"] = next((c["current-context"] for c in (first, *others) if c.get("current-context")), "")
    return merged


def dump(config: Config) -> bytes:
    """A kubeconfig as YAML."""
    try:
        return "".join(_lines(config, "")).encode()
    except _NotPlainError:
        import yaml

        return yaml.dump(config, Dumper=yaml.CSafeDumper, sort_keys=False, default_flow_style=False, encoding="utf-8")


class _NotPlainError(Exception):
    """There is something in it that YAML wants quoted, or folded, or a tag for."""


_PLAIN = re.compile(r"[A-Za-z][-A-Za-z0-9._/@+=:]*[-A-Za-z0-9._/@+=]")
_MEANT_OTHERWISE = frozenset({"yes", "no", "on", "off", "true", "false", "null"})


def _lines(value: Any, indent: str) -> Iterator[str]:
    """What a YAML library would write; loading one takes longer than all else that a server's start does to files."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            if isinstance(inner, str):
                yield f"{indent}{_plain(key)}: {_plain(inner)}\n"
            else:
                yield f"{indent}{_plain(key)}:\n"
                yield from _lines(inner, indent if isinstance(inner, list) else f"{indent}  ")
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        for item in value:
            first, *others = _lines(item, f"{indent}  ")
            yield f"{indent}- {first.lstrip()}"
            yield from others
    else:
        raise _NotPlainError


def _plain(text: str) -> str:
    if not _PLAIN.fullmatch(text) or text.lower() in _MEANT_OTHERWISE:
        raise _NotPlainError
    return text


def write(config: Config, path: Path, *, force: bool = False) -> None:
    """Write a kubeconfig, readable by its owner alone. Raises FileExistsError where `path` exists, unless `force`."""
    files.write_secret(path, dump(config), force=force)


def parse(text: bytes | str, source: str = "kubeconfig") -> Config:
    """Read a kubeconfig and check its shape. Raises BadKubeconfig."""
    import yaml

    try:
        config = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadKubeconfig(source, place, f"not YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from None
    if config is None:
        raise BadKubeconfig(source, "", "the file is empty")
    if not isinstance(config, dict):
        raise BadKubeconfig(source, "", "a kubeconfig is a mapping with clusters, users and contexts")
    kind = config.get("kind", "Config")
    if kind != "Config" or config.get("apiVersion", "v1") != "v1":
        raise BadKubeconfig(source, "kind", f'must be Config of apiVersion v1, not "{kind}"')
    for section, inner in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
        entries = config.get(section) or []
        if not isinstance(entries, list):
            raise BadKubeconfig(source, section, "must be a list")
        for position, entry in enumerate(entries):
            place = f"{section}[{position}]"
            if not isinstance(entry, dict):
                raise BadKubeconfig(source, place, f"must be a mapping with name and {inner}")
            if not isinstance(entry.get("name"), str):
                raise BadKubeconfig(source, f"{place}.name", "must be a text")
            if not isinstance(entry.get(inner) or {}, dict):
                raise BadKubeconfig(source, f"{place}.{inner}", "must be a mapping")
    return config


def load(path: Path) -> Config:
    """Read a kubeconfig file and check its shape. Raises BadKubeconfig, also where the file cannot be read."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadKubeconfig(str(path), "", f"cannot be read: {error.strerror}") from None
    return parse(text, str(path))


@dataclass(frozen=True, slots=True)
class Connection:
    """One context of a kubeconfig with its files read: where to go, whom to trust, what to show.

    `authority` is PEM (None: the system's authorities); `token_file` is named, not read, for it may change.
    `verify` is false only where insecure-skip-tls-verify says so.
    """

    server: str
    authority: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    tls_server_name: str = ""
    verify: bool = True
    proxy_url: str = ""
    exec: Mapping[str, Any] | None = None
    namespace: str = ""


def resolve(config: Config, source: str = "kubeconfig", context: str = "", directory: Path | None = None) -> Connection:
    """The context named (or the current one), or the only cluster and user where there is no context at all.

    File names in it are relative to `directory` (the kubeconfig's own). Raises BadKubeconfig.
    """
    base = directory or Path()
    chosen, place = _context(config, source, context)
    cluster, cluster_place = _named(config, source, "clusters", "cluster", chosen.get("cluster", ""), place)
    user: dict[str, Any] = {}
    user_place = ""
    if chosen.get("user"):
        user, user_place = _named(config, source, "users", "user", chosen["user"], place)
    server = cluster.get("server")
    if not isinstance(server, str) or "://" not in server:
        raise BadKubeconfig(source, f"{cluster_place}.server", "must be a URL, as https://HOST:PORT/PATH")
    insecure = bool(cluster.get("insecure-skip-tls-verify"))
    authority = _data(cluster, "certificate-authority", source, cluster_place, base)
    if insecure and authority is not None:
        problem = "specifying a root certificates file with the insecure flag is not allowed"
        raise BadKubeconfig(source, f"{cluster_place}.insecure-skip-tls-verify", problem)
    certificate = _data(user, "client-certificate", source, user_place, base)
    key = _data(user, "client-key", source, user_place, base)
    if (certificate is None) != (key is None):
        missing = "client-key" if key is None else "client-certificate"
        raise BadKubeconfig(source, f"{user_place}.{missing}", "is missing: a certificate goes with its key")
    token_file = user.get("tokenFile")
    return Connection(
        server=server,
        authority=authority,
        certificate=certificate,
        key=key,
        token=str(user.get("token") or ""),
        token_file=base / token_file if token_file else None,
        username=str(user.get("username") or ""),
        password=str(user.get("password") or ""),
        tls_server_name=str(cluster.get("tls-server-name") or ""),
        verify=not insecure,
        proxy_url=str(cluster.get("proxy-url") or ""),
        exec=user.get("exec"),
        namespace=str(chosen.get("namespace") or ""),
    )


def load_connection(path: Path, context: str = "") -> Connection:
    """Read a kubeconfig file and resolve one context of it. Raises BadKubeconfig."""
    return resolve(load(path), str(path), context, path.parent)


def default_paths(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Where kubectl looks: the files of KUBECONFIG, else ~/.kube/config."""
    named = (environment or os.environ).get("KUBECONFIG", "")
    found = [Path(part) for part in named.split(os.pathsep) if part]
    return found or [Path.home() / ".kube" / "config"]


def _context(config: Config, source: str, wanted: str) -> tuple[dict[str, Any], str]:
    name = wanted or config.get("current-context") or ""
    if name:
        return _named(config, source, "contexts", "context", name, "" if wanted else "current-context")
    contexts, clusters = config.get("contexts") or [], config.get("clusters") or []
    if contexts or len(clusters) != 1:
        raise BadKubeconfig(source, "current-context", "is not set")
    users = config.get("users") or []
    return {"cluster": clusters[0]["name"], "user": users[0]["name"] if len(users) == 1 else ""}, ""


def _named(config: Config, source: str, section: str, inner: str, name: str, place: str) -> tuple[dict[str, Any], str]:
    for position, entry in enumerate(config.get(section) or []):
        if entry["name"] == name:
            return dict(entry.get(inner) or {}), f"{section}[{position}].{inner}"
    where = f"{place}.{inner}" if place and inner != "context" else place
    raise BadKubeconfig(source, where, f'there is no "{name}" among the {section}')


def _data(entry: Mapping[str, Any], name: str, source: str, place: str, base: Path) -> bytes | None:
    """`NAME-data` in base64 wins over the file NAME, as in client-go."""
    embedded = entry.get(f"{name}-data")
    if embedded:
        try:
            return base64.b64decode(embedded, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise BadKubeconfig(source, f"{place}.{name}-data", "is not base64") from None
    named = entry.get(name)
    if not named:
        return None
    path = base / str(named)
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadKubeconfig(source, f"{place}.{name}", f"{path} cannot be read: {error.strerror}") from None


def _embed_or_refer(
    entry: dict[str, Any],
    name: Literal["certificate-authority", "client-certificate", "client-key"],
    value: bytes | Path,
) -> None:
    if isinstance(value, Path):
        entry[name] = str(value)
    else:
        entry[f"{name}-data"] = base64.b64encode(value).decode()
