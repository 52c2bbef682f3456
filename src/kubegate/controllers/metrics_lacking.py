"""Why an autoscaler's metric cannot be had, in the words of kube-controller-manager: nobody serves metrics."""

from __future__ import annotations

from msgspec import Struct

from kubegate.api import Object
from kubegate.api.selectors import go_text
from kubegate.api.status import StatusError
from kubegate.storage import Reader

_NOWHERE = "the server could not find the requested resource"
_UNREACHED = "the server is currently unable to handle the request"
_CUSTOM = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"


class Lack(Struct, frozen=True):
    """The reason of the condition and the event; what these say; what is told of the value that was wanted."""

    reason: str
    text: str
    value: str


def unavailable(code: int, what: str = "") -> StatusError:
    """What a client is told where nobody serves what it asks for (404), or who does cannot be reached (503)."""
    reason, text = ("NotFound", _NOWHERE) if code == 404 else ("ServiceUnavailable", _UNREACHED)
    return StatusError(code, reason, f"{text} ({what})" if what else text)


def lack(metric: Object, namespace: str, reader: Reader) -> Lack:
    """`metric` is one of an autoscaler's spec.metrics, as autoscaling/v2 has them."""
    match metric["type"]:
        case "Resource":
            source = metric["resource"]
            text = _resource(source, reader)
            return Lack(
                "FailedGetResourceMetric", text, f"failed to get {source['name']} resource metric value: {text}"
            )
        case "ContainerResource":
            source = metric["containerResource"]
            text = _resource(source, reader)
            value = f"failed to get {source['container']} container metric value: {text}"
            return Lack("FailedGetContainerResourceMetric", text, value)
        case "Pods":
            text = f"unable to get metric {metric['pods']['metric']['name']}: {_CUSTOM}"
            return Lack("FailedGetPodsMetric", text, f"failed to get pods metric value: {text}")
        case "Object":
            return _object(metric["object"], namespace)
        case _:
            return _external(metric["external"], namespace, reader)


def _resource(source: Object, reader: Reader) -> str:
    name = source["name"]
    wanted = "usage" if source["target"].get("averageValue") is not None else "utilization"
    refused = unavailable(_code(reader, "metrics.k8s.io"), "get pods.metrics.k8s.io").message
    api = f"unable to fetch metrics from resource metrics API: {refused}"
    return f"failed to get {name} {wanted}: unable to get metrics for resource {name}: {api}"


def _object(source: Object, namespace: str) -> Lack:
    described, name = source["describedObject"], source["metric"]["name"]
    # kube-controller-manager puts these into its text in another order than the text has been written for.
    text = f"unable to get metric {name}: {described['kind']} on {namespace} {described['name']}/{_CUSTOM}"
    value = text if source["target"]["type"] == "Value" else f"failed to get {name} object metric: {text}"
    return Lack("FailedGetObjectMetric", text, f"failed to get object metric value: {value}")


def _external(source: Object, namespace: str, reader: Reader) -> Lack:
    name, selector = source["metric"]["name"], source["metric"].get("selector")
    refused = unavailable(_code(reader, "external.metrics.k8s.io"), f"get {name}.external.metrics.k8s.io").message
    api = f"unable to fetch metrics from external metrics API: {refused}"
    text = f"unable to get external metric {namespace}/{name}/{'nil' if selector is None else go_text(selector)}: {api}"
    average = source["target"].get("averageValue") is not None
    value = (
        f"failed to get {name} external metric: {text}" if average else f"failed to get external metric {name}: {text}"
    )
    return Lack("FailedGetExternalMetric", text, f"failed to get {name} external metric value: {value}")


def _code(reader: Reader, group: str) -> int:
    """404 where nobody said to serve the group: to those who do nothing is handed on, which is a 503."""
    served = (one["spec"].get("group") for one in reader.list("apiservices.apiregistration.k8s.io"))
    return 503 if group in served else 404
