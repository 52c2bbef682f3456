"""A server that writes an audit log, and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from server_client import Running, Start

EVERYTHING = (
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: RequestResponse}]\n"
)


def events(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


async def logged(start: Start, tmp_path: Path, policy: str = EVERYTHING) -> Running:
    """The log is whole when the server has been stopped."""
    (tmp_path / "policy.yaml").write_text(policy)
    return await start(
        f"--audit-policy-file={tmp_path / 'policy.yaml'}",
        f"--audit-log-path={tmp_path / 'audit.log'}",
        "--controllers=none",
    )
