"""Policies for a cluster: who, whether, and how. Served by `kubegate webhook docs/examples/webhook/policies.py`."""

from __future__ import annotations

import hmac
from typing import Any

from kubegate import Deny, Gate, Review, User

gate = Gate()


@gate.mutate("pods", operations=["CREATE"], namespaces={"kubernetes.io/metadata.name": "kkj-ns"})
def label(pod: dict[str, Any]) -> None:
    pod["metadata"].setdefault("labels", {})["mutate"] = "admission-test"


@gate.validate("deployments.apps")
def no_latest(deployment: dict[str, Any], review: Review) -> None:
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        name, _, version = container["image"].rpartition("/")[2].partition(":")
        if version == "latest":
            raise Deny(f"container {container['name']}: {name}:latest is another image tomorrow; name a version")
        if not version:
            review.warn(f"container {container['name']}: an image without a version")


TOKENS = {"example-token-of-jane": User("jane", groups=["dev"])}


@gate.authenticate
async def by_list(token: str) -> User | None:
    for known, user in TOKENS.items():
        if hmac.compare_digest(known.encode(), token.encode()):
            return user
    return None


@gate.authorize
def nothing_in_vault(attributes: Any) -> bool | None:
    if attributes.namespace == "vault" and attributes.verb not in ("get", "list", "watch"):
        return False
    return None


@gate.images
def ours(image: str) -> bool:
    return image.startswith("registry.example.com/")
