"""Durable CREATE with 1 and 64 clients, CREATE in memory, PATCH, and SubjectAccessReview, beside the bare server."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench.harness import Figure, bare, kubegate, requests_per_second

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
BODY = json.dumps({"metadata": {"name": "c-%N%"}, "data": {"key": "value " * 20}})
REVIEW = json.dumps(
    {"spec": {"user": "alice", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}}
)


def run(quick: bool) -> Iterator[Figure]:
    seconds = 1 if quick else 8
    for storage, name in (("memory", "in memory"), ("sqlite", "durable, SQLite")):
        with kubegate(storage) as server, bare(400, server.ca.parent) as empty:
            for clients in (1, 64):
                found = requests_per_second(
                    server, CONFIGMAPS, seconds=seconds, connections=clients, method="POST", body=BODY
                )
                other = requests_per_second(empty, "/", seconds=seconds, connections=clients, method="POST", body=BODY)
                yield Figure(f"CREATE {name}, {clients} client{'s' * (clients > 1)}", found, "requests/s", other)
    with kubegate() as server, bare(600, server.ca.parent) as empty:
        server.request("POST", CONFIGMAPS, {"metadata": {"name": "patched"}})
        patch = json.dumps({"data": {"n": "%N%"}})
        found = requests_per_second(
            server, f"{CONFIGMAPS}/patched", seconds=seconds, connections=1, method="PATCH", body=patch,
            content_type="application/merge-patch+json",
        )  # fmt: skip
        other = requests_per_second(empty, "/", seconds=seconds, connections=1, method="PATCH", body=patch)
        yield Figure("PATCH one configmap, 1 client", found, "requests/s", other)
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        found = requests_per_second(server, path, seconds=seconds, method="POST", body=REVIEW)
        other = requests_per_second(empty, "/", seconds=seconds, method="POST", body=REVIEW)
        yield Figure("SubjectAccessReview", found, "requests/s", other)
