"""A local command in the place of one that would run in a pod: its variables, its volumes, its service account.

Nothing is kept from the command that its user may do on this machine: the folder and the variables are a pod's, the
rest is not. Where the system lets us, the pod's mounts below /var/run are made in a mount namespace of the command's
own; elsewhere variables say where the files are, and KUBECONFIG names them.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kubegate.nodes import folders

_RUN = ("/var/run/", "/run/")
_SECONDS = 10.0
_MOUNT = """
set -e
resolver=$(readlink -f /etc/resolv.conf || true); kept=
case $resolver in /run/*|/var/run/*) kept=$(cat "$resolver" || true);; esac
mount -t tmpfs -o mode=0755,size=1m tmpfs /var/run
if [ -n "$kept" ]; then mkdir -p "${resolver%/*}"; printf '%s\\n' "$kept" > "$resolver"; fi
count=$1; shift
while [ "$count" -gt 0 ]; do
  if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "${2%/*}"; : > "$2"; fi
  mount --bind "$1" "$2"
  # in a user namespace the flags of the mount beneath must stay; where they are others yet, it can be written to
  mount -o remount,bind,ro,nosuid,nodev "$2" 2>/dev/null || mount -o remount,bind,ro "$2" 2>/dev/null || true
  shift 2; count=$((count - 1))
done
exec "$@"
"""
# What a container may not set: where programs and their parts are taken from, and what we set ourselves.
_OWN = frozenset({"PATH", "HOME", "PWD", "ENV", "BASH_ENV", "IFS", "KUBECONFIG", "KUBEGATE_VOLUMES"})


class NotThere(Exception):
    """No such pod or container runs here; the text says which."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to be executed. `note`: what is not as it would be in a pod, "" where nothing is worth saying."""

    argv: list[str]
    env: dict[str, str]
    folder: Path
    note: str


def find(pods: Path, namespace: str, name: str) -> Path:
    """The folder of a pod among those of a data directory. Raises NotThere."""
    try:
        places = sorted(pods.glob("*/pod.json"))
        for place in places:
            told = orjson.loads(place.read_bytes())
            if (told["namespace"], told["name"]) == (namespace, name):
                return place.parent
    except PermissionError as error:
        raise NotThere(
            f"{error.filename}: {error.strerror}; the folders of pods are the server's user's alone"
        ) from None
    raise NotThere(f"no pod {namespace}/{name} runs on a simulated node: nothing of it is in {pods}")


def prepare(folder: Path, container: str, command: Sequence[str]) -> Prepared:
    """`container` "": the first one. It blocks. Raises NotThere."""
    try:
        pod: dict[str, Any] = orjson.loads((folder / "pod.json").read_bytes())
    except OSError:
        raise NotThere(f'container not found ("{container}")') from None
    name = container or next(iter(pod["containers"]))
    if name not in pod["containers"]:
        raise NotThere(f'container not found ("{name}"); there are {", ".join(pod["containers"])}')
    described = pod["containers"][name]
    env = _variables(pod, described["env"], folder)
    mounts, elsewhere = _mounts(folder, described["mounts"])
    isolation, why = _isolation()
    notes = []
    if isolation is None:
        env["KUBECONFIG"] = str(folder / "kubeconfig")
        notes.append(f"no mount namespace ({why}): the pod's files are in $KUBEGATE_VOLUMES, and KUBECONFIG names them")
        return Prepared(list(command), env, folder, "; ".join(notes))
    if elsewhere:
        notes.append(f"not mounted, but in $KUBEGATE_VOLUMES: {', '.join(elsewhere)}")
    pairs = [part for pair in mounts for part in pair]
    argv = [*isolation, "/bin/sh", "-c", _MOUNT, "sh", str(len(mounts)), *pairs, *command]
    return Prepared(argv, env, folder, "; ".join(notes))


def _variables(pod: Mapping[str, Any], given: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Nothing of this process's own variables goes along but for where programs are, and the terminal."""
    server, port = pod["server"]["host"], str(pod["server"]["port"])
    found = {name: value for name, value in given.items() if name not in _OWN and not name.startswith("LD_")}
    address = f"[{server}]" if ":" in server else server
    found |= {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder / "home"),
        "HOSTNAME": pod["hostname"],
        "KUBEGATE_VOLUMES": str(folder / "volumes"),
        "KUBERNETES_SERVICE_HOST": server,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
        "KUBERNETES_PORT": f"tcp://{address}:{port}",
    }
    for name in ("TERM", "LANG", "LC_ALL"):
        if name in os.environ:
            found.setdefault(name, os.environ[name])
    return found


def _mounts(folder: Path, mounts: Sequence[Mapping[str, str]]) -> tuple[list[tuple[str, str]], list[str]]:
    """(from, to) of what can be mounted, and the paths of what cannot: the machine has no such place to spare."""
    found, elsewhere = [], []
    for mount in mounts:
        source, target = folder / "volumes" / mount["volume"], mount["path"]
        try:
            folders.check_path(mount["volume"])
            if mount["subPath"]:
                folders.check_path(mount["subPath"])
                source = source / mount["subPath"]
            folders.check_path(target.strip("/"))
        except folders.UnsafePath:
            elsewhere.append(target)
            continue
        inside = Path(os.path.realpath(source)).is_relative_to(os.path.realpath(folder / "volumes" / mount["volume"]))
        if target.startswith(_RUN) and inside and source.exists():
            found.append((str(source), target.rstrip("/")))
        else:
            elsewhere.append(f"{target} ({mount['volume']})")
    return sorted(found, key=lambda pair: pair[1]), elsewhere


@functools.cache
def _isolation() -> tuple[list[str] | None, str]:
    """The words that give a command a mount namespace of its own; None, and why, where there is no way."""
    program = shutil.which("unshare")
    if program is None:
        return None, "unshare is not installed"
    words = [program, "--mount"] if os.geteuid() == 0 else [program, "--user", "--map-root-user", "--mount"]
    test = [*words, "/bin/sh", "-c", _MOUNT, "sh", "0", "true"]
    try:
        done = subprocess.run(test, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["refused"])[-1]
    return words, ""
