"""Cells of storage and devices: classes, drivers, attachments, resource claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubegate.api.printers import Printer
from kubegate.api.printers.cells import NONE, UNSET, age, meta, spec, status

_Object = Mapping[str, Any]


def storage_class(obj: _Object, now: float) -> list[Any]:
    return [
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def csi_driver(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    attach, requests = found.get("attachRequired"), found.get("tokenRequests")
    return [
        True if attach is None else attach,
        bool(found.get("podInfoOnMount")),
        bool(found.get("storageCapacity")),
        UNSET if requests is None else ",".join(r.get("audience") or "" for r in requests),
        bool(found.get("requiresRepublish")),
        ",".join(found.get("volumeLifecycleModes") or ()) or NONE,
        age(obj, now),
    ]


def csi_node(obj: _Object, now: float) -> list[Any]:
    return [len(spec(obj).get("drivers") or ()), age(obj, now)]


def volume_attachment(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    return [
        found.get("attacher") or "",
        (found.get("source") or {}).get("persistentVolumeName") or "",
        found.get("nodeName") or "",
        bool(status(obj).get("attached")),
        age(obj, now),
    ]


def volume_attributes_class(obj: _Object, now: float) -> list[Any]:
    return [obj.get("driverName") or "", age(obj, now)]


def only_age(obj: _Object, now: float) -> list[Any]:
    return [age(obj, now)]


def resource_claim(obj: _Object, now: float) -> list[Any]:
    deleted = bool(meta(obj).get("deletionTimestamp"))
    states = ["deleted"] if deleted else []
    if status(obj).get("allocation") is None:
        if not deleted:
            states.append("pending")
    else:
        states.append("allocated")
        if status(obj).get("reservedFor"):
            states.append("reserved")
    return [",".join(states), age(obj, now)]


def resource_slice(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    pool = (found.get("pool") or {}).get("name") or ""
    return [found.get("nodeName") or "", found.get("driver") or "", pool, age(obj, now)]


PRINTERS: Final[dict[tuple[str, str], Printer]] = {
    ("resource.k8s.io", "deviceclasses"): only_age,
    ("resource.k8s.io", "resourceclaims"): resource_claim,
    ("resource.k8s.io", "resourceclaimtemplates"): only_age,
    ("resource.k8s.io", "resourceslices"): resource_slice,
    ("storage.k8s.io", "csidrivers"): csi_driver,
    ("storage.k8s.io", "csinodes"): csi_node,
    ("storage.k8s.io", "storageclasses"): storage_class,
    ("storage.k8s.io", "volumeattachments"): volume_attachment,
    ("storage.k8s.io", "volumeattributesclasses"): volume_attributes_class,
}
