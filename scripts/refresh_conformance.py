#!/usr/bin/env python3
"""Bring the copies of what is shared up to date: recorded scenarios, their runners, and the measured facts.

    refresh_conformance.py [FOLDER]     FOLDER holds conformance/ and facts/ (default: ../shared beside this repository)

What is ours alone in conformance/ (drive.py, the lists of known misses) is left as it is.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FACTS = ("discovery.json", "openapi-paths.json", "openapi-schemas.json.gz", "table-columns.json")


def main() -> int:
    shared = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared"
    if not (shared / "conformance").is_dir():
        print(f"{shared}: no conformance/ there; name the folder that holds it", file=sys.stderr)
        return 1
    shutil.copytree(shared / "conformance", ROOT / "conformance", dirs_exist_ok=True, copy_function=shutil.copyfile)
    for name in FACTS:
        shutil.copyfile(shared / "facts" / name, ROOT / "src/kubegate/api/data" / name)
    print("conformance/ and src/kubegate/api/data/ are up to date; run the tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
