"""NodeRestriction: a kubelet changes its own node and what runs on it, and nothing else.

The node authorizer says which objects a node may touch; this plugin looks into them.
Follows k8s.io/kubernetes/plugin/pkg/admission/noderestriction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from kubegate import authorization
from kubegate.admission import Attributes, Operation, certificates, pods
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden
from kubegate.api import Object
from kubegate.api.field import aggregate, quoted
from kubegate.api.status import StatusError, not_found
from kubegate.authentication import UserInfo

_USER_PREFIX = "system:node:"
_GROUP = "system:nodes"
_LEASE_NAMESPACE = "kube-node-lease"

_OWN_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "node.kubernetes.io/instance-type",
    }
)
"""Labels of Kubernetes' own domains that a kubelet may set on its node."""
_OWN_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_KUBERNETES_DOMAINS = ("kubernetes.io", "k8s.io")
_RESTRICTED_DOMAIN = "node-restriction.kubernetes.io"

# What a volume of this sort refers to among API objects; the other sorts refer to nothing.
_VOLUME_REFERENCES = {
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims",
    "csi": "csidrivers",
    "glusterfs": "endpoints",
}
_PROJECTION_REFERENCES = {
    "serviceAccountToken": "serviceaccounts",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}
# What a kubelet may write to a claim's status.
_CLAIM_STATUS = ("capacity", "conditions", "allocatedResourceStatuses", "allocatedResources")


def node_name(user: UserInfo) -> str | None:
    """The node that a user is the kubelet of ("" where that cannot be told), None for everybody else."""
    if not user.name.startswith(_USER_PREFIX) or _GROUP not in user.groups:
        return None
    return user.name.removeprefix(_USER_PREFIX)


class NodeRestriction:
    name = "NodeRestriction"
    handles = frozenset({Operation.CREATE, Operation.UPDATE, Operation.DELETE})
    resources = frozenset(
        {
            "pods",
            "pods/*",
            "nodes",
            "nodes/*",
            "persistentvolumeclaims",
            "persistentvolumeclaims/*",
            "serviceaccounts/token",
            "leases.coordination.k8s.io",
            "csinodes.storage.k8s.io",
            "resourceslices.resource.k8s.io",
            certificates.CSRS,
        }
    )
    changes = False

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader, self._authorize = dependencies.reader, dependencies.authorize
        self._checks: Mapping[str, Callable[[str, Attributes], Awaitable[None]]] = {
            "pods": self._pod,
            "nodes": self._node,
            "persistentvolumeclaims": self._claim,
            "serviceaccounts": self._token,
            "leases.coordination.k8s.io": self._lease,
            "csinodes.storage.k8s.io": self._csi_node,
            "resourceslices.resource.k8s.io": self._resource_slice,
            certificates.CSRS: self._certificate,
        }

    async def admit(self, attributes: Attributes) -> None:
        node = node_name(attributes.user)
        if node is None:
            return
        if not node:
            raise forbidden(attributes, f'could not determine node from user "{attributes.user.name}"')
        await self._checks[attributes.group_resource](node, attributes)

    # ---------------------------------------------------------------- pods
    async def _pod(self, node: str, attributes: Attributes) -> None:
        match attributes.subresource:
            case "":
                self._whole_pod(node, attributes)
            case "status":
                self._pod_status(node, attributes)
            case "eviction":
                self._eviction(node, attributes)
            case other:
                why = f"unexpected pod subresource \"{other}\", only 'status' and 'eviction' are allowed"
                raise forbidden(attributes, why)

    def _whole_pod(self, node: str, attributes: Attributes) -> None:
        if attributes.operation is Operation.CREATE:
            self._create_pod(node, attributes, attributes.object or {})
        elif attributes.operation is Operation.DELETE:
            if self._stored_pod(attributes, attributes.name)["spec"].get("nodeName") != node:
                raise forbidden(attributes, f'node "{node}" can only delete pods with spec.nodeName set to itself')
        else:
            why = f'unexpected operation "UPDATE", node "{node}" can only create and delete mirror pods'
            raise forbidden(attributes, why)

    def _create_pod(self, node: str, attributes: Attributes, pod: Object) -> None:
        only = f'node "{node}" can only create'
        if not pods.is_mirror(pod):
            annotation = pods.MIRROR_ANNOTATION
            raise forbidden(attributes, f'pod does not have "{annotation}" annotation, {only} mirror pods')
        if (pod.get("spec") or {}).get("nodeName") != node:
            raise forbidden(attributes, f"{only} pods with spec.nodeName set to itself")
        owners = (pod.get("metadata") or {}).get("ownerReferences") or []
        if len(owners) > 1:
            raise forbidden(attributes, f"{only} pods with a single owner reference set to itself")
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            raise forbidden(attributes, f"{only} pods with an owner reference set to itself")
        if not owner.get("controller"):
            raise forbidden(attributes, f"{only} pods with a controller owner reference set to itself")
        if owner.get("blockOwnerDeletion"):
            raise forbidden(attributes, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
        stored = self._looked_up("node", "", "", node)
        if owner.get("uid") != stored["metadata"].get("uid"):
            expected, got = owner.get("uid", ""), stored["metadata"].get("uid", "")
            raise forbidden(attributes, f"node {node} UID mismatch: expected {expected} got {got}")
        referred = _reference(pod)
        if referred:
            raise forbidden(attributes, f'node "{node}" can not create pods that reference {referred}')

    def _pod_status(self, node: str, attributes: Attributes) -> None:
        if attributes.operation is not Operation.UPDATE:
            raise forbidden(attributes, f'unexpected operation "{attributes.operation.value}"')
        new, old = attributes.object or {}, attributes.old_object or {}
        if (old.get("spec") or {}).get("nodeName") != node:
            raise forbidden(
                attributes, f'node "{node}" can only update pod status for pods with spec.nodeName set to itself'
            )
        if _labels(new) != _labels(old):
            raise forbidden(attributes, f'node "{node}" cannot update labels through pod status')
        new_status, old_status = new.get("status") or {}, old.get("status") or {}
        if (new_status.get("resourceClaimStatuses") or []) != (old_status.get("resourceClaimStatuses") or []):
            raise forbidden(attributes, f'node "{node}" cannot update resource claim statues')
        field = "extendedResourceClaimStatus"
        if (new_status.get(field) or {}) != (old_status.get(field) or {}):
            raise forbidden(attributes, f'node "{node}" cannot update extended resource claim status')

    def _eviction(self, node: str, attributes: Attributes) -> None:
        if attributes.operation is not Operation.CREATE:
            raise forbidden(attributes, f"unexpected operation {attributes.operation.value}")
        # The path's name counts, whatever the body says: the body's may be another pod's.
        name = attributes.name or ((attributes.object or {}).get("metadata") or {}).get("name", "")
        if not name:
            raise forbidden(attributes, "could not determine pod from request data")
        if self._stored_pod(attributes, name)["spec"].get("nodeName") != node:
            raise forbidden(attributes, f"node {node} can only evict pods with spec.nodeName set to itself")

    def _stored_pod(self, attributes: Attributes, name: str) -> Object:
        return self._looked_up("pod", "", attributes.namespace, name)

    # ---------------------------------------------------------------- the node itself
    async def _node(self, node: str, attributes: Attributes) -> None:
        if attributes.name != node:
            raise forbidden(attributes, f'node "{node}" is not allowed to modify node "{attributes.name}"')
        new, old = attributes.object or {}, attributes.old_object or {}
        new_spec, old_spec = new.get("spec") or {}, old.get("spec") or {}
        if attributes.operation is Operation.CREATE:
            if new_spec.get("configSource") is not None:
                why = f'node "{node}" is not allowed to create pods with a non-nil configSource'
                raise forbidden(attributes, why)
            labels = _forbidden_labels(_labels(new), {})
            if labels:
                why = f'node "{node}" is not allowed to set the following labels: {", ".join(labels)}'
                raise forbidden(attributes, why)
        elif attributes.operation is Operation.UPDATE:
            if new_spec.get("configSource") not in (None, old_spec.get("configSource")):
                why = f'node "{node}" is not allowed to update configSource to a new non-nil configSource'
                raise forbidden(attributes, why)
            if (new_spec.get("taints") or []) != (old_spec.get("taints") or []):
                raise forbidden(attributes, f'node "{node}" is not allowed to modify taints')
            if _owners(new) != _owners(old):
                raise forbidden(attributes, f'node "{node}" is not allowed to modify ownerReferences')
            labels = _forbidden_labels(_labels(new), _labels(old))
            if labels:
                raise forbidden(attributes, f"is not allowed to modify labels: {', '.join(labels)}")

    # ---------------------------------------------------------------- what belongs to it
    async def _claim(self, node: str, attributes: Attributes) -> None:
        if attributes.subresource != "status":
            raise forbidden(attributes, "may only update PVC status")
        if attributes.operation is not Operation.UPDATE:
            raise forbidden(attributes, f'unexpected operation "{attributes.operation.value}"')
        changed = _changed_fields(attributes.object or {}, attributes.old_object or {})
        if changed:
            why = f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions'
            raise forbidden(attributes, f"{why}: {', '.join(changed)}")

    async def _token(self, node: str, attributes: Attributes) -> None:
        if attributes.operation is not Operation.CREATE:
            return
        spec = (attributes.object or {}).get("spec") or {}
        bound = spec.get("boundObjectRef") or {}
        if bound.get("apiVersion") != "v1" or bound.get("kind") != "Pod" or not bound.get("name"):
            raise forbidden(attributes, "node requested token not bound to a pod")
        if not bound.get("uid"):
            raise forbidden(attributes, "node requested token with a pod binding without a uid")
        pod = self._stored_pod(attributes, bound["name"])
        if bound["uid"] != pod["metadata"].get("uid"):
            raise forbidden(
                attributes,
                f"the UID in the bound object reference ({bound['uid']}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
            )
        if pod["spec"].get("nodeName") != node:
            raise forbidden(attributes, "node requested token bound to a pod scheduled on a different node")
        await self._audience(attributes, pod, spec.get("audiences") or [])

    async def _audience(self, attributes: Attributes, pod: Object, audiences: list[str]) -> None:
        """A token is for an audience that the pod names, or that somebody granted to this node."""
        if len(audiences) > 1:
            raise forbidden(attributes, "node may only request 0 or 1 audiences")
        audience = audiences[0] if audiences else ""
        errors: list[str] = []
        if self._names_audience(pod, audience, errors):
            return
        if errors:
            raise forbidden(attributes, f"error validating audience {quoted(audience)}: {aggregate(errors)}")
        decision = await self._authorize(
            authorization.Attributes(
                user=attributes.user,
                verb="request-serviceaccounts-token-audience",
                api_version="v1",
                resource=audience,
                namespace=attributes.namespace,
                name=attributes.name,
            )
        )
        if decision.allowed:
            return
        said = f'audience "{audience}" not found in pod spec volume'
        user = attributes.user.name
        if decision.error:
            why = f"{said}, error authorizing {user} to request tokens for this audience: {decision.error}"
            raise forbidden(attributes, why)
        raise forbidden(attributes, f"{said}, {user} is not authorized to request tokens for this audience")

    def _names_audience(self, pod: Object, audience: str, errors: list[str]) -> bool:
        """Whether a volume of the pod is for this audience; what could not be looked up is added to `errors`."""
        for volume in pod["spec"].get("volumes") or ():
            for source in (volume.get("projected") or {}).get("sources") or ():
                token = source.get("serviceAccountToken")
                if token is not None and token.get("audience", "") == audience:
                    return True
            try:
                name = self._driver(pod, volume)
                driver = self._looked_up("csidriver", "storage.k8s.io", "", name) if name else {}
            except StatusError as error:
                errors.append(error.message)
                continue
            wanted = (driver.get("spec") or {}).get("tokenRequests") or ()
            if any(request.get("audience", "") == audience for request in wanted):
                return True
        return False

    def _driver(self, pod: Object, volume: Object) -> str:
        """The CSI driver behind a volume, directly or through a claim and what it is bound to. Raises StatusError."""
        if volume.get("csi") is not None:
            return str(volume["csi"].get("driver", ""))
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
        if volume.get("ephemeral") is not None:
            claim = f"{pod['metadata']['name']}-{volume.get('name', '')}"
        if not claim:
            return ""
        found = self._looked_up("persistentvolumeclaim", "", pod["metadata"].get("namespace", ""), claim)
        bound = (found.get("spec") or {}).get("volumeName", "")
        persistent = self._looked_up("persistentvolume", "", "", bound)
        csi = (persistent.get("spec") or {}).get("csi") or {}
        return str(csi.get("driver", ""))

    def _looked_up(self, singular: str, group: str, namespace: str, name: str) -> Object:
        """Raises StatusError (404) in the words of an informer, which names the kind in the singular."""
        resource = f"{singular}s.{group}" if group else f"{singular}s"
        found = self._reader.get(resource, namespace, name)
        if found is None:
            raise not_found(group, singular, name)
        return found

    async def _lease(self, node: str, attributes: Attributes) -> None:
        if attributes.namespace != _LEASE_NAMESPACE:
            raise forbidden(attributes, f'can only access leases in the "{_LEASE_NAMESPACE}" system namespace')
        if _named(attributes) != node:
            raise forbidden(attributes, "can only access node lease with the same name as the requesting node")

    async def _csi_node(self, node: str, attributes: Attributes) -> None:
        if _named(attributes) != node:
            raise forbidden(attributes, "can only access CSINode with the same name as the requesting node")

    async def _resource_slice(self, node: str, attributes: Attributes) -> None:
        verbs = {Operation.CREATE: ("create", attributes.object), Operation.DELETE: ("delete", attributes.old_object)}
        if attributes.operation not in verbs:
            return
        verb, looked_at = verbs[attributes.operation]
        if ((looked_at or {}).get("spec") or {}).get("nodeName") != node:
            why = f"can only {verb} ResourceSlice with the same NodeName as the requesting node"
            raise forbidden(attributes, why)

    async def _certificate(self, node: str, attributes: Attributes) -> None:
        spec = (attributes.object or {}).get("spec") or {}
        signers = (certificates.KUBELET_SERVING, certificates.KUBE_APISERVER_CLIENT_KUBELET)
        if attributes.operation is not Operation.CREATE or spec.get("signerName") not in signers:
            return
        try:
            common_name, _ = certificates.subject(spec.get("request", ""))
        except certificates.BadRequest as error:
            raise forbidden(attributes, f"unable to parse csr: {error}") from error
        if common_name != f"{_USER_PREFIX}{node}":
            raise forbidden(attributes, f"can only create a node CSR with CN={_USER_PREFIX}{node}")


def _named(attributes: Attributes) -> str:
    """The name that a new object will have; of others, that of the path."""
    if attributes.operation is Operation.CREATE:
        return str(((attributes.object or {}).get("metadata") or {}).get("name", ""))
    return attributes.name


def _labels(object: Object) -> dict[str, str]:
    return (object.get("metadata") or {}).get("labels") or {}


def _owners(object: Object) -> list[Object]:
    return (object.get("metadata") or {}).get("ownerReferences") or []


def _forbidden_labels(new: Mapping[str, str], old: Mapping[str, str]) -> list[str]:
    """Of the labels that differ, those by which a node could draw others' workloads to itself."""
    changed = {label for label in new.keys() | old.keys() if new.get(label) != old.get(label)}
    return sorted(label for label in changed if _is_forbidden(label))


def _is_forbidden(label: str) -> bool:
    domain, slash, _ = label.partition("/")
    if not slash:
        return False
    if _within(domain, (_RESTRICTED_DOMAIN,)):
        return True
    return _within(domain, _KUBERNETES_DOMAINS) and not (label in _OWN_LABELS or _within(domain, _OWN_LABEL_DOMAINS))


def _within(domain: str, domains: tuple[str, ...]) -> bool:
    return any(domain == other or domain.endswith(f".{other}") for other in domains)


def _reference(pod: Object) -> str:
    """The first sort of API object that a pod refers to, "" where it stands for itself."""
    spec = pod.get("spec") or {}
    if pods.service_account_name(spec):
        return "serviceaccounts"
    for sort, names in (("secrets", pods.secret_names(pod)), ("configmaps", pods.config_map_names(pod))):
        if any(True for _ in names):
            return sort
    if spec.get("resourceClaims"):
        return "resourceclaims"
    for volume in spec.get("volumes") or ():
        for sort, resource in _VOLUME_REFERENCES.items():
            if volume.get(sort) is not None:
                return resource
        for source in (volume.get("projected") or {}).get("sources") or ():
            for sort, resource in _PROJECTION_REFERENCES.items():
                if source.get(sort) is not None:
                    return resource
    return ""


def _changed_fields(new: Object, old: Object) -> list[str]:
    """Where a claim differs beside what a kubelet may write."""

    def comparable(claim: Object) -> dict[str, Any]:
        found: dict[str, Any] = {f"spec.{name}": value for name, value in (claim.get("spec") or {}).items()}
        for name, value in (claim.get("metadata") or {}).items():
            if name not in ("resourceVersion", "managedFields"):
                found[f"metadata.{name}"] = value
        for name, value in (claim.get("status") or {}).items():
            if name not in _CLAIM_STATUS:
                found[f"status.{name}"] = value
        return {path: value for path, value in found.items() if value not in (None, "", [], {})}

    left, right = comparable(new), comparable(old)
    return sorted(path for path in left.keys() | right.keys() if left.get(path) != right.get(path))


def build(dependencies: Dependencies) -> NodeRestriction:
    return NodeRestriction(dependencies)
