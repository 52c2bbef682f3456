"""GET of one object and LIST of 5,000 pods, authenticated and authorized, beside a bare server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.harness import Figure, Process, bare, by_turns, kubegate, requests_per_second

PODS = 5000


def pod(number: int) -> dict[str, object]:
    """About 2 KB of JSON."""
    container = {
        "name": "main",
        "image": f"registry.example.org/team/service:{number}",
        "env": [{"name": f"VARIABLE_{i}", "value": f"some value number {i} of {number}"} for i in range(8)],
        "ports": [{"containerPort": 8080 + i, "name": f"port-{i}"} for i in range(3)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
    }
    labels = {"app": f"service-{number % 50}", "tier": "backend", "number": str(number)}
    return {
        "metadata": {"name": f"pod-{number:05}", "labels": labels},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }


def fill(process: Process, count: int) -> None:
    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(process.request, "POST", "/api/v1/namespaces/default/pods", pod(i)) for i in range(count)]
        for each in work:
            each.result()


def allow_reader(process: Process) -> None:
    """Let the user `reader`, who is no administrator, read pods and configmaps by RBAC."""
    rule = {"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["get", "list", "watch"]}
    process.request(
        "POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": "bench"}, "rules": [rule]}
    )
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bench"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}
    body = {"metadata": {"name": "bench"}, "roleRef": role, "subjects": [subject]}
    process.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", body)


def run(quick: bool) -> Iterator[Figure]:
    seconds, rounds = (1, 1) if quick else (2, 5)
    count = 1000 if quick else PODS
    with kubegate() as server:
        allow_reader(server)
        fill(server, count)
        path = "/api/v1/namespaces/default/pods/pod-00007"
        size = len(json.dumps(server.request("GET", path), separators=(",", ":")))
        with bare(size, server.ca.parent) as empty:
            load = partial(requests_per_second, seconds=seconds, token="reader-token")
            found, other = by_turns(rounds, partial(load, server, path), partial(load, empty, "/"))
            yield Figure("GET one pod", found, "requests/s", other)
        all_pods = "/api/v1/namespaces/default/pods"
        size = len(json.dumps(server.request("GET", all_pods), separators=(",", ":")))
        with bare(size, server.ca.parent) as empty:
            load = partial(requests_per_second, seconds=seconds, connections=2, token="reader-token")
            found, other = by_turns(rounds, partial(load, server, all_pods), partial(load, empty, "/"))
            yield Figure(f"LIST {count} pods", found, "requests/s", other, f"{size / 1e6:.1f} MB each")
        labelled = f"{all_pods}?labelSelector=app%3Dservice-7"
        size = len(json.dumps(server.request("GET", labelled), separators=(",", ":")))
        with bare(size, server.ca.parent) as empty:
            load = partial(requests_per_second, seconds=seconds, connections=8, token="reader-token")
            found, other = by_turns(rounds, partial(load, server, labelled), partial(load, empty, "/"))
            yield Figure(f"LIST {count // 50} of {count} pods by label", found, "requests/s", other)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            server.request("GET", all_pods)
            times.append(time.perf_counter() - start)
        yield Figure(
            f"LIST {count} pods, one client, median",
            sorted(times)[10] * 1e3,
            "ms",
            note="with the client's JSON decoding",
        )
