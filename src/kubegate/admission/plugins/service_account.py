"""ServiceAccount: every pod runs as an account that exists, gets its token, and uses no secrets that are not for it.

Follows k8s.io/kubernetes/plugin/pkg/admission/serviceaccount.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubegate.admission import Attributes, Operation, pods
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden
from kubegate.api import Object
from kubegate.api.metadata import NAME_LETTERS

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ENFORCE_ANNOTATION = "kubernetes.io/enforce-mountable-secrets"

_VOLUME_PREFIX = "kube-api-access-"
# An hour, and a little more by which kubelets can tell this token from one asked for by hand.
_TOKEN_SECONDS = 3607
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})

# A controller makes `default` in each new namespace; until then a pod waits for it, this often and this long (seconds).
_ATTEMPTS = 10
_WAIT = 0.1

# Which containers are looked at, and what they are called.
_AT_CREATION = {"initContainers": "init container", "containers": "container"}
_EPHEMERAL = {"ephemeralContainers": "ephemeral container"}


class ServiceAccount:
    name = "ServiceAccount"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"pods", "pods/ephemeralcontainers"})
    changes = True

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader, self._writer = dependencies.reader, dependencies.writer
        self._clock, self._randomness = dependencies.clock, dependencies.randomness

    async def admit(self, attributes: Attributes) -> None:
        pod = attributes.object
        if pod is None or attributes.operation is not Operation.CREATE:
            return
        if not pods.is_mirror(pod):
            # The spec of a mirror pod stays as it is: a kubelet deletes one that differs from its file.
            spec = pods.spec_of(pod)
            name = pods.service_account_name(spec) or "default"
            spec["serviceAccountName"] = spec["serviceAccount"] = name
            account = await self._account(attributes, name)
            if _automount(account, spec):
                self._mount_token(spec)
            if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
                spec["imagePullSecrets"] = [dict(reference) for reference in account["imagePullSecrets"]]
        await self.validate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.object
        if pod is None:
            return
        if attributes.operation is Operation.UPDATE:
            if attributes.subresource == "ephemeralcontainers":
                await self._check_secrets(attributes, pod, _EPHEMERAL)
        elif pods.is_mirror(pod):
            _check_mirror(attributes, pod)
        else:
            await self._check_secrets(attributes, pod, _AT_CREATION)

    async def _check_secrets(self, attributes: Attributes, pod: Object, sorts: dict[str, str]) -> None:
        """The account must be there, and where it says so, refer to every secret that the containers use."""
        name = pods.service_account_name(pod.get("spec") or {})
        if not name:
            pod_name = (pod.get("metadata") or {}).get("name", "")
            raise forbidden(attributes, f"no service account specified for pod {attributes.namespace}/{pod_name}")
        account = await self._account(attributes, name)
        if pods.annotations_of(account).get(ENFORCE_ANNOTATION, "") not in _TRUE:
            return
        mountable = {reference.get("name", "") for reference in account.get("secrets") or ()}
        for secret, use in _uses(pod["spec"], sorts):
            if secret not in mountable:
                why = f'{use}"{secret}" is not allowed because service account {name} does not reference that secret'
                raise forbidden(attributes, why)
        if sorts is _EPHEMERAL:
            return
        pulling = {reference.get("name", "") for reference in account.get("imagePullSecrets") or ()}
        for position, reference in enumerate(pod["spec"].get("imagePullSecrets") or ()):
            if reference.get("name", "") not in pulling:
                why = f'imagePullSecrets[{position}].name="{reference.get("name", "")}" is not allowed because '
                raise forbidden(attributes, f"{why}service account {name} does not reference that imagePullSecret")

    async def _account(self, attributes: Attributes, name: str) -> Object:
        namespace = attributes.namespace
        found = self._reader.get("serviceaccounts", namespace, name)
        for attempt in range(_ATTEMPTS if name == "default" else 1):
            if found is not None:
                return found
            if attempt:
                await self._clock.sleep(_WAIT + self._randomness.random() * _WAIT)
            found = await self._writer.get("serviceaccounts", namespace, name)
        if found is None:
            why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden(attributes, why)
        return found

    def _mount_token(self, spec: Object) -> None:
        names = [volume.get("name", "") for volume in spec.get("volumes") or ()]
        given = [name for name in names if name.startswith(_VOLUME_PREFIX)]
        name = given[0] if given else _VOLUME_PREFIX + "".join(self._randomness.choices(NAME_LETTERS, k=5))
        used = False
        for sort in ("initContainers", "containers"):
            for container in spec.get(sort) or ():
                mounts = container.get("volumeMounts") or []
                if all(mount.get("mountPath") != MOUNT_PATH for mount in mounts):
                    mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
                    container["volumeMounts"] = [*mounts, mount]
                    used = True
        if used and not given:
            spec["volumes"] = [*(spec.get("volumes") or []), {"name": name, "projected": token_volume_source()}]


def token_volume_source() -> Object:
    """What `kube-api-access-…` holds: a token of the account, the cluster's CA, and the namespace's name."""
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ],
        "defaultMode": 0o644,
    }


def _automount(account: Object, spec: Object) -> bool:
    """The pod's word counts before its account's."""
    for asked in (spec.get("automountServiceAccountToken"), account.get("automountServiceAccountToken")):
        if asked is not None:
            return bool(asked)
    return True


def _check_mirror(attributes: Attributes, pod: Object) -> None:
    spec = pod.get("spec") or {}
    if pods.service_account_name(spec):
        raise forbidden(attributes, "a mirror pod may not reference service accounts")
    if any(True for _ in pods.secret_names(pod)):
        raise forbidden(attributes, "a mirror pod may not reference secrets")
    for volume in spec.get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if source.get("serviceAccountToken") is not None:
                raise forbidden(attributes, "a mirror pod may not use ServiceAccountToken volume projections")


def _uses(spec: Object, sorts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Each secret that volumes and the containers of these sorts use, and how a refusal begins."""
    if sorts is _AT_CREATION:
        for volume in spec.get("volumes") or ():
            if volume.get("secret") is not None:
                yield volume["secret"].get("secretName", ""), "volume with secret.secretName="
    for field, called in sorts.items():
        for container in spec.get(field) or ():
            who = f"{called} {container.get('name', '')}"
            for variable in container.get("env") or ():
                reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
                if reference is not None:
                    use = f"{who} with envVar {variable.get('name', '')} referencing secret.secretName="
                    yield reference.get("name", ""), use
            for source in container.get("envFrom") or ():
                if source.get("secretRef") is not None:
                    yield source["secretRef"].get("name", ""), f"{who} with envFrom referencing secret.secretName="


def build(dependencies: Dependencies) -> ServiceAccount:
    return ServiceAccount(dependencies)
