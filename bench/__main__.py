"""`python -m bench [--quick] [NAME ...]`: run benchmarks, print a line for each figure, write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
from collections.abc import Iterable, Sequence

from bench.harness import ROOT, Figure

MODULES = (
    "startup", "reads", "writes", "watches", "storage", "authentication", "authorization", "admission", "webhooks",
    "calls", "gate", "scale", "fairness", "workers", "controllers", "iam",
)  # fmt: skip


def row(figure: Figure) -> str:
    value = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:.3g}"
    bare = f"{figure.bare:,.0f}" if figure.bare else ""
    ratio = f"{figure.ratio:.2f}" if figure.ratio else ""
    return f"| {figure.name} | {value} {figure.unit} | {bare} | {ratio} | {figure.note} |"


def machine() -> str:
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "")
    return f"{os.cpu_count()} cores ({model or platform.machine()}), Python {platform.python_version()}"


def write(figures: Iterable[Figure], quick: bool, names: Sequence[str]) -> None:
    """docs/benchmarks.md and .json."""
    command = " ".join(["python -m bench", *(["--quick"] if quick else []), *names])
    head = [
        "# Benchmarks",
        "",
        f"Measured {datetime.date.today()} on {machine()}, server and load on the same machine, TLS, by `{command}`.",
        "`bare` is a bare ASGI application on the same ASGI server in the same run, answering as many bytes; the ratio",
        "is to that. `make bench` measures everything anew.",
        "",
        "| what | figure | bare | ratio | |",
        "| --- | --- | --- | --- | --- |",
    ]
    found = list(figures)
    (ROOT / "docs/benchmarks.md").write_text("\n".join([*head, *map(row, found)]) + "\n")
    rows = [
        {"name": f.name, "value": f.value, "unit": f.unit, "bare": f.bare, "ratio": f.ratio, "note": f.note}
        for f in found
    ]
    (ROOT / "docs/benchmarks.json").write_text(json.dumps({"machine": machine(), "figures": rows}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MODULES)}; all when left out")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter, under two minutes")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md also when some are named")
    options = parser.parse_args()
    figures = []
    for name in options.names or MODULES:
        for figure in importlib.import_module(f"bench.{name}").run(options.quick):
            print(row(figure), flush=True)
            figures.append(figure)
    if options.write or not options.names:
        write(figures, options.quick, options.names)


if __name__ == "__main__":
    main()
