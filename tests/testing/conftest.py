"""The plugin is named here where the package's entry point is not installed."""

from __future__ import annotations

import importlib.metadata

if not any(point.value == "kubegate.testing.plugin" for point in importlib.metadata.entry_points(group="pytest11")):
    from kubegate.testing.plugin import *  # noqa: F403
