"""Simulated nodes beside several workers: one of them simulates, all of them run commands and read logs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from server_process import serving
from worker_clients import once

KUBECTL = Path(__file__).resolve().parents[2] / ".tools" / "kubectl-1.36"


@pytest.mark.skipif(not KUBECTL.exists(), reason="wants .tools/kubectl-1.36")
async def test_whichever_worker_is_asked_runs_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with serving(folder, ("--workers=2", "--simulate-nodes=1", "--simulate-nodes-exec")) as server:

        def kubectl(*words: str) -> str:
            command = [str(KUBECTL), f"--kubeconfig={folder / 'admin.kubeconfig'}", f"--cache-dir={tmp_path}", *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            return done.stdout

        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
        pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        code, _ = await once(server, "POST", "/api/v1/namespaces/default/pods", pod)
        assert code == 201
        kubectl("wait", "pod/a", "--for=condition=Ready", "--timeout=30s")
        # the kernel gives each connection to one of them
        for number in range(8):
            assert kubectl("exec", "a", "--", "echo", str(number)) == f"{number}\n"
        for _ in range(4):
            assert kubectl("logs", "a").splitlines()[1:] == [str(number) for number in range(8)]
