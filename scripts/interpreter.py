#!/usr/bin/env python3
"""Which `python3` the environment is made with: prints its path, and on stderr why, where it is not the first one.

    interpreter.py      the fastest of those on PATH and in /usr/bin that are of the first one's version

How a Python was built is worth 5 to 20% of a server's creates: with profiles of its own use (as Debian builds it), or
without (as pyenv does unless it is told). Another than the first is taken only where it is clearly faster and can make
environments; `make PYTHON=...` takes any.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CLEARLY = 0.9
"""Of the first one's time."""
_SECONDS = 30

# Calls, attributes, dictionaries and texts, as a request has them; the best of many short rounds.
_PROBE = """
import json, sys, time
try:
    import ensurepip, sqlite3, ssl, venv
    whole = True
except ImportError:
    whole = False
class Thing:
    def __init__(self, fields): self.fields = fields
    def of(self, names): return [(name, self.fields.get(name)) for name in names if name in self.fields]
def round_of(number):
    names, found = tuple(f"name-{n}" for n in range(8)), {}
    for n in range(number):
        thing = Thing({**dict.fromkeys(names, n), "kind": "Pod"})
        for name, value in thing.of(names):
            found[name] = found.get(name, 0) + (value or 1)
    return ",".join(found)
best = 1e9
for _ in range(30):
    start = time.perf_counter()
    round_of(1000)
    best = min(best, time.perf_counter() - start)
version = [sys.implementation.name, *sys.version_info[:2]]
print(json.dumps({"path": sys.executable, "version": version, "whole": whole, "seconds": best}))
"""


@dataclass(frozen=True)
class Interpreter:
    """`seconds` of one round; `whole`: it has what an environment and a server need."""

    path: str
    version: tuple[str | int, ...]
    whole: bool
    seconds: float


def ask(path: Path) -> Interpreter | None:
    """None where it is none, or does not answer."""
    try:
        done = subprocess.run([path, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=_SECONDS, check=True)
        told = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(told["path"], tuple(told["version"]), told["whole"], told["seconds"])


def choose(found: list[Interpreter]) -> Interpreter:
    """`found` begins with the one that is taken unless another is clearly faster."""
    first = found[0]
    others = [each for each in found[1:] if each.whole and each.version == first.version]
    fastest = min(others, key=lambda each: each.seconds, default=first)
    return fastest if fastest.seconds < CLEARLY * first.seconds else first


def main() -> None:
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin"]
    places = [Path(sys.executable), *(Path(folder, "python3") for folder in folders if folder)]
    found: dict[str, Interpreter] = {}
    asked: set[Path] = set()
    for place in places:
        if not place.exists() or place.resolve() in asked:
            continue
        asked.add(place.resolve())
        interpreter = ask(place)
        if interpreter is not None:  # pyenv's python3 is a script that starts another
            found.setdefault(os.path.realpath(interpreter.path), interpreter)
    if not found:
        print(sys.executable)
        return
    first, *_ = interpreters = list(found.values())
    chosen = choose(interpreters)
    if chosen is not first:
        times = first.seconds / chosen.seconds
        print(f"{chosen.path}: {times:.1f} times as fast as {first.path} (PYTHON=... takes another)", file=sys.stderr)
    print(chosen.path)


if __name__ == "__main__":
    main()
