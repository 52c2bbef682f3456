"""A folder for each pod: its volumes, and what a command that runs in it needs to know.

UID/pod.json             namespace, name, containers with their variables and mounts, where the server is
UID/volumes/NAME/...     what the volume holds
UID/kubeconfig           for where no mount can be made: the token of the service account and the CA, by file
UID/home/                commands begin there
UID/logs/CONTAINER       what they printed; all that is left of a pod that has ended
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from kubegate.api import Object
from kubegate.nodes import Client, World, folders
from kubegate.nodes.environment import variables
from kubegate.nodes.volumes import Tokens, contents

ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


class PodFolders:
    """`known` are the uids of pods whose folders have more than logs."""

    def __init__(self, world: World, clients: Callable[[str], Client]) -> None:
        self._world = world
        self._tokens = Tokens(clients, world.clock)
        self.known: set[str] = set()

    def path(self, uid: str) -> Path:
        return self._world.folder / uid

    def refresh_at(self, uid: str) -> float | None:
        """When the pod's tokens are to be written anew, in seconds since 1970."""
        return self._tokens.refresh_at(uid)

    async def fill(self, pod: Object, allocatable: Object) -> None:
        """Write the volumes as they should be. Raises Unavailable for what is missing, StatusError, OSError."""
        found = await contents(pod, self._finder(pod), lambda one: self._tokens.get(pod, one), allocatable)
        uid = pod["metadata"]["uid"]
        self.known.add(uid)
        await asyncio.to_thread(_fill, self.path(uid), found)

    async def describe(self, pod: Object, allocatable: Object) -> None:
        """Write pod.json and the kubeconfig. Raises Unavailable, OSError."""
        metadata, spec = pod["metadata"], pod["spec"]
        find = self._finder(pod)
        containers = {
            one["name"]: {
                "env": variables(pod, one, find, allocatable),
                "mounts": [
                    {"path": mount["mountPath"], "volume": mount["name"], "subPath": mount.get("subPath", "")}
                    for mount in one.get("volumeMounts") or ()
                ],
            }
            for one in [*spec["containers"], *(spec.get("initContainers") or ())]
        }
        for one in spec.get("ephemeralContainers") or ():
            containers[one["name"]] = {"env": variables(pod, one, find, allocatable), "mounts": []}
        host, port = self._world.server()
        told = {
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "hostname": spec.get("hostname") or metadata["name"],
            "containers": containers,
            "server": {"host": host, "port": port},
        }
        folder = self.path(metadata["uid"])
        config = kubeconfig(folder, pod, f"https://{host}:{port}")
        files = {"pod.json": orjson.dumps(told), "kubeconfig": orjson.dumps(config)}
        await asyncio.to_thread(_describe, folder, files)

    async def empty(self, uid: str) -> None:
        """The pod has ended: nothing but its logs is left."""
        self._tokens.forget(uid)
        self.known.discard(uid)
        await asyncio.to_thread(_empty, self.path(uid))

    async def remove(self, uid: str) -> None:
        self._tokens.forget(uid)
        self.known.discard(uid)
        await asyncio.to_thread(folders.remove, self.path(uid))

    def look(self, living: set[str], there: set[str]) -> None:
        """What an earlier process has left: folders of pods that live are kept, of others that are there the logs."""
        folders.make(self._world.folder)
        for entry in self._world.folder.iterdir():
            if entry.name in living:
                self.known.add(entry.name)
            elif entry.name in there:
                _empty(entry)
            else:
                folders.remove(entry)

    def _finder(self, pod: Object) -> Callable[[str, str], Object | None]:
        namespace = pod["metadata"]["namespace"]
        return lambda resource, name: self._world.reader.get(resource, namespace, name)


def _fill(folder: Path, volumes: Mapping[str, dict[str, bytes] | None]) -> None:
    folders.make(folder)
    folders.make(folder / "volumes")
    for name, files in volumes.items():
        folders.check_path(name)
        if files is None:
            folders.make(folder / "volumes" / name)
        else:
            folders.write(folder / "volumes" / name, files)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name != "logs":
            folders.remove(entry)


def _describe(folder: Path, files: Mapping[str, bytes]) -> None:
    folders.make(folder / "home")
    for name, content in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            folders.write_file(folder, name, content)


def kubeconfig(folder: Path, pod: Object, server: str) -> dict[str, Any]:
    """A kubeconfig that reads the token and the CA where the pod's service account volume has them."""
    mounts = [
        mount
        for container in pod["spec"]["containers"]
        for mount in container.get("volumeMounts") or ()
        if mount["mountPath"] == ACCOUNT_FOLDER
    ]
    account = folder / "volumes" / (mounts[0]["name"] if mounts else "none")
    cluster = {"server": server, "certificate-authority": str(account / "ca.crt")}
    context = {"cluster": "kubegate", "user": "pod", "namespace": pod["metadata"]["namespace"]}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubegate", "cluster": cluster}],
        "users": [{"name": "pod", "user": {"tokenFile": str(account / "token")} if mounts else {}}],
        "contexts": [{"name": "pod", "context": context}],
        "current-context": "pod",
    }
