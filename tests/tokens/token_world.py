"""What the fixtures here hand out, and where the programs are."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from kubegate.pki import kubeconfig
from kubegate.server.process import Server

ROOT = Path(__file__).resolve().parents[2]
KUBECTL = ROOT / ".tools" / "kubectl-1.36"
KUBEGATE = str(Path(sys.executable).parent / "kubegate")


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Done]]


@dataclass(frozen=True, slots=True)
class Issuer:
    url: str
    authority: Path


@dataclass(frozen=True, slots=True)
class Api:
    """A server, its admin's kubeconfig, and a kubeconfig whose user is a credential plugin."""

    server: Server
    folder: Path

    @property
    def admin(self) -> Path:
        return self.folder / "admin.kubeconfig"

    def plugin(self, *arguments: str, version: str = "client.authentication.k8s.io/v1") -> str:
        """The file's name. `kubegate token ARGUMENTS` is what kubectl runs."""
        assert self.server.pki is not None
        exec_ = {"apiVersion": version, "command": KUBEGATE, "args": ["token", *arguments], "interactiveMode": "Never"}
        authority = self.server.pki.ca_certificate.read_bytes()
        made = kubeconfig.new(self.server.url, authority=authority, user=kubeconfig.User(exec=exec_))
        path = self.folder / "plugin.kubeconfig"
        kubeconfig.write(made, path, force=True)
        return str(path)


StartApi = Callable[..., Awaitable[Api]]
