"""Fields of a pod's spec that belong to features which v1.36 has switched off."""

from __future__ import annotations

from typing import Any, Final

from kubegate.api import Object
from kubegate.registry.checks import mapped

# GenericWorkload is alpha.
_OFF: Final = ("schedulingGroup",)


def drop_disabled(spec: Object, before: Any) -> None:
    """Take them out of a new spec, but for what the stored one (None on create) has already."""
    for name in _OFF:
        if name in spec and name not in mapped({"spec": before}, "spec"):
            del spec[name]
