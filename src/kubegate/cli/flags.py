"""What `kubegate serve --help` prints: every flag of `server.options.Options`, grouped, with its default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, get_type_hints

from kubegate.server.options import IGNORED, Options

GROUPS: dict[str, dict[str, str]] = {
    "Where it listens": {
        "secure_port": "the TLS port; 0 takes a free one",
        "bind_address": "where to listen",
        "advertise_address": "what clients are told; --bind-address where left out",
        "tls_cert_file": "the serving certificate; one is made in --cert-dir where left out",
        "tls_private_key_file": "its key",
        "cert_dir": "where keys that no flag names are made; DATA-DIR/pki where left out",
        "workers": "processes that serve the port together, on SQLite or etcd",
    },
    "Where objects live": {
        "data_dir": "the SQLite file, keys and admin.kubeconfig; .kubegate where left out",
        "storage": "sqlite:PATH, or memory: nothing outlives the process; the file in --data-dir where left out",
        "etcd_servers": "an etcd cluster",
        "etcd_cafile": "who signed its certificates",
        "etcd_certfile": "our certificate for it",
        "etcd_keyfile": "our key for it",
        "etcd_prefix": "what keys in it begin with",
        "encryption_provider_config": "EncryptionConfiguration",
        "event_ttl": "how long Events are kept",
    },
    "Who is asking": {
        "client_ca_file": "authorities for client certificates",
        "token_auth_file": "CSV: token, user, uid, groups",
        "basic_auth_file": "CSV: password, user, uid, groups",
        "anonymous_auth": "requests without credentials are system:anonymous; true where left out",
        "authentication_config": "AuthenticationConfiguration: issuers of JWTs, anonymous by path",
        "enable_bootstrap_token_auth": "bootstrap tokens of kube-system",
        "requestheader_client_ca_file": "authorities for a proxy in front that names users in headers",
        "requestheader_allowed_names": "common names of its certificate; any where left out",
        "requestheader_username_headers": "headers with the user's name",
        "requestheader_uid_headers": "with its uid",
        "requestheader_group_headers": "with its groups",
        "requestheader_extra_headers_prefix": "what those with extra values begin with",
        "authentication_token_webhook_config_file": "kubeconfig of a webhook for TokenReviews",
        "authentication_token_webhook_version": "of those reviews",
        "authentication_token_webhook_cache_ttl": "how long its answers are remembered",
        "api_audiences": "whom tokens are for; the issuers where left out",
        "service_account_issuer": "issuer of service account tokens; more are accepted",
        "service_account_key_file": "keys that check them",
        "service_account_signing_key_file": "the key that signs them",
        "service_account_jwks_uri": "where the discovery document says the keys are",
        "service_account_lookup": "whether a token ends with its account",
        "service_account_max_token_expiration": "the longest that may be asked for; 0 for no bound",
        "service_account_extend_token_expiration": "whether tokens of an hour live for a year, as clients of old want",
        "oidc_issuer_url": "one issuer of ID tokens",
        "oidc_client_id": "whom they are for",
        "oidc_username_claim": "the claim that is the user's name",
        "oidc_username_prefix": "what is put before it",
        "oidc_groups_claim": "the claim that has the groups",
        "oidc_groups_prefix": "what is put before them",
        "oidc_required_claim": "NAME=VALUE that a token must have",
        "oidc_signing_algs": "how tokens may be signed",
        "oidc_ca_file": "who signed the issuer's certificate",
        "aws_iam_cluster_id": "AWS IAM identities as users: what their tokens are signed for",
        "aws_iam_partition": "partitions of AWS; all where left out",
        "aws_iam_sts_endpoint": "HOST[:PORT] instead of AWS's own",
        "aws_iam_sts_cafile": "who signed their certificates",
        "aws_iam_sts_qps": "calls a second",
        "aws_iam_backend_mode": "where identities are mapped, in order",
        "aws_iam_mapping_file": "mappings for the mode MountedFile",
        "aws_iam_private_dns_file": "private DNS names of instances",
    },
    "May they": {
        "authorization_mode": "in order: Node, RBAC, ABAC, Webhook, AlwaysAllow, AlwaysDeny",
        "authorization_config": "AuthorizationConfiguration instead of the modes",
        "authorization_policy_file": "ABAC's policy",
        "authorization_webhook_config_file": "kubeconfig of a webhook for SubjectAccessReviews",
        "authorization_webhook_version": "of those reviews",
        "authorization_webhook_cache_authorized_ttl": "how long a yes is remembered",
        "authorization_webhook_cache_unauthorized_ttl": "how long a no is remembered",
    },
    "May the object be so": {
        "enable_admission_plugins": "beside those on by default",
        "disable_admission_plugins": "of those on by default",
        "admission_control_config_file": "AdmissionConfiguration",
        "default_not_ready_toleration_seconds": "of the plugin DefaultTolerationSeconds",
        "default_unreachable_toleration_seconds": "of the plugin DefaultTolerationSeconds",
        "service_resolver": "NAME.NAMESPACE.svc=HOST:PORT: where a webhook's Service is",
        "gate": "policies as Python functions, in this process",
    },
    "Audit": {
        "audit_policy_file": "the policy; nothing is logged without one",
        "audit_log_path": "the file; - for standard output",
        "audit_log_maxage": "days for which full files are kept; 0 for ever",
        "audit_log_maxbackup": "how many full files are kept; 0 for all",
        "audit_log_maxsize": "megabytes of a file; 0 for no bound",
        "audit_webhook_config_file": "kubeconfig of a webhook for events",
        "audit_webhook_batch_max_size": "events in a batch",
        "audit_webhook_batch_max_wait": "how long a batch waits to be full",
        "audit_webhook_batch_buffer_size": "events that may wait; more are dropped and counted",
    },
    "What became of requests": {
        "request_trace_path": "the file for `kubegate trace`; - for standard error; DATA-DIR/traces.jsonl with up",
        "request_trace_maxsize": "megabytes of it, until it is put aside; 0 for no bound",
        "request_trace_qps": "how many a second, after a burst of ten times as many; 0 for no bound; 100 with up",
    },
    "The cluster": {
        "allow_privileged": "whether containers may be privileged",
        "service_cluster_ip_range": "addresses of Services",
        "service_node_port_range": "their node ports",
        "service_account_legacy_tokens": "a token Secret for every account, as before v1.24",
        "legacy_service_account_token_clean_up_period": "for how long such a token must be unused to be marked",
        "controllers": "*, names, -NAME; none for no controller at all",
        "cluster_signing_cert_file": "what certificate signing requests are signed with; the CA in --cert-dir",
        "cluster_signing_key_file": "its key",
        "root_ca_file": "the CA that pods are given",
        "simulate_nodes": "so many nodes that take pods and run nothing of them",
        "simulate_nodes_exec": "DANGEROUS: who may create pods/exec runs commands on this machine",
    },
    "Bounds": {
        "max_requests_inflight": "reads at a time; 0 for no bound",
        "max_mutating_requests_inflight": "writes at a time; 0 for no bound",
        "max_connections": "connections; 0 for no bound",
        "request_timeout": "seconds that a write may take: then it is ended with 504",
        "min_request_timeout": "seconds after which a watch ends, or up to twice as many",
        "max_request_body_bytes": "larger bodies are refused",
        "shutdown_delay_duration": "how long requests are still taken while /readyz fails already",
    },
    "The log": {"v": "0: what is wrong; 1: what happens, too; 4: all there is"},
}
_INDENT = " " * 26


def described(width: int) -> Iterator[str]:
    """The lines, of so many columns at most."""
    defaults, types = Options(), get_type_hints(Options)
    for title, flags in GROUPS.items():
        yield f"\n{title}:"
        for name, text in flags.items():
            flag = f"  --{name.replace('_', '-')}{_value(types[name])}"
            default = _shown(getattr(defaults, name), types[name])
            told = f"{text} ({default})" if default else text
            lines = textwrap.wrap(told, max(width - len(_INDENT), 20), break_on_hyphens=False)
            if len(flag) < len(_INDENT):
                flag, lines = flag.ljust(len(_INDENT)) + lines[0], lines[1:]
            yield flag
            yield from (_INDENT + line for line in lines)
    yield "\nTaken, without effect here:"
    yield from textwrap.wrap(
        " ".join(f"--{name}" for name in sorted(IGNORED)),
        width,
        initial_indent="  ",
        subsequent_indent="  ",
        break_on_hyphens=False,
    )


def _value(kind: Any) -> str:
    """What stands behind a flag: nothing for those that are on when they are named."""
    if kind in (bool, bool | None):
        return ""
    return {int: " N", float: " DURATION", str: " TEXT"}.get(kind, " A,B")


def _shown(default: Any, kind: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if kind is float:
        return _duration(default)
    return ",".join(default) if isinstance(default, list) else str(default if default is not None else "")


def _duration(seconds: float) -> str:
    """As it may be given: `2m`, `1h`."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"
