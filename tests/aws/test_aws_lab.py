"""The lab of docs/iam.md prints what the page says: aws, boto3 and kubectl against moto's AWS and kubegate."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "iam.md").read_text()
TOOLS = ROOT / ".tools"


def settled(text: str) -> list[str]:
    """What is another in each run is made the same."""
    for pattern, word in (
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"), (r"/tmp/[\w.-]+(/[\w.-]+)*/kubeconfig", "/tmp/lab/kubeconfig"),
        (r"\d{8}T\d{6}Z", "DATE"), (r"\d+ s more", "N s more"), (r"size: \d+ of", "size: N of"),
        (r"(<none>\s+)\S+", r"\1AGE"),
    ):  # fmt: skip
        text = re.sub(pattern, word, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.timeout(900)
@pytest.mark.skipif(not (TOOLS / "aws/bin/kubegate").exists(), reason="wants .tools/aws: scripts/tools.py aws")
@pytest.mark.skipif(not (TOOLS / "kubectl-1.36").exists(), reason="wants .tools/kubectl-1.36")
@pytest.mark.skipif(sys.platform != "linux", reason="a shell script of Linux")
def test_the_lab_prints_what_the_page_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```console\n(.*?)\n```", PAGE.partition("## The lab")[2], re.DOTALL)
    done = subprocess.run(
        ["bash", str(ROOT / "docs/examples/iam/lab.sh")],
        capture_output=True, text=True, timeout=850, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert settled(done.stdout) == settled("\n".join(blocks))
