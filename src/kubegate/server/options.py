"""kube-apiserver's flags: those that mean something here, and those that are known and left aside.

A kube-apiserver command line can be lifted over: `parse(argv)` takes `--flag=value`, `--flag value` and `--flag` for
booleans, refuses what it does not know with the nearest name, and says which flags have no effect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct, field

from kubegate.api import durations


class UsageError(Exception):
    """A command line or file that cannot be used. One line for people: what, where, and what would be right."""


class Options(Struct):
    """One field for each flag; `bind_address` is `--bind-address`. Durations are in seconds."""

    # where it listens
    secure_port: int = 6443
    bind_address: str = "127.0.0.1"
    advertise_address: str = ""
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    cert_dir: str = ""
    workers: int = 1
    # authentication
    client_ca_file: str = ""
    token_auth_file: str = ""
    basic_auth_file: str = ""
    anonymous_auth: bool | None = None
    authentication_config: str = ""
    enable_bootstrap_token_auth: bool = False
    requestheader_client_ca_file: str = ""
    requestheader_allowed_names: list[str] = field(default_factory=list)
    requestheader_username_headers: list[str] = field(default_factory=list)
    requestheader_uid_headers: list[str] = field(default_factory=list)
    requestheader_group_headers: list[str] = field(default_factory=list)
    requestheader_extra_headers_prefix: list[str] = field(default_factory=list)
    authentication_token_webhook_config_file: str = ""
    authentication_token_webhook_version: str = "v1beta1"
    authentication_token_webhook_cache_ttl: float = 120.0
    api_audiences: list[str] = field(default_factory=list)
    service_account_issuer: list[str] = field(default_factory=list)
    service_account_key_file: list[str] = field(default_factory=list)
    service_account_signing_key_file: str = ""
    service_account_jwks_uri: str = ""
    service_account_lookup: bool = True
    service_account_max_token_expiration: float = 0.0
    service_account_extend_token_expiration: bool = True
    oidc_issuer_url: str = ""
    oidc_client_id: str = ""
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str = ""
    oidc_groups_prefix: str = ""
    oidc_required_claim: list[str] = field(default_factory=list)
    oidc_signing_algs: list[str] = field(default_factory=lambda: ["RS256"])
    oidc_ca_file: str = ""
    aws_iam_cluster_id: str = ""
    aws_iam_partition: list[str] = field(default_factory=list)
    aws_iam_sts_endpoint: list[str] = field(default_factory=list)
    aws_iam_sts_cafile: str = ""
    aws_iam_sts_qps: int = 200
    aws_iam_backend_mode: list[str] = field(default_factory=lambda: ["EKSConfigMap"])
    aws_iam_mapping_file: str = ""
    aws_iam_private_dns_file: str = ""
    # authorization
    authorization_mode: list[str] = field(default_factory=lambda: ["Node", "RBAC"])
    authorization_config: str = ""
    authorization_policy_file: str = ""
    authorization_webhook_config_file: str = ""
    authorization_webhook_version: str = "v1beta1"
    authorization_webhook_cache_authorized_ttl: float = 300.0
    authorization_webhook_cache_unauthorized_ttl: float = 30.0
    # admission
    enable_admission_plugins: list[str] = field(default_factory=list)
    disable_admission_plugins: list[str] = field(default_factory=list)
    admission_control_config_file: str = ""
    default_not_ready_toleration_seconds: int = 300
    default_unreachable_toleration_seconds: int = 300
    service_resolver: list[str] = field(default_factory=list)
    gate: str = ""
    # audit
    audit_policy_file: str = ""
    audit_log_path: str = ""
    audit_log_maxage: int = 0
    audit_log_maxbackup: int = 0
    audit_log_maxsize: int = 0
    audit_webhook_config_file: str = ""
    audit_webhook_batch_max_size: int = 400
    audit_webhook_batch_max_wait: float = 30.0
    audit_webhook_batch_buffer_size: int = 10000
    # request traces
    request_trace_path: str = ""
    request_trace_maxsize: int = 100
    request_trace_qps: int = 0
    # storage
    storage: str = ""
    data_dir: str = ""
    etcd_servers: list[str] = field(default_factory=list)
    etcd_cafile: str = ""
    etcd_certfile: str = ""
    etcd_keyfile: str = ""
    etcd_prefix: str = "/registry"
    encryption_provider_config: str = ""
    event_ttl: float = 3600.0
    # the cluster
    allow_privileged: bool = True
    service_cluster_ip_range: str = "10.96.0.0/12"
    service_node_port_range: str = "30000-32767"
    service_account_legacy_tokens: bool = False
    legacy_service_account_token_clean_up_period: float = 365 * 24 * 3600.0
    controllers: list[str] = field(default_factory=lambda: ["*"])
    cluster_signing_cert_file: str = ""
    cluster_signing_key_file: str = ""
    root_ca_file: str = ""
    simulate_nodes: int = 0
    simulate_nodes_exec: bool = False
    # bounds
    max_requests_inflight: int = 400
    max_mutating_requests_inflight: int = 200
    max_connections: int = 0
    min_request_timeout: int = 1800
    request_timeout: float = 60.0
    max_request_body_bytes: int = 3 * 1024 * 1024
    shutdown_delay_duration: float = 0.0
    # the log
    v: int = 0


# Flags of kube-apiserver that are taken and have no effect here: they tune what kubegate does not have.
IGNORED = frozenset(
    {
        "allow-metric-labels", "apiserver-count", "contention-profiling",
        "cors-allowed-origins", "debug-socket-path", "default-watch-cache-size",
        "delete-collection-workers", "egress-selector-config-file", "emulated-version",
        "enable-aggregator-routing", "enable-garbage-collector", "enable-priority-and-fairness",
        "endpoint-reconciler-type", "etcd-compaction-interval", "etcd-count-metric-poll-period",
        "etcd-db-metric-poll-interval", "etcd-healthcheck-timeout", "etcd-readycheck-timeout",
        "external-hostname", "feature-gates", "goaway-chance", "http2-max-streams-per-connection",
        "kubelet-certificate-authority", "kubelet-client-certificate", "kubelet-client-key",
        "kubelet-preferred-address-types", "kubelet-timeout", "lease-reuse-duration-seconds",
        "livez-grace-period", "log-flush-frequency", "logging-format", "logtostderr",
        "max-connection-bytes-per-sec", "peer-ca-file", "permit-address-sharing", "permit-port-sharing",
        "profiling", "proxy-client-cert-file", "proxy-client-key-file", "runtime-config",
        "shutdown-send-retry-after", "storage-backend", "storage-media-type",
        "strict-transport-security-directives", "tls-cipher-suites", "tls-min-version", "tls-sni-cert-key",
        "tracing-config-file", "vmodule", "watch-cache", "watch-cache-sizes",
    }
)  # fmt: skip


class Parsed(Struct, frozen=True):
    """The options, the names that were given, and those of them that have no effect."""

    options: Options
    given: frozenset[str]
    ignored: tuple[str, ...]


def parse(argv: Sequence[str]) -> Parsed:
    """Raises UsageError."""
    options = Options()
    known = {name.replace("_", "-"): name for name in Options.__struct_fields__}
    given: dict[str, None] = {}
    ignored: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UsageError(f"{word!r} is not a flag: options are given as --name=value")
        name, equals, value = word[2:].partition("=")
        if name in IGNORED:
            if not equals and rest and not rest[0].startswith("--"):
                rest.pop(0)
            ignored.append(name)
            continue
        if name not in known:
            import difflib  # for mistakes alone

            near = difflib.get_close_matches(name, [*known, *IGNORED], 1)
            hint = f"; the nearest known one is --{near[0]}" if near else ""
            raise UsageError(f"unknown flag --{name}{hint}")
        kind = Options.__annotations__[known[name]]
        boolean = kind in _BOOLEAN
        if not equals and not boolean:
            if not rest:
                raise UsageError(f"--{name} wants a value: --{name}=VALUE")
            value = rest.pop(0)
        elif not equals:
            value = "true"
        _set(options, known[name], kind, name, value, again=name in given)
        given[name] = None
    return Parsed(options, frozenset(given), tuple(ignored))


def values(options: Options) -> dict[str, str]:
    """The value of each flag that means something here, written as flags are given. Addresses without passwords."""
    found = {}
    for attribute in Options.__struct_fields__:
        value, kind = getattr(options, attribute), Options.__annotations__[attribute]
        if kind in _BOOLEAN:
            text = str(value is not False).lower()
        elif kind == "float":
            text = durations.text(value)
        else:
            text = f"[{','.join(value)}]" if isinstance(value, list) else str(value)
        found[attribute.replace("_", "-")] = _PASSWORD.sub(r"\1", text)
    return found


_BOOLEAN = ("bool", "bool | None")
_PASSWORD = re.compile(r"(://)[^/@,\]]*@")


def _set(options: Options, attribute: str, kind: str, name: str, value: str, *, again: bool) -> None:
    try:
        if kind in _BOOLEAN:
            if value.lower() not in ("true", "false", "1", "0", "t", "f"):
                raise ValueError("true or false")
            setattr(options, attribute, value.lower() in ("true", "1", "t"))
        elif kind == "int":
            setattr(options, attribute, int(value))
        elif kind == "float":
            setattr(options, attribute, durations.parse(value))
        elif kind == "str":
            setattr(options, attribute, value)
        else:  # a list: commas, and the flag may be repeated
            items = [item for item in value.split(",") if item]
            setattr(options, attribute, [*getattr(options, attribute), *items] if again else items)
    except ValueError as error:
        wanted = {"int": "a whole number", "float": "a duration such as 30s or 5m"}.get(kind, str(error))
        raise UsageError(f"--{name}={value}: expected {wanted}") from None
