"""`python -m bench.stages`, whose tables docs/performance.md shows: every stage can still be called alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_stage_of_a_get_and_a_create_has_its_line() -> None:
    command = [sys.executable, "-m", "bench.stages", "--once"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("| **the whole** |")
    assert len(tables) == 3 and "route, watch cache, bytes" in tables[0] and "managedFields" in tables[1], done.stdout
