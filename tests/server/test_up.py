"""`kubegate up`: it says how to reach it, the commands that it prints work, the next start finds what was stored."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KUBECTL = Path(__file__).resolve().parents[2] / ".tools" / "kubectl-1.36"


@contextmanager
def up(state: Path, *flags: str) -> Iterator[list[str]]:
    """A server that was told nothing but where its state is; the commands that it printed."""
    words = [sys.executable, "-m", "kubegate", "up", f"--data-dir={state}", "--secure-port=0", *flags]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            printed = []
            for line in process.stdout:
                printed.append(line)
                if line.startswith("Ctrl-C"):
                    break
            yield [line.strip() for line in printed if line.startswith("  ")]
        finally:
            process.terminate()
            assert process.wait(10) == 0


def run(commands: list[str], folder: Path) -> str:
    """What a shell prints for these commands; they must all work."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "kubectl").unlink(missing_ok=True)
    (programs / "kubectl").symlink_to(KUBECTL)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(["sh", "-e", "-c", "\n".join(commands)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not KUBECTL.exists(), reason="no kubectl: scripts/tools.py kubectl brings it")
@pytest.mark.parametrize("flags", [(), ("--workers=2",)])
def test_the_commands_that_are_printed_work_and_the_state_is_found_again(tmp_path: Path, flags: tuple[str]) -> None:
    state = tmp_path / "state"
    with up(state, *flags) as commands:
        assert len(commands) == 4 and commands[0].startswith("export KUBECONFIG=")
        printed = run(commands, tmp_path)
        assert "[system:masters system:authenticated]" in printed
        assert "user            alice (system:authenticated), impersonated by kubernetes-admin" in printed
        run([commands[0], "kubectl create configmap kept --from-literal=a=b"], tmp_path)
    secret = [*(state / "pki").glob("*.key"), state / "admin.kubeconfig", state / "kubegate.db"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in secret)
    with up(state) as commands:
        run(commands, tmp_path)
        assert run([commands[0], "kubectl get configmap kept -o jsonpath={.data.a}"], tmp_path) == "b"
