"""What a check of a pod's spec depends on beside the spec."""

from __future__ import annotations

from msgspec import Struct


class Options(Struct, frozen=True):
    """`is_pod`: the spec is a Pod's own, not a template's. `pod_name` where one is known.

    The rest is leniency towards what an older object already has, as kube-apiserver shows it on updates.
    """

    is_pod: bool = False
    pod_name: str = ""
    mirror: bool = False
    allow_privileged: bool = True
    allow_invalid_label_values_in_selector: bool = False
    allow_invalid_topology_selector: bool = False
    allow_invalid_deletion_cost: bool = True
