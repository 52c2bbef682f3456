"""log, exec, attach, portforward, proxy: what kube-apiserver answers before it would reach a kubelet, pod or service.

Nothing runs behind this server. Until there is somewhere to connect to, a real one answers alike: options are read and
checked, CONNECT is admitted, and then the pod has no host, the service no endpoints. Pods on simulated nodes are in
`simulated`. Follows k8s.io/kubernetes/pkg/registry/core/{pod,service,node}.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from kubegate.admission import GroupVersionKind, Operation
from kubegate.api import Object, field, status
from kubegate.api.field import FieldError
from kubegate.api.normalize import parse_time
from kubegate.api.requestinfo import truth
from kubegate.api.resources import Resource
from kubegate.authorization import Attributes
from kubegate.registry import Context
from kubegate.registry.generic import Registry
from kubegate.server import lists, simulated
from kubegate.server.call import Call
from kubegate.server.responses import Response

SUBRESOURCES = frozenset({"exec", "attach", "portforward", "proxy", "log"})

# Query parameters of each kind of options, and how each is read.
_STREAMS = {"stdin": "bool", "stdout": "bool", "stderr": "bool", "tty": "bool", "container": "text"}
_PARAMETERS: dict[str, dict[str, str]] = {
    "exec": {**_STREAMS, "command": "texts"},
    "attach": _STREAMS,
    "portforward": {"ports": "numbers"},
    "proxy": {"path": "text"},
    "log": {
        "container": "text",
        "follow": "bool",
        "previous": "bool",
        "sinceSeconds": "number",
        "sinceTime": "time",
        "timestamps": "bool",
        "tailLines": "number",
        "limitBytes": "number",
        "insecureSkipTLSVerifyBackend": "bool",
        "stream": "text",
    },
}
_LOG_STREAMS = ("All", "Stderr", "Stdout")


async def connect(registry: Registry, call: Call, resource: Resource, context: Context) -> Response:
    """Raises 400 for options that cannot be read, 403 by admission, 404, 422, 503 for what is not to be had."""
    info = call.info
    namespace = info.namespace if resource.namespaced else ""
    if "dryRun" in call.query and info.subresource != "log":
        raise status.bad_request("dryRun is not supported")
    options = _options(call, resource)
    await registry.cache.fresh()
    if info.subresource == "log":
        return _log(registry, registry.entry(resource, namespace, info.name).object(), options)
    target = resource.subresources[info.subresource]
    attributes = registry.attributes(
        Operation.CONNECT, resource, info.subresource, namespace, info.name, context, options, None
    )
    attributes.kind = GroupVersionKind(target.group, target.version, target.kind)
    await registry.admission.admit(attributes)
    await registry.admission.validate(attributes)
    if info.subresource == "proxy":
        raise _PROXIES[resource.resource](registry, resource, namespace, info.name)
    if info.verb != "create":
        await _check_create(registry, call, resource, namespace)
    pod = registry.entry(resource, namespace, info.name).object()
    options = attributes.object or options
    if info.subresource != "portforward":
        _check_container(pod, options.get("container", ""))
    node = pod["spec"].get("nodeName")
    if not node:
        raise status.bad_request(f"pod {info.name} does not have a host assigned")
    if simulated.has(registry, pod) and info.subresource != "portforward":
        return simulated.session(registry, call, pod, options)
    raise _no_kubelet(registry, node)


async def _check_create(registry: Registry, call: Call, resource: Resource, namespace: str) -> None:
    """A websocket begins with a GET; who may read alone may not therefore run commands. Raises 403, 500.

    The refusal tells the authorizers' reason alone, as kube-apiserver's does.
    """
    attributes = Attributes(
        user=call.user,
        verb="create",
        api_group=resource.group,
        api_version=resource.version,
        resource=resource.resource,
        subresource=call.info.subresource,
        namespace=namespace,
        name=call.info.name,
    )
    decision = await registry.authorizer.authorize(attributes)
    if decision.allowed:
        return
    if decision.error:
        raise status.internal(decision.error)
    raise status.forbidden(resource.group, resource.resource, call.info.name, decision.reason)


# ------------------------------------------------------------------ options
def _options(call: Call, resource: Resource) -> Object:
    """PodExecOptions and its like from the query. Raises 400."""
    subresource = call.info.subresource
    kind = "PodLogOptions" if subresource == "log" else resource.subresources[subresource].kind
    found: Object = {"kind": kind, "apiVersion": "v1"}
    if subresource in ("exec", "attach"):
        found |= {"stdout": True, "stderr": True}
    for name, how in _PARAMETERS[subresource].items():
        if name not in call.query:
            continue
        value = _READERS[how](call.query[name])
        if value is False or value in (None, "", []):
            found.pop(name, None)
        else:
            found[name] = value
    if subresource == "proxy":
        found.pop("path", None)
        path = _path_behind(call)
        if path:
            found["path"] = path
    return found


def _path_behind(call: Call) -> str:
    """What follows `…/proxy` in the path, with its slash; a query parameter of that name counts for nothing."""
    path = "/".join(call.info.parts[3:])
    if path:
        path = f"/{path}"
    return f"{path}/" if call.info.path.endswith("/") and not path.endswith("/") else path


def _numbers(values: Sequence[str]) -> list[int]:
    return [lists.number(part) for value in values for part in value.split(",")]


def _time(text: str) -> str | None:
    """Raises 400."""
    if text in ("", "null"):
        return None
    try:
        return parse_time(text).strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError as error:
        raise status.bad_request(str(error)) from None


_READERS: dict[str, Callable[[Sequence[str]], object]] = {
    "text": lambda values: values[0],
    "texts": list,
    "bool": lambda values: truth(values[0]),
    "number": lambda values: lists.number(values[0]),
    "time": lambda values: _time(values[0]),
    "numbers": _numbers,
}


# ------------------------------------------------------------------ pods
def _log(registry: Registry, pod: Object, options: Object) -> Response:
    name = pod["metadata"]["name"]
    errors = _log_errors(options)
    if errors:
        raise status.invalid("", "PodLogOptions", name, errors)
    _check_container(pod, options.get("container", ""))
    node = pod["spec"].get("nodeName")
    if not node:
        return Response(204, b"", b"")  # no host, no log: an empty one
    if simulated.has(registry, pod):
        return simulated.log(registry, pod, options)
    raise _no_kubelet(registry, node)


def _log_errors(options: Object) -> list[FieldError]:
    errors = []
    tail, limit, since = options.get("tailLines"), options.get("limitBytes"), options.get("sinceSeconds")
    stream = options.get("stream", "All")
    if tail is not None and tail < 0:
        errors.append(field.invalid("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        errors.append(field.invalid("limitBytes", limit, "must be greater than 0"))
    if since is not None and "sinceTime" in options:
        errors.append(field.forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif since is not None and since < 1:
        errors.append(field.invalid("sinceSeconds", since, "must be greater than 0"))
    if stream not in _LOG_STREAMS:
        errors.append(field.not_supported("stream", stream, _LOG_STREAMS))
    elif stream != "All" and tail is not None:
        errors.append(field.forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now"))
    return errors


def _check_container(pod: Object, container: str) -> None:
    """A container that is named must be there; where there are several, one must be named. Raises 400."""
    name, spec = pod["metadata"]["name"], pod["spec"]
    names = {
        kind: [one["name"] for one in spec.get(kind) or []]
        for kind in ("initContainers", "containers", "ephemeralContainers")
    }
    if container:
        if not any(container in some for some in names.values()):
            raise status.bad_request(f"container {container} is not valid for pod {name}")
        return
    if len(names["containers"]) == 1:
        return
    text = f"a container name must be specified for pod {name}"
    if names["containers"]:
        text += f", choose one of: [{' '.join(names['containers'])}]"
        if names["initContainers"]:
            text += f" or one of the init containers: [{' '.join(names['initContainers'])}]"
    raise status.bad_request(text)


def _no_kubelet(registry: Registry, name: str) -> status.StatusError:
    """Why a node's kubelet cannot be asked. 404 where there is no such node."""
    nodes = registry.resources.get("", "v1", "nodes")
    assert nodes is not None
    node = registry.entry(nodes, "", name).object()
    addresses = (node.get("status") or {}).get("addresses") or []
    if not addresses:
        return status.StatusError(500, "", "no preferred addresses found; known addresses: []")
    text = f"kubegate reaches no kubelets: {addresses[0].get('address', '')} of node {name} is not asked"
    return status.StatusError(503, "ServiceUnavailable", text)


# ------------------------------------------------------------------ proxies
def _split(name: str) -> tuple[str, str] | None:
    """`[scheme:]name[:port]` to name and port; None where it is none of these."""
    parts = name.split(":")
    if len(parts) == 3 and parts[0] in ("http", "https") and parts[1]:
        return parts[1], parts[2]
    if len(parts) == 2 and parts[0]:
        return parts[0], parts[1]
    return (name, "") if len(parts) == 1 and name else None


def _pod_proxy(registry: Registry, resource: Resource, namespace: str, name: str) -> status.StatusError:
    found = _split(name)
    if found is None:
        return status.bad_request(f'invalid pod request "{name}"')
    pod = registry.entry(resource, namespace, found[0]).object()
    address = (pod.get("status") or {}).get("podIP", "")
    try:
        parsed = ipaddress.ip_address(address)
        proxied = not (parsed.is_loopback or parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified)
    except ValueError:
        proxied = False
    if not proxied:
        return status.bad_request("address not allowed")
    return _nowhere(f'pod "{found[0]}" at {address}')


def _service_proxy(registry: Registry, resource: Resource, namespace: str, name: str) -> status.StatusError:
    found = _split(name)
    if found is None:
        return status.bad_request(f'invalid service request "{name}"')
    service, port = found
    obj = registry.entry(resource, namespace, service).object()
    ports = obj["spec"].get("ports") or []
    if port.isdecimal() and not any(str(one.get("port")) == port for one in ports):
        return status.StatusError(503, "ServiceUnavailable", f'no service port {port} found for service "{service}"')
    return status.StatusError(503, "ServiceUnavailable", f'no endpoints available for service "{service}"')


def _node_proxy(registry: Registry, resource: Resource, namespace: str, name: str) -> status.StatusError:
    found = _split(name)
    if found is None:
        return status.bad_request(f'invalid node request "{name}"')
    return _no_kubelet(registry, found[0])


def _nowhere(what: str) -> status.StatusError:
    return status.StatusError(503, "ServiceUnavailable", f"kubegate proxies to nothing: {what} is not asked")


_PROXIES: dict[str, Callable[[Registry, Resource, str, str], status.StatusError]] = {
    "pods": _pod_proxy,
    "services": _service_proxy,
    "nodes": _node_proxy,
}
