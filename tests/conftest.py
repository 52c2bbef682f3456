"""Tests of one file are run by one worker, in their order, unless they say otherwise (`xdist_group`)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# How fast a machine is, is not what these properties are about.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples each time; `make fuzz` draws new ones.
settings.register_profile("kubegate", PATIENT, derandomize=True)
settings.register_profile("fuzz", PATIENT, max_examples=2000)
settings.load_profile("kubegate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
