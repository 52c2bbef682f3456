"""Real clients: each recorded command line of kubectl, helm, the Python client and curl prints what it printed there.

`conformance/known-misses-walks.yaml` lists the outputs that are not the reference's, each with its reason. A miss that
is not listed fails, and so does a listed one that is met: the list only shrinks. Programs come from scripts/tools.py.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CORPUS, TOOLS = ROOT / "conformance", ROOT / ".tools"
sys.path.insert(0, str(CORPUS))

import drive  # noqa: E402
import kubectl_walk  # noqa: E402

import conformance  # noqa: E402

WALKS = {path.stem: path for path in sorted((CORPUS / "kubectl").glob("*.yaml"))}
KNOWN: dict[str, dict[str, str]] = yaml.safe_load((CORPUS / "known-misses-walks.yaml").read_text()) or {}
PATIENCE = 300  # seconds for one walk: some wait for what takes its time
# client-go says one of these, or nothing, when a command ends while it watches: a race within the client.
CHANCE = re.compile(
    r"^[IW]<klog reflector\.go> .*(: very short watch: |watch ended with error.* context canceled).*\n", re.MULTILINE
)


def program(name: str) -> Path | None:
    path = TOOLS / name
    return path if path.exists() else None


Walker = Callable[[str, str], Any]


@pytest.fixture(scope="module")
def walker() -> Iterator[Walker]:
    """config, version of kubectl -> a walker against a running server of that config."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def running(config: str) -> conformance.Runner:
            port = drive.free_ports(3)
            out = stack.enter_context(drive.server(config, port))
            return conformance.Runner(port, out, conformance.Hooks(port, out))

        @functools.cache
        def walker_of(config: str, version: str) -> Any:
            helm = program("helm")
            options = argparse.Namespace(
                kubectl=str(TOOLS / f"kubectl-{version}"),
                helm=str(helm) if helm else None,
                python=sys.executable if importlib.util.find_spec("kubernetes") else None,
            )
            return kubectl_walk.Walker(options, running(config))

        yield walker_of


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize(
    "version", [pytest.param(v, marks=pytest.mark.xdist_group(f"walks-{v}")) for v in ("1.36", "1.32")]
)
@pytest.mark.parametrize("name", WALKS)
def test_clients_print_what_they_print_against_the_reference(name: str, version: str, walker: Walker) -> None:
    if program(f"kubectl-{version}") is None:
        pytest.skip(f"no kubectl {version}: scripts/tools.py kubectl brings it")
    walk = yaml.safe_load(WALKS[name].read_text())
    walking = walker(walk.get("config", "base"), version)
    lacking = walking.lacks(walk)
    if lacking:
        pytest.skip(lacking)
    found: dict[str, list[str]] = {}
    compared = set()
    for number, (step, printed) in enumerate(walking.walk(walk), 1):
        if not walking.fits(step):
            continue
        place = f"step {number}"
        compared.add(place)
        printed = {part: CHANCE.sub("", text) if part == "stderr" else text for part, text in printed.items()}
        difference = kubectl_walk.compare(step.get("expect", {}), printed, step.get("ignore", []))
        if difference:
            found[place] = [f"{place}: {step.get('as', 'admin')}$ {step['run'].strip()}", *difference]
    known = KNOWN.get(name, {})
    new = [line for place, lines in found.items() if place not in known for line in lines[:60]]
    assert not new, "\n".join(new)
    met = sorted(place for place in known if place in compared and place not in found)
    assert not met, f"{name}: {', '.join(met)} is the reference's now: take it off known-misses-walks.yaml"


def test_every_known_miss_has_a_reason_and_a_walk() -> None:
    for name, places in KNOWN.items():
        assert name in WALKS, f"{name} is no walk"
        assert all(reason and len(reason) > 15 for reason in places.values()), f"{name}: a reason is missing"
