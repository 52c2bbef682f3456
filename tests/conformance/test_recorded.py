"""Every recorded answer of a real kube-apiserver, asked of this server.

`conformance/known-misses.yaml` lists the answers that are not yet the reference's, each with its reason. A miss that is
not listed fails, and so does a listed one that is met: the list only shrinks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "conformance"
sys.path.insert(0, str(CORPUS))

import conformance  # noqa: E402
import drive  # noqa: E402

FILES = sorted((CORPUS / "scenarios").rglob("*.yaml"))
KNOWN: dict[str, dict[str, str]] = yaml.safe_load((CORPUS / "known-misses.yaml").read_text()) or {}


def config_of(path: Path) -> str:
    for line in path.read_text().splitlines():
        if line.startswith("config:"):
            return line.split(":", 1)[1].strip()
    return "base"


def name_of(path: Path) -> str:
    return str(path.relative_to(CORPUS / "scenarios").with_suffix(""))


@pytest.fixture(scope="session")
def runners() -> Iterator[dict[str, Any]]:
    """A running server for each config, started when first asked for."""
    import contextlib

    with contextlib.ExitStack() as stack:

        class Runners(dict[str, Any]):
            def __missing__(self, config: str) -> Any:
                port = drive.free_ports(3)
                hooks = []
                before = lambda out: hooks.append(conformance.Hooks(port, out))  # noqa: E731
                out = stack.enter_context(drive.server(config, port, before=before))
                self[config] = conformance.Runner(port, out, hooks[0])
                return self[config]

        yield Runners()


def misses(runner: Any, path: Path) -> dict[str, list[str]]:
    """Where this server answered otherwise: `step 3` or `hook NAME` -> the difference."""
    scenario = yaml.safe_load(path.read_text())
    found: dict[str, list[str]] = {}
    number = 0
    for step, answer in runner.scenario(scenario):
        if "hook" in step:
            place = f"hook {step['hook']}"
            wanted = {"body": scenario["hooks_see"].get(step["hook"])}
            ignore = scenario.get("ignore", ())
        else:
            number += 1
            place = f"step {number}"
            wanted, ignore = step.get("expect", {}), step.get("ignore", scenario.get("ignore", ()))
        difference = conformance.compare(wanted, answer, "body", ignore)
        if difference:
            found[place] = [f"{place}: {step.get('as', 'admin')} {step.get('request', '')}", *difference]
    return found


def group_of(path: Path) -> str:
    """Scenarios that are run by one worker, one after the other, on one server."""
    return f"recorded-{config_of(path)}-{path.parent.name}"


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=pytest.mark.xdist_group(group_of(path)), id=name_of(path)) for path in FILES]
)
def test_answers_are_the_reference_s(path: Path, runners: Any) -> None:
    found = misses(runners[config_of(path)], path)
    known = KNOWN.get(name_of(path), {})
    new = {place: lines for place, lines in found.items() if place not in known}
    assert not new, "\n".join(line for lines in new.values() for line in lines[:60])
    met = sorted(place for place in known if place not in found)
    assert not met, f"{name_of(path)}: {', '.join(met)} is the reference's now: take it off known-misses.yaml"


def test_every_known_miss_has_a_reason_and_a_scenario() -> None:
    names = {name_of(path) for path in FILES}
    for name, places in KNOWN.items():
        assert name in names, f"{name} is no scenario"
        assert all(reason and len(reason) > 15 for reason in places.values()), f"{name}: a reason is missing"
