"""kopf's admission server with a handler of one line, without a cluster: `python -m bench.kopf_hooks PORT CERT KEY`."""

from __future__ import annotations

import functools
import logging
import sys
from typing import Any

import kopf
import uvloop
from kopf._cogs.structs import references
from kopf._core.engines import admission
from kopf._core.reactor import inventory


@kopf.on.mutate("", "v1", "pods", id="label")
def label(patch: Any, **_: Any) -> None:
    patch.metadata.labels["mutate"] = "admission-test"


async def main() -> None:
    port, certificate, key = sys.argv[1:]
    logging.disable(logging.INFO)
    pods = references.Resource("", "v1", "pods", kind="Pod", singular="pod", namespaced=True)
    answer = functools.partial(
        admission.serve_admission_request,
        settings=kopf.OperatorSettings(),
        registry=kopf.get_default_registry(),
        insights=references.Insights(webhook_resources={pods}),
        memories=inventory.ResourceMemories(),
        memobase=kopf.Memo(),
        indices={},
    )
    server = kopf.WebhookServer(addr="127.0.0.1", port=int(port), certfile=certificate, pkeyfile=key)
    async for _ in server(answer):
        pass


if __name__ == "__main__":
    uvloop.run(main())
