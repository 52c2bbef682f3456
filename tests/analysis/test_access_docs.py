"""The examples of docs/access-questions.md print what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "access-questions.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)\n```", PAGE, re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """Each command with the lines that stand under it."""
    found = []
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output.strip("\n")))
    return found


@pytest.mark.parametrize(("command", "output"), examples(), ids=lambda text: text[:50])
def test_an_example_prints_what_the_page_says(command: str, output: str) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.strip("\n") == output
