"""EKS's access entries and access policies as objects of the cluster, and IAMIdentityMapping: what they say.

An AccessEntry (iam.kubegate.dev/v1alpha1) has the fields of EKS's CreateAccessEntry and AssociateAccessPolicy. Names
that begin with system:, eks:, aws:, amazon: and iam: are not an entry's to give: those of nodes come with the type.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from kubegate.api import Object
from kubegate.aws.arn import Arn, BadArn, canonical, without_path
from kubegate.aws.mapping import BadMapping, MapEntry, mapped_arn, template

ACCESS_ENTRIES = "accessentries.iam.kubegate.dev"
ACCESS_ENTRY_API = "iam.kubegate.dev/v1alpha1"
IDENTITY_MAPPINGS = "iamidentitymappings.iamauthenticator.k8s.aws"
IDENTITY_MAPPING_API = "iamauthenticator.k8s.aws/v1alpha1"

RESERVED = ("system:", "eks:", "aws:", "amazon:", "iam:")
_RESERVED_TEXT = ", ".join(RESERVED)
STANDARD = "STANDARD"
_NODES = ("system:bootstrappers", "system:nodes")
_TYPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "EC2": ("system:node:{{EC2PrivateDNSName}}", _NODES),
    "EC2_LINUX": ("system:node:{{EC2PrivateDNSName}}", _NODES),
    "EC2_WINDOWS": ("system:node:{{EC2PrivateDNSName}}", (*_NODES, "eks:kube-proxy-windows")),
    "FARGATE_LINUX": ("system:node:{{SessionName}}", (*_NODES, "system:node-proxier")),
    "HYBRID_LINUX": ("system:node:{{SessionName}}", _NODES),
}
TYPES = (STANDARD, *_TYPES)

POLICIES: dict[str, str] = {
    "AmazonEKSClusterAdminPolicy": "cluster-admin",
    "AmazonEKSAdminPolicy": "admin",
    "AmazonEKSEditPolicy": "edit",
    "AmazonEKSViewPolicy": "view",
}
"""Access policy -> the ClusterRole whose rules it stands for."""

_POLICY_ARN = re.compile(r"arn:[a-z-]+:eks::aws:cluster-access-policy/([A-Za-z]+)", re.ASCII)
_POLICIES = "spec.accessPolicies"
_SESSION = re.compile(r"\{\{SessionName(Raw)?\}\}")


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """`namespaces` None is the whole cluster; each may have `*` in it for any letters."""

    name: str
    role: str
    namespaces: tuple[str, ...] | None

    def holds_in(self, namespace: str) -> bool:
        """Whether it says something of this namespace ("": of what is in none)."""
        if self.namespaces is None:
            return True
        return bool(namespace) and any(_wildcard(each).fullmatch(namespace) for each in self.namespaces)


@dataclass(frozen=True, slots=True)
class AccessEntry:
    name: str
    entry: MapEntry
    policies: tuple[AccessPolicy, ...]


@cache
def _wildcard(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")))


def parse_entry(obj: Object) -> AccessEntry:
    """Raises BadMapping, which names the field."""
    name, spec = obj["metadata"]["name"], _object(obj.get("spec"), "spec")
    principal = str(spec.get("principalArn") or "")
    arn = mapped_arn(principal, "spec.principalArn")
    if arn.split(":")[2] == "sts":
        raise BadMapping("spec.principalArn: a session passes; the role itself is right")
    found = spec.get("type") or STANDARD
    groups = _texts(spec.get("kubernetesGroups"), "spec.kubernetesGroups")
    policies = tuple(_policy(each, at) for at, each in enumerate(_list(spec.get("accessPolicies"), _POLICIES)))
    if not isinstance(found, str) or found not in TYPES:
        raise BadMapping(f"spec.type: there are {', '.join(TYPES)}")
    if found in _TYPES:
        if ":role/" not in arn or spec.get("username") or groups or policies:
            raise BadMapping(f"spec: an entry of type {found} is a role's, without username, groups or policies")
        return AccessEntry(name, MapEntry(_looked_up(principal), *_TYPES[found]), ())
    username = template(spec.get("username") or _default_username(principal), "spec.username")
    for place, text in [("spec.username", username), *(("spec.kubernetesGroups", group) for group in groups)]:
        template(text, place)
        if text.startswith(RESERVED):
            raise BadMapping(
                f"{place}: {text!r}: names that begin with {', '.join(RESERVED)} are not an entry's to give"
            )
    session = _SESSION.search(username)
    if session is not None and ":" not in username[: session.start()]:
        raise BadMapping("spec.username: a colon must stand before the session's name, which its user chooses")
    return AccessEntry(name, MapEntry(_looked_up(principal), username, groups), policies)


def _looked_up(principal: str) -> str:
    try:
        return without_path(principal).lower()
    except BadArn as error:
        raise BadMapping(f"spec.principalArn: {error}") from None


def _default_username(principal: str) -> str:
    """As EKS has it: a user is its ARN, a role's sessions are theirs."""
    arn = Arn.parse(without_path(principal))
    if arn.kind != "role":
        return principal
    return f"arn:{arn.partition}:sts::{arn.account}:assumed-role/{arn.resource.partition('/')[2]}/{{{{SessionName}}}}"


def _object(value: Any, place: str) -> Object:
    if value is not None and not isinstance(value, dict):
        raise BadMapping(f"{place}: must be an object")
    return value or {}


def _list(value: Any, place: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise BadMapping(f"{place}: must be a list")
    return value or []


def _texts(value: Any, place: str) -> tuple[str, ...]:
    found = _list(value, place)
    if not all(isinstance(each, str) and each for each in found):
        raise BadMapping(f"{place}: must be a list of texts")
    return tuple(found)


def _policy(given: Any, position: int) -> AccessPolicy:
    place = f"{_POLICIES}[{position}]"
    value = _object(given, place)
    match = _POLICY_ARN.fullmatch(str(value.get("policyArn")))
    if match is None or match[1] not in POLICIES:
        known = ", ".join(POLICIES)
        raise BadMapping(f"{place}.policyArn: must be arn:aws:eks::aws:cluster-access-policy/NAME, of {known}")
    scope = _object(value.get("accessScope"), f"{place}.accessScope")
    namespaces = _texts(scope.get("namespaces"), f"{place}.accessScope.namespaces")
    if scope.get("type") == "cluster" and not namespaces:
        return AccessPolicy(match[1], POLICIES[match[1]], None)
    if scope.get("type") == "namespace" and namespaces:
        return AccessPolicy(match[1], POLICIES[match[1]], namespaces)
    raise BadMapping(f"{place}.accessScope: its type must be cluster, or namespace with namespaces")


def parse_identity_mapping(obj: Object) -> MapEntry:
    """An IAMIdentityMapping; a session's ARN is taken as its role's. Raises BadMapping."""
    spec = _object(obj.get("spec"), "spec")
    groups = tuple(template(each, "spec.groups") for each in _texts(spec.get("groups"), "spec.groups"))
    try:
        arn = canonical(str(spec.get("arn") or "")).lower()
    except BadArn as error:
        raise BadMapping(f"spec.arn: {error}") from None
    return MapEntry(arn, template(spec.get("username"), "spec.username"), groups)


def definitions(modes: Sequence[str] = ("AccessEntry", "CRD")) -> list[Object]:
    """The CustomResourceDefinitions that these backends need."""
    text, texts = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    mapping_spec = {
        "type": "object",
        "required": ["arn", "username"],
        "properties": {"arn": text, "username": text, "groups": texts},
    }
    status = {"type": "object", "properties": {"canonicalARN": text, "userID": text}}
    scope = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string", "enum": ["cluster", "namespace"]}, "namespaces": texts},
    }
    policy = {
        "type": "object",
        "required": ["policyArn", "accessScope"],
        "properties": {"policyArn": text, "accessScope": scope},
    }
    reserved = " || ".join(f"{{0}}.startsWith('{prefix}')" for prefix in RESERVED)
    entry_spec = {
        "type": "object",
        "required": ["principalArn"],
        "properties": {
            "principalArn": {"type": "string", "maxLength": 2048},
            "type": {"type": "string", "enum": list(TYPES), "default": STANDARD},
            "username": {"type": "string", "maxLength": 512},
            "kubernetesGroups": {"type": "array", "maxItems": 100, "items": {"type": "string", "maxLength": 512}},
            "accessPolicies": {"type": "array", "maxItems": 20, "items": policy},
        },
        "x-kubernetes-validations": [
            {
                "rule": "self.principalArn == oldSelf.principalArn",
                "message": "an entry's principal does not change: make another entry",
            },
            {
                "rule": f"!has(self.username) || !({reserved.format('self.username')})",
                "message": f"a user name must not begin with {_RESERVED_TEXT}",
            },
            {
                "rule": f"!has(self.kubernetesGroups) || !self.kubernetesGroups.exists(g, {reserved.format('g')})",
                "message": f"a group must not begin with {_RESERVED_TEXT}",
            },
        ],
    }
    entries = _definition("AccessEntry", ACCESS_ENTRY_API, ACCESS_ENTRIES, {"spec": entry_spec}, ["spec"])
    properties = {"spec": mapping_spec, "status": status}
    mappings = _definition("IAMIdentityMapping", IDENTITY_MAPPING_API, IDENTITY_MAPPINGS, properties, [])
    found = {"AccessEntry": entries, "CRD": mappings}
    return [found[mode] for mode in modes if mode in found]


def _definition(kind: str, api_version: str, resource: str, properties: Object, required: list[str]) -> Object:
    group, version = api_version.split("/")
    schema: Object = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    served: Object = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    if "status" in properties:
        served["subresources"] = {"status": {}}
    names: Object = {
        "plural": resource.split(".")[0],
        "singular": kind.lower(),
        "kind": kind,
        "listKind": f"{kind}List",
    }
    if kind == "IAMIdentityMapping":
        names["categories"] = ["all"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource},
        "spec": {"group": group, "scope": "Cluster", "names": names, "versions": [served]},
    }
