"""Which Python `make` takes for the environment."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts/interpreter.py"
V311, V312 = ("cpython", 3, 11), ("cpython", 3, 12)


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("interpreter", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["interpreter"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["interpreter"]


def test_the_first_stays_unless_another_is_clearly_faster(script: Any) -> None:
    first = script.Interpreter("/first", V311, True, 1.0)
    hardly = script.Interpreter("/hardly", V311, True, 0.95)
    faster = script.Interpreter("/faster", V311, True, 0.8)
    fastest = script.Interpreter("/fastest", V311, True, 0.7)
    assert script.choose([first]) is first
    assert script.choose([first, hardly]) is first
    assert script.choose([first, faster, hardly, fastest]) is fastest


def test_another_version_or_one_without_venv_is_not_taken(script: Any) -> None:
    first = script.Interpreter("/first", V311, True, 1.0)
    newer = script.Interpreter("/newer", V312, True, 0.1)
    bare = script.Interpreter("/bare", V311, False, 0.1)
    assert script.choose([first, newer, bare]) is first


def test_an_interpreter_tells_of_itself_and_what_is_none_nothing(script: Any, tmp_path: Path) -> None:
    found = script.ask(Path(sys.executable))
    assert found.version == ("cpython", *sys.version_info[:2])
    assert found.seconds > 0
    no_python = tmp_path / "python3"
    no_python.write_text("#!/bin/sh\necho hello\n")
    no_python.chmod(0o755)
    assert script.ask(no_python) is None
    assert script.ask(tmp_path / "not there") is None


def test_the_command_prints_one_that_makes_environments(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=True)
    path = done.stdout.strip()
    subprocess.run([path, "-m", "venv", "--without-pip", tmp_path / "made"], check=True)
    assert (tmp_path / "made/bin/python").exists()
