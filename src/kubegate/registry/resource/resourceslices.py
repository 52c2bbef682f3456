"""ResourceSlices: a kubelet finds its own by the node's name, and is let list them in no other way."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.registry import Rules


def _fields(obj: Object) -> dict[str, str]:
    spec = obj.get("spec") or {}
    return {"spec.nodeName": spec.get("nodeName") or "", "spec.driver": spec.get("driver") or ""}


RULES = Rules(fields=_fields, field_labels=("spec.driver", "spec.nodeName"), generation=True)
