"""What somebody may have meant by a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean users?`, to be put behind an error; "" where nothing is like it."""
    import difflib  # for mistakes alone

    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f", did you mean {by_lower[found[0]]}?" if found else ""
