"""The webhooks that are configured now, in the order in which they are called."""

from __future__ import annotations

import base64
import binascii

from msgspec import Struct

from kubegate.admission.webhooks import review
from kubegate.admission.webhooks.expressions import WEBHOOK_VARIABLES, Conditions
from kubegate.admission.webhooks.matching import Rules
from kubegate.api import Object
from kubegate.api.selectors import LabelSelector, from_object
from kubegate.storage import ObjectEvent, Reader


class Webhook(Struct, frozen=True):
    """One webhook of one configuration, ready for use. `uid` tells it from all others."""

    uid: str
    configuration: str
    name: str
    rules: Rules
    namespace_selector: LabelSelector
    object_selector: LabelSelector
    conditions: Conditions
    ignores_failure: bool
    side_effects: str
    timeout: int
    review_version: str | None
    """The first that both know."""
    reinvoked: bool
    client_config: Object
    authority: bytes | None


def _webhook(configuration: str, entry: Object, position: int) -> Webhook:
    config = entry.get("clientConfig") or {}
    return Webhook(
        uid=f"{configuration}/{entry['name']}/{position}",
        configuration=configuration,
        name=entry["name"],
        rules=Rules(entry.get("rules") or (), exact=entry.get("matchPolicy") == "Exact"),
        namespace_selector=from_object(entry.get("namespaceSelector") or {}),
        object_selector=from_object(entry.get("objectSelector") or {}),
        conditions=Conditions(entry.get("matchConditions") or (), WEBHOOK_VARIABLES),
        ignores_failure=entry.get("failurePolicy") == "Ignore",
        side_effects=entry.get("sideEffects") or "",
        timeout=entry.get("timeoutSeconds") or 10,
        review_version=next((v for v in entry.get("admissionReviewVersions") or () if v in review.VERSIONS), None),
        reinvoked=entry.get("reinvocationPolicy") == "IfNeeded",
        client_config=config,
        authority=authority(config.get("caBundle")),
    )


def authority(bundle: str | None) -> bytes | None:
    """The PEM of a caBundle; None where there is none, nothing where it is no base64 (then nobody is trusted)."""
    try:
        return base64.b64decode(bundle) if bundle else None
    except binascii.Error:
        return b""


class Configurations:
    """Kept from the reader's events; ready anew when first asked for after a change."""

    def __init__(self, reader: Reader, resource: str) -> None:
        """`resource` is `mutatingwebhookconfigurations` or `validatingwebhookconfigurations`."""
        self._objects: dict[str, Object] = {}
        self._ready: tuple[Webhook, ...] | None = ()
        self.end = reader.subscribe(f"{resource}.admissionregistration.k8s.io", self._on_event)

    def _on_event(self, event: ObjectEvent, obj: Object, _previous: Object | None) -> None:
        name = obj["metadata"]["name"]
        if event is ObjectEvent.DELETED:
            self._objects.pop(name, None)
        else:
            self._objects[name] = obj
        self._ready = None

    def webhooks(self) -> tuple[Webhook, ...]:
        """By the configurations' names; within one, as listed."""
        if self._ready is None:
            found: list[Webhook] = []
            for name in sorted(self._objects):
                seen: dict[str, int] = {}
                for entry in self._objects[name].get("webhooks") or ():
                    position = seen.get(entry["name"], 0)
                    seen[entry["name"]] = position + 1
                    found.append(_webhook(name, entry, position))
            self._ready = tuple(found)
        return self._ready
