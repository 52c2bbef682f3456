"""Bindings: how a scheduler gives a pod its node, by `pods/binding` or by `bindings`. Nothing of them is stored."""

from __future__ import annotations

from kubegate.api import Object, field, status
from kubegate.api.clock import rfc3339
from kubegate.api.status import StatusError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import listed, mapped
from kubegate.registry.direct import guaranteed_update


async def bind(namespace: str, name: str, binding: Object, scope: Scope) -> Object:
    """POST pods/NAME/binding. Raises 400, 404, 409."""
    own = binding["metadata"].get("name", "")
    if name != own:
        raise status.bad_request("name in URL does not match name in Binding object")
    target = mapped(binding, "target")
    errors = []
    if target.get("kind", "") not in ("", "Node"):
        errors.append(field.not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        errors.append(field.required("target.name"))
    if errors:
        texts = [str(error) for error in errors]
        # The real one's answer is no Status of its own either.
        raise StatusError(500, "", texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
    metadata = binding["metadata"]

    key = scope.registry.keys.key("pods", namespace, name)

    def change(pod: Object) -> None:
        _check_preconditions(pod, metadata, key)
        _check(pod)
        _assign(pod, target["name"], metadata, rfc3339(scope.clock.now()))

    await guaranteed_update(scope, "pods", namespace, name, change)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


async def create(namespace: str, name: str, binding: Object, scope: Scope) -> Object:
    """POST bindings: the pod is the one that the binding is named after."""
    return await bind(namespace, binding["metadata"].get("name", ""), binding, scope)


def _check_preconditions(pod: Object, wanted: Object, key: str) -> None:
    """A binding may be for one certain pod, or for a pod as it is at a certain revision. Raises 409."""
    found = pod["metadata"]
    for name, text in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(name) and wanted[name] != found.get(name):
            problem = f"{text} in precondition: {wanted[name]}, {text} in object meta: {found.get(name)}"
            error = f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
            raise status.conflict("", "pods", found["name"], f"{error}Precondition failed: {problem}")


def _check(pod: Object) -> None:
    metadata, spec = pod["metadata"], pod["spec"]
    name = metadata["name"]
    problem = ""
    if "deletionTimestamp" in metadata:
        problem = f"pod {name} is being deleted, cannot be assigned to a host"
    elif spec.get("nodeName"):
        problem = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
    elif listed(spec, "schedulingGates"):
        problem = f"pod {name} has non-empty .spec.schedulingGates"
    if problem:
        raise status.conflict("", "pods/binding", name, problem)


def _assign(pod: Object, node: str, said: Object, now: str) -> None:
    """`said`: the binding's metadata, whose labels and annotations the pod takes over."""
    pod["spec"]["nodeName"] = node
    metadata = pod["metadata"]
    for name in ("annotations", "labels"):
        if added := mapped(said, name):
            metadata[name] = {**(metadata.get(name) or {}), **added}
    found = pod.setdefault("status", {})
    found.pop("nominatedNodeName", None)
    conditions = found.setdefault("conditions", [])
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    for position, condition in enumerate(conditions):
        if condition.get("type") == "PodScheduled":
            conditions[position] = scheduled
            return
    conditions.append(scheduled)


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.Binding"),
    connect={"": create},
)
