"""ImagePolicyWebhook: another server says which images may run.

Follows k8s.io/kubernetes/plugin/pkg/admission/imagepolicy.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import orjson

from kubegate.admission import Attributes, Operation
from kubegate.admission.config import ConfigurationError, only
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pods import annotations_of
from kubegate.admission.refusal import forbidden
from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.remote import result
from kubegate.remote.client import Client, Endpoint, RemoteError
from kubegate.remote.retry import Backoff, with_backoff

GROUP_VERSION = "imagepolicy.k8s.io/v1alpha1"
AUDIT_PREFIX = "imagepolicywebhook.image-policy.k8s.io/"

_ANNOTATION_DOMAIN = ".image-policy.k8s.io/"
_FAILED_OPEN = "alpha.image-policy.k8s.io/failed-open"
_MOST_ANSWERS = 1024
_LARGEST_REMEMBERED = 32 * 1024
"""Bytes of what was asked; pods choose how much that is, and must not fill the memory."""
_MOST_IN_FLIGHT = 100
# Seconds for one call; client-go tells the other server as well.
_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Settings:
    """Seconds to remember an allowance and a refusal, milliseconds before the second try, and what an error means."""

    kubeconfig: str
    allow_ttl: float
    deny_ttl: float
    retry_backoff: float
    default_allow: bool


class ImagePolicyWebhook:
    name = "ImagePolicyWebhook"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"pods", "pods/ephemeralcontainers"})
    changes = False

    def __init__(self, settings: Settings, client: Client, clock: Clock) -> None:
        self._settings, self._client, self._clock = settings, client, clock
        url = client.endpoint.url
        self._url = f"{url}{'&' if '?' in url else '?'}timeout={_TIMEOUT}s"
        self._answers: OrderedDict[bytes, tuple[float, Object]] = OrderedDict()

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.object
        if pod is None:
            return
        spec = _review_spec(attributes, pod)
        try:
            status = await self._answer(spec)
        except RemoteError as error:
            self._failed(attributes, pod, error)
            return
        for name, value in (status.get("auditAnnotations") or {}).items():
            attributes.trace.annotate(AUDIT_PREFIX + name, str(value))
        if status.get("allowed"):
            return
        reason = status.get("reason")
        if reason:
            raise forbidden(attributes, f"image policy webhook backend denied one or more images: {reason}")
        raise forbidden(attributes, "one or more images rejected by webhook backend")

    async def close(self) -> None:
        await self._client.close()

    def _failed(self, attributes: Attributes, pod: Object, error: RemoteError) -> None:
        if not self._settings.default_allow:
            raise forbidden(attributes, str(error)) from error
        attributes.trace.annotate(f"{AUDIT_PREFIX}failed-open", "true")
        metadata = pod.setdefault("metadata", {})
        metadata["annotations"] = {**(metadata.get("annotations") or {}), _FAILED_OPEN: "true"}

    async def _answer(self, spec: Object) -> Object:
        """The review's status, asked for or remembered. Raises RemoteError."""
        key = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)
        now = self._clock.monotonic()
        known = self._answers.get(key)
        if known is not None and known[0] > now:
            return known[1]
        review = {
            "kind": "ImageReview",
            "apiVersion": GROUP_VERSION,
            "metadata": {},
            "spec": spec,
            "status": {"allowed": False},
        }

        async def ask() -> Object:
            return result.into(await self._client.post_json(review, url=self._url, within=_TIMEOUT))

        backoff = Backoff(duration=self._settings.retry_backoff / 1000)
        answer = await with_backoff(ask, clock=self._clock, backoff=backoff)
        status: Object = answer.get("status") or {}
        if len(key) <= _LARGEST_REMEMBERED:
            ttl = self._settings.allow_ttl if status.get("allowed") else self._settings.deny_ttl
            self._answers[key] = (self._clock.monotonic() + ttl, status)
            self._answers.move_to_end(key)
            while len(self._answers) > _MOST_ANSWERS:
                self._answers.popitem(last=False)
        return status


def _review_spec(attributes: Attributes, pod: Object) -> Object:
    """What the other server is told: images, the annotations that are meant for it, and the namespace."""
    spec = pod.get("spec") or {}
    sorts = ("ephemeralContainers",) if attributes.subresource else ("containers", "initContainers")
    found = [{"image": container.get("image", "")} for sort in sorts for container in spec.get(sort) or ()]
    annotations = {name: value for name, value in annotations_of(pod).items() if _ANNOTATION_DOMAIN in name}
    review: Object = {"containers": found}
    if annotations:
        review["annotations"] = annotations
    review["namespace"] = attributes.namespace
    return review


_TTL = (1.0, 1800.0, 300.0)
_RETRY = (1.0, 300_000.0, 500.0)


def _settings(configuration: Object) -> Settings:
    where = "ImagePolicyWebhook: imagePolicy"
    only(configuration, ("imagePolicy",), "ImagePolicyWebhook")
    found = configuration.get("imagePolicy") or {}
    only(found, ("kubeConfigFile", "allowTTL", "denyTTL", "retryBackoff", "defaultAllow"), where)
    if not found.get("kubeConfigFile"):
        raise ConfigurationError(f"{where}.kubeConfigFile: must be given")

    def within(field: str, bounds: tuple[float, float, float]) -> float:
        """-1 switches off, 0 is the default."""
        value = float(found.get(field) or 0)
        least, most, default = bounds
        if value == 0:
            return default
        if value == -1:
            return 0.0
        if not least <= value <= most:
            raise ConfigurationError(f"{where}.{field}: valid value is between {least:g} and {most:g}, got {value:g}")
        return value

    return Settings(
        kubeconfig=found["kubeConfigFile"],
        allow_ttl=within("allowTTL", _TTL),
        deny_ttl=within("denyTTL", (1.0, 1800.0, 30.0)),
        retry_backoff=within("retryBackoff", _RETRY),
        default_allow=bool(found.get("defaultAllow")),
    )


def build(dependencies: Dependencies) -> ImagePolicyWebhook:
    from kubegate.pki.kubeconfig import BadKubeconfig

    settings = _settings(dependencies.configuration("ImagePolicyWebhook"))
    try:
        client = Client(Endpoint.from_kubeconfig(Path(settings.kubeconfig), in_flight=_MOST_IN_FLIGHT))
    except (BadKubeconfig, ValueError) as error:
        raise ConfigurationError(f"ImagePolicyWebhook: {error}") from error
    return ImagePolicyWebhook(settings, client, dependencies.clock)
