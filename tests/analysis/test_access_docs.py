"""The examples of docs/access-questions.md print what the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from doc_pages import ROOT, Example, examples, page


@pytest.mark.parametrize("example", examples(page("access-questions")), ids=lambda example: example.command[:50])
def test_an_example_prints_what_the_page_says(example: Example) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", example.command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.strip("\n") == example.output
