"""The Node authorizer: a kubelet may reach what its pods use, and no more.

Follows k8s.io/kubernetes/plugin/pkg/auth/authorizer/node. The graph is kept from pods, persistent volumes, volume
attachments and resource slices; what the real one finds by walking from an object to a node is kept here as counts of
nodes per object, so that a decision costs the same however many pods use a ConfigMap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from kubegate.api import Object
from kubegate.authentication import UserInfo
from kubegate.authorization import NO_OPINION, Attributes, Decision, SubjectRules, Verdict
from kubegate.authorization.rules import Rule, rule_allows
from kubegate.storage import ObjectEvent, Reader

NODE_PREFIX = "system:node:"
NODES_GROUP = "system:nodes"
LEASE_NAMESPACE = "kube-node-lease"
MIRROR_POD = "kubernetes.io/config.mirror"
NAME = "node"

Key = TypeVar("Key")
Vertex = tuple[str, str, str]
"""Resource, namespace and name of something that a node may need."""


def node_of(user: UserInfo) -> str | None:
    """The node's name ("" where it names none), None for who is no node."""
    if not user.name.startswith(NODE_PREFIX) or NODES_GROUP not in user.groups:
        return None
    return user.name.removeprefix(NODE_PREFIX)


class Graph:
    """What each node may reach. Feed it with `follow`."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, str], tuple[str, tuple[Vertex, ...]]] = {}
        self._nodes: dict[Vertex, dict[str, int]] = {}
        self._through: dict[Vertex, dict[Vertex, int]] = {}
        self._linked: dict[str, tuple[tuple[Vertex, Vertex], ...]] = {}

    def follow(self, reader: Reader) -> Callable[[], None]:
        """Take all there is, then every change. Returns a function that ends it."""
        ends = [
            reader.subscribe("pods", self._on("pods", _pod)),
            reader.subscribe("volumeattachments.storage.k8s.io", self._on("volumeattachments", _attachment)),
            reader.subscribe("resourceslices.resource.k8s.io", self._on("resourceslices", _slice)),
            reader.subscribe("persistentvolumes", self._on_volume),
        ]

        def end() -> None:
            for each in ends:
                each()

        return end

    def reaches(self, node: str, vertex: Vertex) -> bool:
        if node in self._nodes.get(vertex, ()):
            return True
        return any(self.reaches(node, further) for further in self._through.get(vertex, ()))

    def _on(
        self, kind: str, read: Callable[[Object], tuple[str, tuple[Vertex, ...]]]
    ) -> Callable[[ObjectEvent, Object, Object | None], None]:
        def on_event(event: ObjectEvent, obj: Object, previous: Object | None) -> None:
            metadata = obj["metadata"]
            key = (kind, metadata.get("namespace") or "", metadata["name"])
            node, vertices = ("", ()) if event is ObjectEvent.DELETED else read(obj)
            known = self._held.get(key)
            if known == (node, vertices):
                return
            if known is not None:
                for vertex in known[1]:
                    _count_down(self._nodes, vertex, known[0])
                del self._held[key]
            if node:
                for vertex in vertices:
                    counts = self._nodes.setdefault(vertex, {})
                    counts[node] = counts.get(node, 0) + 1
                self._held[key] = (node, vertices)

        return on_event

    def _on_volume(self, event: ObjectEvent, obj: Object, previous: Object | None) -> None:
        name = obj["metadata"]["name"]
        links = () if event is ObjectEvent.DELETED else tuple(_volume_links(obj))
        known = self._linked.get(name, ())
        if known == links:
            return
        for vertex, further in known:
            _count_down(self._through, vertex, further)
        for vertex, further in links:
            counts = self._through.setdefault(vertex, {})
            counts[further] = counts.get(further, 0) + 1
        if links:
            self._linked[name] = links
        else:
            self._linked.pop(name, None)


def _count_down(where: dict[Vertex, dict[Key, int]], vertex: Vertex, key: Key) -> None:
    counts = where[vertex]
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
        if not counts:
            del where[vertex]


def _pod(pod: Object) -> tuple[str, tuple[Vertex, ...]]:
    spec = pod.get("spec") or {}
    node = spec.get("nodeName") or ""
    if not node:
        return "", ()
    metadata = pod["metadata"]
    namespace = metadata.get("namespace") or ""
    own: Vertex = ("pods", namespace, metadata["name"])
    if MIRROR_POD in (metadata.get("annotations") or {}):
        return node, (own,)
    used: dict[Vertex, None] = {own: None}
    if spec.get("serviceAccountName"):
        used[("serviceaccounts", namespace, spec["serviceAccountName"])] = None
    for resource, name in _pod_references(pod):
        used[(resource, namespace, name)] = None
    return node, tuple(used)


def _pod_references(pod: Object) -> Iterator[tuple[str, str]]:
    spec = pod["spec"]
    for reference in spec.get("imagePullSecrets") or ():
        yield from _named("secrets", reference, "name")
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            for source in container.get("envFrom") or ():
                yield from _named("secrets", source.get("secretRef"), "name")
                yield from _named("configmaps", source.get("configMapRef"), "name")
            for variable in container.get("env") or ():
                source = variable.get("valueFrom") or {}
                yield from _named("secrets", source.get("secretKeyRef"), "name")
                yield from _named("configmaps", source.get("configMapKeyRef"), "name")
    for volume in spec.get("volumes") or ():
        yield from _volume_references(pod["metadata"]["name"], volume)
    yield from _claims(pod)


# Volumes with a secret of their own: field of the volume -> where the secret is named.
_VOLUME_SECRETS = {
    "azureFile": ("secretName", None),
    "cephfs": ("secretRef", "name"),
    "cinder": ("secretRef", "name"),
    "flexVolume": ("secretRef", "name"),
    "rbd": ("secretRef", "name"),
    "secret": ("secretName", None),
    "scaleIO": ("secretRef", "name"),
    "iscsi": ("secretRef", "name"),
    "storageos": ("secretRef", "name"),
    "csi": ("nodePublishSecretRef", "name"),
}


def _volume_references(pod: str, volume: Object) -> Iterator[tuple[str, str]]:
    for field, (place, inner) in _VOLUME_SECRETS.items():
        source = volume.get(field)
        if source:
            yield from _named("secrets", source if inner is None else source.get(place), inner or place)
    yield from _named("configmaps", volume.get("configMap"), "name")
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield from _named("secrets", source.get("secret"), "name")
        yield from _named("configmaps", source.get("configMap"), "name")
    if volume.get("persistentVolumeClaim"):
        yield from _named("persistentvolumeclaims", volume["persistentVolumeClaim"], "claimName")
    elif volume.get("ephemeral") is not None:
        yield "persistentvolumeclaims", f"{pod}-{volume['name']}"


def _claims(pod: Object) -> Iterator[tuple[str, str]]:
    """Resource claims: named in the spec, or made for the pod and named in its status."""
    status = pod.get("status") or {}
    made = {each.get("name"): each.get("resourceClaimName") for each in status.get("resourceClaimStatuses") or ()}
    for claim in pod["spec"].get("resourceClaims") or ():
        name = claim.get("resourceClaimName") or made.get(claim.get("name"))
        if name:
            yield "resourceclaims", name
    extended = (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName")
    if extended:
        yield "resourceclaims", extended


def _named(resource: str, source: Any, field: str) -> Iterator[tuple[str, str]]:
    if source and source.get(field):
        yield resource, source[field]


def _attachment(attachment: Object) -> tuple[str, tuple[Vertex, ...]]:
    node = (attachment.get("spec") or {}).get("nodeName") or ""
    return node, (("volumeattachments", "", attachment["metadata"]["name"]),)


def _slice(resource_slice: Object) -> tuple[str, tuple[Vertex, ...]]:
    node = (resource_slice.get("spec") or {}).get("nodeName") or ""
    return node, (("resourceslices", "", resource_slice["metadata"]["name"]),)


def _volume_links(volume: Object) -> Iterator[tuple[Vertex, Vertex]]:
    """A bound volume is reached through its claim, and its secrets through the volume."""
    spec = volume.get("spec") or {}
    claim = spec.get("claimRef")
    if not claim:
        return
    own: Vertex = ("persistentvolumes", "", volume["metadata"]["name"])
    home = claim.get("namespace") or ""
    yield own, ("persistentvolumeclaims", home, claim.get("name") or "")
    for namespace, name in dict.fromkeys(_volume_secrets(spec, home)):
        yield ("secrets", namespace, name), own


def _volume_secrets(spec: Object, home: str) -> Iterator[tuple[str, str]]:
    """Those that a kubelet may see; a CSI driver's controller secrets are not among them."""
    azure = spec.get("azureFile") or {}
    if azure.get("secretName"):
        yield azure.get("secretNamespace") or home, azure["secretName"]
    for source in ("cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"):
        reference = (spec.get(source) or {}).get("secretRef") or {}
        if reference.get("name"):
            yield reference.get("namespace") or home, reference["name"]
    for place in ("nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"):
        reference = (spec.get("csi") or {}).get(place) or {}
        if reference.get("name"):
            yield reference.get("namespace") or home, reference["name"]


class NodeAuthorizer:
    """`rules` are what every node may do (the system:node role); what follows the graph is not asked of them."""

    def __init__(self, graph: Graph, rules: Iterable[Rule]) -> None:
        self.graph = graph
        self._rules = tuple(rules)

    async def authorize(self, attributes: Attributes) -> Decision:
        return self.decide(attributes)

    def decide(self, attributes: Attributes) -> Decision:
        node = node_of(attributes.user)
        if node is None:
            return NO_OPINION
        if not node:
            return _no(f'unknown node for user "{attributes.user.name}"')
        if attributes.resource_request:
            decide = _RESOURCES.get((attributes.api_group, attributes.resource))
            if decide is not None:
                return decide(self, node, attributes)
        return _ALLOWED if any(rule_allows(rule, attributes) for rule in self._rules) else NO_OPINION

    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules:
        if node_of(user) is None:
            return SubjectRules()
        return SubjectRules(incomplete=True, error="node authorizer does not support user rule resolution")

    def _related(self, node: str, a: Attributes) -> Decision:
        if not a.name:
            return _no("No Object name found")
        if not self.graph.reaches(node, (a.resource, a.namespace, a.name)):
            return _no(f"no relationship found between node '{node}' and this object")
        return _ALLOWED

    def _read_related(self, node: str, a: Attributes) -> Decision:
        if a.verb not in ("get", "list", "watch"):
            return _no("can only read resources of this type")
        if a.subresource:
            return _no("cannot read subresource")
        if not a.namespace:
            return _no("can only read namespaced object of this type")
        return self._related(node, a)

    def _get_related(self, node: str, a: Attributes) -> Decision:
        if a.verb != "get":
            return _no("can only get individual resources of this type")
        if a.subresource:
            return _no("cannot get subresource")
        return self._related(node, a)

    def _claim(self, node: str, a: Attributes) -> Decision:
        if a.subresource != "status":
            return self._get_related(node, a)
        if a.verb not in ("update", "patch"):
            return _no("can only get/update/patch this type")
        return self._related(node, a)

    def _service_account(self, node: str, a: Attributes) -> Decision:
        if a.verb == "get" and not a.subresource:
            return self._read_related(node, a)
        if a.verb != "create" or not a.name:
            return _no("can only create tokens for individual service accounts")
        if a.subresource != "token":
            return _no("can only create token subresource of serviceaccount")
        return self._related(node, a)

    def _lease(self, node: str, a: Attributes) -> Decision:
        if a.verb not in _OWN_VERBS:
            return _no("can only get, create, update, patch, or delete a node lease")
        if a.namespace != LEASE_NAMESPACE:
            return _no(f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
        # the name is not known on create: NodeRestriction looks at it
        if a.verb != "create" and a.name != node:
            return _no("can only access node lease with the same name as the requesting node")
        return _ALLOWED

    def _csi_node(self, node: str, a: Attributes) -> Decision:
        if a.verb not in _OWN_VERBS:
            return _no("can only get, create, update, patch, or delete a CSINode")
        if a.subresource:
            return _no("cannot authorize CSINode subresources")
        if a.verb != "create" and a.name != node:
            return _no("can only access CSINode with the same name as the requesting node")
        return _ALLOWED

    def _resource_slice(self, node: str, a: Attributes) -> Decision:
        if a.subresource:
            return _no("cannot authorize ResourceSlice subresources")
        match a.verb:
            case "create":
                return _ALLOWED
            case "get" | "update" | "patch" | "delete":
                return self._related(node, a)
            case "watch" | "list" | "deletecollection":
                if _selects(a, "spec.nodeName", node):
                    return _ALLOWED
                return _no("can only list/watch/deletecollection resourceslices with nodeName field selector")
        return _no(
            "only the following verbs are allowed for a ResourceSlice: "
            "get, watch, list, create, update, patch, delete, deletecollection"
        )

    def _node(self, node: str, a: Attributes) -> Decision:
        match a.subresource, a.verb:
            case "", ("create" | "update" | "patch"):
                return _ALLOWED
            case "", ("get" | "list" | "watch"):
                if a.name == node:
                    return _ALLOWED
                if not a.name:
                    return _no(f"node '{node}' cannot read all nodes, only its own Node object")
                return _no(f"node '{node}' cannot read '{a.name}', only its own Node object")
            case "status", ("update" | "patch"):
                return _ALLOWED
        return NO_OPINION

    def _pod(self, node: str, a: Attributes) -> Decision:
        match a.subresource, a.verb:
            case "", "get":
                return self._get_related(node, a)
            case "", ("list" | "watch"):
                if _selects(a, "spec.nodeName", node):
                    return _ALLOWED
                if a.name:  # by a field selector for one name
                    return self._related(node, a)
                return _no("can only list/watch pods with spec.nodeName field selector")
            case ("", ("create" | "delete")) | ("status", ("update" | "patch")) | ("eviction", "create"):
                return _ALLOWED
        return NO_OPINION


def _selects(attributes: Attributes, field: str, value: str) -> bool:
    """Whether the field selector pins `field` to `value`."""
    wanted = {"key": field, "operator": "In", "values": [value]}
    return any(dict(requirement) == wanted for requirement in attributes.field_requirements or ())


def _no(reason: str) -> Decision:
    return Decision(Verdict.NO_OPINION, reason, "", NAME)


_ALLOWED = Decision(Verdict.ALLOW, "", "", NAME)
_OWN_VERBS = frozenset({"get", "create", "update", "patch", "delete"})
_RESOURCES: dict[tuple[str, str], Callable[[NodeAuthorizer, str, Attributes], Decision]] = {
    ("", "secrets"): NodeAuthorizer._read_related,
    ("", "configmaps"): NodeAuthorizer._read_related,
    ("", "persistentvolumeclaims"): NodeAuthorizer._claim,
    ("", "persistentvolumes"): NodeAuthorizer._get_related,
    ("resource.k8s.io", "resourceclaims"): NodeAuthorizer._get_related,
    ("storage.k8s.io", "volumeattachments"): NodeAuthorizer._get_related,
    ("", "serviceaccounts"): NodeAuthorizer._service_account,
    ("coordination.k8s.io", "leases"): NodeAuthorizer._lease,
    ("storage.k8s.io", "csinodes"): NodeAuthorizer._csi_node,
    ("resource.k8s.io", "resourceslices"): NodeAuthorizer._resource_slice,
    ("", "nodes"): NodeAuthorizer._node,
    ("", "pods"): NodeAuthorizer._pod,
}
"""Resources of which a node may reach some: asked of the graph, never of the static rules."""
