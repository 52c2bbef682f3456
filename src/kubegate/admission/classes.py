"""Classes of which one is marked as the default: storage classes and ingress classes."""

from __future__ import annotations

from collections.abc import Sequence

from kubegate.admission.pods import annotations_of
from kubegate.api import Object
from kubegate.storage import Reader


def default_class(reader: Reader, resource: str, annotations: Sequence[str]) -> Object | None:
    """The class marked by one of the annotations; of several the newest, and of equally old ones the first by name."""
    found = [
        object
        for object in reader.list(resource)
        if any(annotations_of(object).get(annotation) == "true" for annotation in annotations)
    ]
    found.sort(key=lambda object: str(object["metadata"]["name"]))
    return max(found, key=lambda object: str(object["metadata"].get("creationTimestamp", "")), default=None)


BETA_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def class_of_claim(claim: Object) -> str | None:
    """The storage class that a claim names, None where it names none (an empty name is one)."""
    old = annotations_of(claim).get(BETA_CLASS_ANNOTATION)
    if old is not None:
        return old
    name: str | None = (claim.get("spec") or {}).get("storageClassName")
    return name
