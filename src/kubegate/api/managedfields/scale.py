"""managedFields of an object as those of its Scale, and back.

A Scale is not stored: who owns its replicas is kept with the object that is scaled. Follows
k8s.io/apimachinery/pkg/util/managedfields/scalehandler, whose ways with times are kept: an owner that is new has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from kubegate.api.managedfields import entries, sets
from kubegate.api.managedfields.entries import UPDATE, Managed, Manager, Owned
from kubegate.api.managedfields.sets import Path

SCALE_VERSION = "autoscaling/v1"
REPLICAS: Path = ("f:spec", "f:replicas")


def path_of(replicas: str) -> Path:
    """`.spec.replicas` as a path in a set."""
    return tuple(f"f:{part}" for part in replicas.strip(".").split("."))


def to_scale(of_object: Any, paths: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The entries of a Scale, from those of the object. `paths` has the place of replicas in each apiVersion."""
    found: Managed = {}
    for who, owned in entries.decode(of_object, trusted=True).items():
        path = paths.get(owned.api_version)
        if path is not None and sets.has(owned.fields, path):
            found[_in_scale(who)] = Owned(sets.of_path(REPLICAS), SCALE_VERSION, owned.time)
    return entries.encode(found)


def to_object(of_object: Any, of_scale: Any, api_version: str, paths: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The entries of the object after a write of its Scale left `of_scale`: replicas belong to those named there."""
    scale = entries.decode(of_scale, trusted=True)
    found: list[tuple[Manager, Owned]] = []
    for who, owned in entries.decode(of_object, trusted=True).items():
        path = paths.get(owned.api_version)
        if path is None or not sets.has(owned.fields, path):
            found.append((who, owned))
        elif who in scale:
            del scale[who]
            found.append((who, owned))
        elif rest := sets.difference(owned.fields, sets.of_path(path)):
            found.append((who, replace(owned, fields=rest)))
    for who, owned in scale.items():
        if sets.has(owned.fields, REPLICAS):
            found.append((who, Owned(sets.of_path(paths[api_version]), api_version, None)))
    return entries.encode_all(found)


def _in_scale(who: Manager) -> Manager:
    return replace(who, api_version=SCALE_VERSION) if who.operation == UPDATE else who
