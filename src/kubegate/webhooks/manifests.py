"""What a cluster needs to call the webhook server: the server itself, its registration, and kubeconfigs for flags."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubegate.api import Object
from kubegate.webhooks.certificates import ensure
from kubegate.webhooks.gate import Gate, Kind, Policy
from kubegate.webhooks.policyfile import load

_PORT = 8443
_USER = 65532
_VERSIONS = ["v1", "v1beta1"]
_KUBECONFIGS: tuple[Kind, ...] = ("authenticate", "authorize", "images")
_PARTS = ("server", "configurations", "authentication", "authorization", "images")
_KIND_OF_PART: dict[str, Kind] = {"authentication": "authenticate", "authorization": "authorize", "images": "images"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be printed. `url`: the server is there, outside the cluster, and no Deployment is printed.

    `issuer` is a cert-manager Issuer (`NAME`) or ClusterIssuer (`ClusterIssuer/NAME`), "" for certificates made here.
    """

    gate: Gate
    policies: str
    """The policy file's text."""
    name: str
    namespace: str
    image: str = "kubegate:latest"
    replicas: int = 2
    issuer: str = ""
    url: str = ""

    @classmethod
    def of(cls, path: Path, *, service: str, image: str, replicas: int, issuer: str, url: str) -> Plan:
        """Raises PolicyFileError, and ValueError for a service or URL that is none."""
        name, dot, namespace = service.partition(".")
        if not name or not dot or not namespace or "." in namespace:
            raise ValueError(f"--service={service}: wanted is NAME.NAMESPACE")
        if url and (urlsplit(url).scheme != "https" or not urlsplit(url).hostname):
            raise ValueError(f"--url={url}: wanted is https://HOST[:PORT]")
        return cls(load(path), path.read_text(), name, namespace, image, replicas, issuer, url.rstrip("/"))

    @property
    def hosts(self) -> list[str]:
        """The names that the certificate is for."""
        service = f"{self.name}.{self.namespace}.svc"
        url = [urlsplit(self.url).hostname or ""] if self.url else []
        return [*url, service, f"{service}.cluster.local", "localhost", "127.0.0.1"]

    def client(self, path: str, authority: bytes) -> Object:
        """A webhook's clientConfig."""
        if self.url:
            found: Object = {"url": self.url + path}
        else:
            found = {"service": {"name": self.name, "namespace": self.namespace, "path": path, "port": 443}}
        if authority:
            found["caBundle"] = base64.b64encode(authority).decode()
        return found


def render(plan: Plan, cert_dir: Path, only: str = "") -> str:
    """YAML for `kubectl apply -f -`; with `only` authentication, authorization or images a kubeconfig.

    Certificates are made in `cert_dir` where they are missing. Raises ValueError and OSError.
    """
    if only and only not in _PARTS:
        raise ValueError(f"--only={only}: there are {', '.join(_PARTS)}")
    # cert-manager's own authority is not known here: its injector writes it
    authority = b"" if plan.issuer else ensure(cert_dir, plan.hosts)
    kind = _KIND_OF_PART.get(only)
    if kind is not None:
        if not plan.gate.of(kind):
            raise ValueError(f"--only={only}: there is no @gate.{kind} in the policy file")
        return _yaml([_kubeconfig(plan, kind, authority)])
    documents: list[Object] = []
    if only != "configurations" and not plan.url:
        documents += _server(plan, cert_dir)
    if only != "server":
        documents += _configurations(plan, authority)
        documents += _kubeconfigs(plan, authority)
    return _yaml(documents)


def print_dockerfile(policies: str) -> str:
    """An image of the server and the policy file that runs as nobody in particular."""
    return f"""\
FROM python:3.13-slim
RUN pip install --no-cache-dir kubegate \\
 && useradd --uid {_USER} --no-create-home --shell /usr/sbin/nologin kubegate
COPY {policies} /policies/policies.py
USER {_USER}:{_USER}
EXPOSE {_PORT}
ENTRYPOINT ["kubegate", "webhook", "/policies/policies.py"]
CMD ["--tls-secret-dir", "/tls", "--secure-port", "{_PORT}", "--shutdown-delay", "5"]
"""


def _yaml(documents: Iterable[Object]) -> str:
    import yaml

    found: str = yaml.dump_all(documents, Dumper=_Dumper(yaml), sort_keys=False, default_flow_style=False)
    return found


def _Dumper(yaml: Any) -> Any:
    """Texts of several lines as blocks, so that people can read the policy file in its ConfigMap."""

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


# ------------------------------------------------------------------ the server
def _server(plan: Plan, cert_dir: Path) -> list[Object]:
    """Account, role, policies, certificate, Deployment and Service."""
    account = _object("v1", "ServiceAccount", plan) | {"automountServiceAccountToken": False}
    role = _object("rbac.authorization.k8s.io/v1", "Role", plan)
    # Policies see what they are sent. Those that read the cluster get here what they need beside, and a token above.
    own = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [f"{plan.name}-policies"], "verbs": ["get"]}
    role["rules"] = [own]
    binding = _object("rbac.authorization.k8s.io/v1", "RoleBinding", plan)
    binding["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": plan.name}
    binding["subjects"] = [{"kind": "ServiceAccount", "name": plan.name, "namespace": plan.namespace}]
    policies = _object("v1", "ConfigMap", plan, "-policies") | {"data": {"policies.py": plan.policies}}
    service = _object("v1", "Service", plan)
    service["spec"] = {
        "selector": _labels(plan),
        "ports": [{"name": "https", "port": 443, "targetPort": "https", "protocol": "TCP"}],
    }
    return [account, role, binding, policies, _certificate(plan, cert_dir), _deployment(plan), service]


def _labels(plan: Plan) -> dict[str, str]:
    return {"app.kubernetes.io/name": "kubegate-webhook", "app.kubernetes.io/instance": plan.name}


def _object(api_version: str, kind: str, plan: Plan, suffix: str = "", *, namespaced: bool = True) -> Object:
    metadata: Object = {"name": plan.name + suffix}
    if namespaced:
        metadata["namespace"] = plan.namespace
    metadata["labels"] = _labels(plan)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _certificate(plan: Plan, cert_dir: Path) -> Object:
    """A Secret with what is in the folder, or a Certificate that lets cert-manager make one."""
    secret = f"{plan.name}-tls"
    if not plan.issuer:
        found = _object("v1", "Secret", plan, "-tls") | {"type": "kubernetes.io/tls"}
        pair = {name: (cert_dir / name).read_bytes() for name in ("tls.crt", "tls.key")}
        found["data"] = {name: base64.b64encode(pem).decode() for name, pem in pair.items()}
        return found
    kind, _, name = plan.issuer.rpartition("/")
    found = _object("cert-manager.io/v1", "Certificate", plan, "-tls")
    found["spec"] = {
        "secretName": secret,
        "dnsNames": [host for host in plan.hosts if host.endswith((".svc", ".svc.cluster.local"))],
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "issuerRef": {"group": "cert-manager.io", "kind": kind or "Issuer", "name": name},
    }
    return found


def _deployment(plan: Plan) -> Object:
    def probe(path: str) -> Object:
        return {"httpGet": {"path": path, "port": "https", "scheme": "HTTPS"}, "periodSeconds": 5}

    container = {
        "name": "webhook",
        "image": plan.image,
        "args": ["--tls-secret-dir", "/tls", "--secure-port", str(_PORT), "--shutdown-delay", "5"],
        "ports": [{"name": "https", "containerPort": _PORT}],
        "livenessProbe": probe("/livez"),
        "readinessProbe": probe("/readyz"),
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "policies", "mountPath": "/policies", "readOnly": True},
            {"name": "tls", "mountPath": "/tls", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    found = _object("apps/v1", "Deployment", plan)
    found["spec"] = {
        "replicas": plan.replicas,
        "selector": {"matchLabels": _labels(plan)},
        "template": {
            "metadata": {"labels": _labels(plan)},
            "spec": {
                "serviceAccountName": plan.name,
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": _USER,
                    "runAsGroup": _USER,
                    "fsGroup": _USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                "volumes": [
                    {"name": "policies", "configMap": {"name": f"{plan.name}-policies"}},
                    {"name": "tls", "secret": {"secretName": f"{plan.name}-tls", "defaultMode": 0o440}},
                    {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                ],
            },
        },
    }
    return found


# ------------------------------------------------------------------ its registration
_CONFIGURATIONS: tuple[tuple[Kind, str], ...] = (
    ("mutate", "MutatingWebhookConfiguration"),
    ("validate", "ValidatingWebhookConfiguration"),
)


def _configurations(plan: Plan, authority: bytes) -> list[Object]:
    found = []
    for kind, name in _CONFIGURATIONS:
        policies = plan.gate.of(kind)
        if not policies:
            continue
        configuration = _object("admissionregistration.k8s.io/v1", name, plan, f"-{plan.namespace}", namespaced=False)
        if plan.issuer:
            injected = f"{plan.namespace}/{plan.name}-tls"
            configuration["metadata"]["annotations"] = {"cert-manager.io/inject-ca-from": injected}
        configuration["webhooks"] = [_webhook(plan, policy, authority) for policy in policies]
        found.append(configuration)
    return found


def _webhook(plan: Plan, policy: Policy, authority: bytes) -> Object:
    scope = policy.scope
    if scope is None:
        raise ValueError(f"policy {policy.name} has no rules")
    found: Object = {
        "name": f"{policy.name}.{plan.name}.{plan.namespace}",
        "clientConfig": plan.client(f"/{policy.kind}/{policy.name}", authority),
        "rules": scope.rules(),
        "admissionReviewVersions": _VERSIONS,
        "sideEffects": "NoneOnDryRun" if scope.side_effects else "None",
        "failurePolicy": scope.failure_policy,
        "matchPolicy": "Equivalent",
        "timeoutSeconds": scope.timeout,
    }
    if scope.namespace_selector:
        found["namespaceSelector"] = dict(scope.namespace_selector)
    elif not plan.url and any(each.resource in ("pods", "*") for each in scope.resources):
        found["matchConditions"] = [{"name": "not-its-own-pods", "expression": _not_own(plan)}]
    if scope.object_selector:
        found["objectSelector"] = dict(scope.object_selector)
    return found


def _not_own(plan: Plan) -> str:
    """A server that is down must not be asked whether it may start."""
    return (
        f'!(request.operation == "CREATE" && request.namespace == "{plan.namespace}"'
        ' && request.resource.group == "" && request.resource.resource == "pods"'
        f' && object.?spec.?serviceAccountName.orValue("") == "{plan.name}")'
    )


# ------------------------------------------------------------------ kubeconfigs for an API server's flags
def _kubeconfig(plan: Plan, kind: Kind, authority: bytes) -> Object:
    """For --authentication-token-webhook-config-file, --authorization-webhook-config-file and imagePolicy."""
    from kubegate.pki import kubeconfig

    server = (plan.url or f"https://{plan.name}.{plan.namespace}.svc") + f"/{kind}"
    return kubeconfig.new(
        server,
        authority=authority or None,
        user=kubeconfig.User(),
        cluster_name=plan.name,
        user_name="kube-apiserver",
    )


def _kubeconfigs(plan: Plan, authority: bytes) -> list[Object]:
    """All of them in a ConfigMap: they hold no secret, and an API server's files are somebody else's to write."""
    kinds: Sequence[Kind] = [kind for kind in _KUBECONFIGS if plan.gate.of(kind)]
    if not kinds:
        return []
    found = _object("v1", "ConfigMap", plan, "-kubeconfigs")
    found["data"] = {f"{kind}.kubeconfig": _yaml([_kubeconfig(plan, kind, authority)]) for kind in kinds}
    return [found]
