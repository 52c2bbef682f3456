"""Durable CREATE with 1 and 64 clients, CREATE in memory, PATCH, and SubjectAccessReview, beside the bare server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from bench.harness import Figure, bare, by_turns, kubegate, requests_per_second

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
BODY = json.dumps({"metadata": {"name": "c-%N%"}, "data": {"key": "value " * 20}})
REVIEW = json.dumps(
    {"spec": {"user": "alice", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}}
)


def run(quick: bool) -> Iterator[Figure]:
    seconds, rounds = (1, 1) if quick else (2, 5)
    for storage, name in (("memory", "in memory"), ("sqlite", "durable, SQLite")):
        with kubegate(storage) as server, bare(400, server.ca.parent) as empty:
            for clients in (1, 64):
                load = partial(requests_per_second, seconds=seconds, connections=clients, method="POST", body=BODY)
                found, other = by_turns(rounds, partial(load, server, CONFIGMAPS), partial(load, empty, "/"))
                yield Figure(f"CREATE {name}, {clients} client{'s' * (clients > 1)}", found, "requests/s", other)
    with kubegate() as server, bare(600, server.ca.parent) as empty:
        server.request("POST", CONFIGMAPS, {"metadata": {"name": "patched"}})
        patch = json.dumps({"data": {"n": "%N%"}})
        merge = "application/merge-patch+json"
        load = partial(
            requests_per_second, seconds=seconds, connections=1, method="PATCH", body=patch, content_type=merge
        )
        found, other = by_turns(rounds, partial(load, server, f"{CONFIGMAPS}/patched"), partial(load, empty, "/"))
        yield Figure("PATCH one configmap, 1 client", found, "requests/s", other)
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        load = partial(requests_per_second, seconds=seconds, method="POST", body=REVIEW)
        found, other = by_turns(rounds, partial(load, server, path), partial(load, empty, "/"))
        yield Figure("SubjectAccessReview", found, "requests/s", other)
