"""Durations as Go reads and writes them."""

from __future__ import annotations

import pytest

from kubegate.api import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("-1s", -1),
        ("0", 0),
        ("1.5s", 1.5),
        ("2m0s", 120),
        ("7\u00b5s", 7e-6),
        ("7\u03bcs", 7e-6),
    ],
)
def test_durations_are_go_s(text: str, seconds: float) -> None:
    assert durations.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["3000000h", "", "x", "5", "1x", ".s", "1..5s", "s", "\u00b2s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "-1s"),
        (3600, "1h0m0s"),
        (90, "1m30s"),
        (30.5, "30.5s"),
        (9930.5, "2h45m30.5s"),
        (0.25, "250ms"),
        (0.0015, "1.5ms"),
        (7e-6, "7\u00b5s"),
        (3e-9, "3ns"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert durations.text(seconds) == text
