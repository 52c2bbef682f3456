"""PodIdentityWebhook: pods whose service account is annotated with an IAM role find that role and a token for it.

What amazon-eks-pod-identity-webhook does as a webhook, built in; kube-apiserver has no such plugin.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation, pods
from kubegate.admission.config import ConfigurationError, only
from kubegate.admission.dependencies import Dependencies
from kubegate.api import Object
from kubegate.aws.pod_identity import LEAST_SECONDS, MOST_SECONDS, PodIdentity

NAME = "PodIdentityWebhook"
_FIELDS = {
    "annotationPrefix": "annotation_prefix",
    "tokenAudience": "token_audience",
    "tokenExpiration": "token_expiration",
    "tokenMountPath": "token_mount_path",
    "awsDefaultRegion": "aws_default_region",
    "stsRegionalEndpoint": "sts_regional_endpoint",
}


class PodIdentityWebhook:
    name = NAME
    handles = frozenset({Operation.CREATE})
    resources = frozenset({"pods"})
    changes = True

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader = dependencies.reader
        self._identity = settings(dependencies.configuration(NAME))

    async def admit(self, attributes: Attributes) -> None:
        pod = attributes.object
        if pod is None or pods.is_mirror(pod):
            return
        name = pods.service_account_name(pods.spec_of(pod)) or "default"
        account = self._reader.get("serviceaccounts", attributes.namespace, name)
        if account is not None:
            self._identity.inject(pod, account)


def settings(configuration: Object) -> PodIdentity:
    """The configuration has the webhook's flags as its fields. Raises ConfigurationError."""
    only(configuration, ("apiVersion", "kind", *_FIELDS), NAME)
    found = {}
    for field, name in _FIELDS.items():
        value = configuration.get(field)
        if value is None:
            continue
        wanted = type(getattr(PodIdentity(), name))
        if type(value) is not wanted or value == "":
            raise ConfigurationError(f"{NAME}: {field}: must be {_SHOWN[wanted]}")
        found[name] = value
    made = PodIdentity(**found)
    if not LEAST_SECONDS <= made.token_expiration <= MOST_SECONDS:
        raise ConfigurationError(f"{NAME}: tokenExpiration: must be from {LEAST_SECONDS} to {MOST_SECONDS} seconds")
    return made


_SHOWN = {str: "a text", int: "a whole number", bool: "true or false"}


def build(dependencies: Dependencies) -> PodIdentityWebhook:
    return PodIdentityWebhook(dependencies)
