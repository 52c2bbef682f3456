"""What cells are made of: ages, labels, lists that are cut short."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kubegate.api.clock import parse_rfc3339
from kubegate.api.selectors import SelectorError, from_object

NONE: Final = "<none>"
UNSET: Final = "<unset>"
UNKNOWN: Final = "<unknown>"


def human_duration(seconds: float) -> str:
    """`45s`, `3m20s`, `5h`, `2d3h`: two units at most, fewer as it grows (k8s.io/apimachinery/pkg/util/duration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def since(time: Any, now: float) -> str:
    """How long ago an RFC 3339 time was; `<unknown>` where there is none."""
    if not time:
        return UNKNOWN
    try:
        return human_duration(now - parse_rfc3339(time))
    except ValueError:
        return UNKNOWN


def age(obj: Mapping[str, Any], now: float) -> str:
    return since(meta(obj).get("creationTimestamp"), now)


def meta(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return obj.get("metadata") or {}


def spec(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return obj.get("spec") or {}


def status(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return obj.get("status") or {}


def labels_text(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def selector_text(selector: Mapping[str, Any] | None, *, nothing: str = NONE, broken: str = "<error>") -> str:
    """A LabelSelector as text."""
    try:
        return str(from_object(selector)) or nothing
    except SelectorError:
        return broken


def with_more(found: Sequence[str], most: int, *, separator: str = ",", empty: str = "") -> str:
    """The first `most` of them, and how many more there are."""
    text = separator.join(found[:most])
    if len(found) > most:
        return f"{text} + {len(found) - most} more..."
    return text or empty


def containers(pod_spec: Mapping[str, Any]) -> tuple[str, str]:
    """The names and the images of a pod's containers."""
    found = pod_spec.get("containers") or ()
    return ",".join(c.get("name", "") for c in found), ",".join(c.get("image", "") for c in found)


def template_containers(obj: Mapping[str, Any]) -> tuple[str, str]:
    """Those of the pod template of a workload."""
    return containers((spec(obj).get("template") or {}).get("spec") or {})


def condition(conditions: Iterable[Mapping[str, Any]] | None, kind: str) -> Mapping[str, Any] | None:
    return next((found for found in conditions or () if found.get("type") == kind), None)


def is_true(conditions: Iterable[Mapping[str, Any]] | None, kind: str) -> bool:
    found = condition(conditions, kind)
    return found is not None and found.get("status") == "True"


_ACCESS_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def access_modes(modes: Iterable[str] | None) -> str:
    given = set(modes or ())
    return ",".join(short for mode, short in _ACCESS_MODES.items() if mode in given)


def load_balancer(found: Mapping[str, Any] | None) -> str:
    """The addresses of a Service's or Ingress's load balancer."""
    ingress = (found or {}).get("ingress") or ()
    return ",".join(sorted({one.get("ip") or one.get("hostname") or "" for one in ingress} - {""}))
