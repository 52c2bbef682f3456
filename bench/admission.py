"""What admission costs: the chain for an object that no plugin changes, a pod, and a namespace with quotas.

    python bench/admission.py [--seconds 1]

Prints microseconds for one object through both passes. The aim: under 50 for what no webhook or policy wants.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "admission"))

from admission_world import World, attributes, pod  # noqa: E402

from kubegate.admission import Attributes  # noqa: E402
from kubegate.admission.chain import Chain  # noqa: E402


async def measure(chain: Chain, make: Callable[[], Attributes], seconds: float) -> float:
    """Microseconds for one object, without those that making its attributes takes."""
    count, spent = 0, 0.0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        asked = make()
        start = time.perf_counter()
        await chain.admit(asked)
        await chain.validate(asked)
        spent += time.perf_counter() - start
        count += 1
    return spent / count * 1e6


def quota(world: World, hard: dict[str, str]) -> None:
    metadata = {"name": "q", "namespace": "ns", "uid": "1"}
    status = {"hard": hard, "used": {name: "0" for name in hard}}
    world.objects.put("resourcequotas", {"metadata": metadata, "spec": {"hard": hard}, "status": status})


async def main(seconds: float) -> None:
    plain = {"metadata": {"name": "a", "namespace": "ns", "uid": "u"}, "data": {"k": "v" * 1000}}
    ordinary = pod(automountServiceAccountToken=None)
    ordinary["metadata"]["uid"] = "u"
    restricted = {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}
    cases: list[tuple[str, Callable[[World], Any], str, dict[str, Any]]] = [
        ("a config map, default plugins", lambda world: None, "configmaps", plain),
        ("a pod, default plugins", lambda world: None, "pods", ordinary),
        ("a pod, Pod Security enforced and warned", lambda w: w.namespace("ns", labels=restricted), "pods", ordinary),
        (
            "a config map, counted by a quota",
            lambda w: quota(w, {"count/configmaps": "1000000000"}),
            "configmaps",
            plain,
        ),
    ]
    for name, prepare, resource, object in cases:
        world = World()
        prepare(world)
        chain = world.chain()
        sample = attributes(resource, object)

        def make(sample: Attributes = sample, object: dict[str, Any] = object) -> Attributes:
            return Attributes(
                operation=sample.operation,
                kind=sample.kind,
                resource=sample.resource,
                subresource="",
                namespace="ns",
                name=sample.name,
                object=copy.deepcopy(object),
                old_object=None,
                options={},
                user=sample.user,
            )

        print(f"{name:<45}{await measure(chain, make, seconds):8.1f} µs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each case is measured")
    asyncio.run(main(parser.parse_args().seconds))
