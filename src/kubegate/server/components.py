"""ComponentStatuses: how the parts of a control plane are, asked when somebody wants to know. Nothing of it is stored.

Follows pkg/registry/core/componentstatus. There is no scheduler, which is told as it is where none listens; controllers
run in this process or are somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable

from kubegate.api import Object, status

_API_VERSION, _KIND = "v1", "ComponentStatus"
_PORTS = {"controller-manager": 10257, "scheduler": 10259}


class Components:
    """`store` tells what is wrong with the store (None: nothing); `controllers` whether they run here."""

    def __init__(self, store: Callable[[], str | None], *, controllers: bool) -> None:
        self._store, self._controllers = store, controllers

    def all(self) -> list[Object]:
        return [self.named(name) for name in ("controller-manager", "etcd-0", "scheduler")]

    def named(self, name: str) -> Object:
        """Raises the 500 that kube-apiserver has for others."""
        if name == "etcd-0":
            return _told(name, self._store())
        if name not in _PORTS:
            raise status.StatusError(500, "", f"Component not found: {name}")
        if name == "controller-manager" and self._controllers:
            return _told(name, None)
        address = f"127.0.0.1:{_PORTS[name]}"
        return _told(name, f'Get "https://{address}/healthz": dial tcp {address}: connect: connection refused')


def _told(name: str, wrong: str | None) -> Object:
    condition = {"type": "Healthy", "status": "True" if wrong is None else "False", "message": wrong or "ok"}
    return {"kind": _KIND, "apiVersion": _API_VERSION, "metadata": {"name": name}, "conditions": [condition]}
