"""Why, over HTTP: a SubjectAccessReview asked with `?explain` carries the explanation as an annotation.

An addition beside the API: without the parameter the answer is kube-apiserver's. Who may create SubjectAccessReviews
may ask; the explanation is that of `kubegate why -o json`.
"""

from __future__ import annotations

import orjson

from kubegate.api import Object
from kubegate.registry.authorization import reviews
from kubegate.registry.generic import Registry
from kubegate.registry.rbac.escalation import RBAC_INDEX

RESOURCE = "subjectaccessreviews.authorization.k8s.io"
ANNOTATION = "kubegate.dev/explanation"


def annotated(review: Object, registry: Registry) -> Object:
    """The answered review, with the explanation of what it asks as JSON in an annotation."""
    from kubegate.analysis.sources import Cluster
    from kubegate.analysis.why import explain

    spec = review["spec"]
    attributes = reviews.question(spec, reviews.user_of(spec)).attributes
    explanation = explain(Cluster.of_index(registry.extensions[RBAC_INDEX]), attributes).to_dict()
    metadata = review.get("metadata") or {}
    annotations = {**(metadata.get("annotations") or {}), ANNOTATION: orjson.dumps(explanation).decode()}
    return {**review, "metadata": {**metadata, "annotations": annotations}}
