"""When a CronJob's schedule comes due. That it is well formed is for `registry.batch.cron` to say."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from msgspec import Struct

_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS: dict[str, int] = {
    name: number + 1
    for number, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
}
_DAYS: dict[str, int] = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_NO_NAMES: dict[str, int] = {}
_BOUNDS = ((0, 59, _NO_NAMES), (0, 23, _NO_NAMES), (1, 31, _NO_NAMES), (1, 12, _MONTHS), (0, 6, _DAYS))
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"([0-9.]+)(h|ms|m|s)")
# A schedule that never comes (30 February) is given up after these.
_YEARS = 5


class BadSchedule(ValueError):
    """The text is no schedule."""


class Schedule(Struct, frozen=True):
    """`fields` are the minutes, hours, days, months and weekdays; `every` are seconds, 0 where the fields count."""

    fields: tuple[frozenset[int], ...]
    any_day: bool
    every: float
    zone: tzinfo

    def after(self, moment: float) -> float | None:
        """The first time after `moment` (seconds since 1970); None where there is none within years."""
        if self.every:
            return float(int(moment + self.every))
        minutes, hours, days, months, weekdays = self.fields
        at = datetime.fromtimestamp(moment, self.zone).replace(second=0, microsecond=0, tzinfo=None)
        at += timedelta(minutes=1)
        last = at.year + _YEARS
        while at.year <= last:
            weekday = (at.weekday() + 1) % 7
            day = at.day in days and weekday in weekdays if self.any_day else at.day in days or weekday in weekdays
            if at.month not in months or not day:
                at = at.replace(hour=0, minute=0) + timedelta(days=1)
            elif at.hour not in hours:
                at = at.replace(minute=0) + timedelta(hours=1)
            elif at.minute not in minutes:
                at += timedelta(minutes=1)
            else:
                found = at.replace(tzinfo=self.zone).timestamp()
                if found > moment:
                    return found
                at += timedelta(minutes=1)
        return None

    def latest(self, since: float, until: float) -> float | None:
        """The last time in (since, until]; None where there is none."""
        found, start = None, since
        # nobody waits for what was missed long ago: look at the last hours, then further back
        for hours in (2, 50, 24 * 40, 24 * 400):
            start = max(since, until - hours * 3600)
            at = self.after(start)
            while at is not None and at <= until:
                found, at = at, self.after(at)
            if found is not None or start == since:
                return found
        return found


def _place(zone: str) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # few name one

    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise BadSchedule(f"unknown time zone {zone}") from error


def parse(text: str, zone: str | None = None) -> Schedule:
    """Raises BadSchedule."""
    place = _place(zone) if zone else UTC
    if text.startswith("@every "):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
        return Schedule((), True, max(seconds, 1.0), place)
    words = _DESCRIPTORS.get(text, text).split()
    if len(words) != 5:
        raise BadSchedule(f"{text!r} is no schedule")
    try:
        fields = tuple(_field(word, *bounds) for word, bounds in zip(words, _BOUNDS, strict=True))
    except (ValueError, KeyError) as error:
        raise BadSchedule(f"{text!r} is no schedule") from error
    return Schedule(fields, words[2][0] in "*?" or words[4][0] in "*?", 0.0, place)


def _field(text: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        span, _, step = part.partition("/")
        if span in ("*", "?"):
            first, last = low, high
        else:
            begin, _, end = span.partition("-")
            first = names[begin] if begin in names else int(begin)
            last = (names[end] if end in names else int(end)) if end else (high if step else first)
        found |= {value % 7 if names is _DAYS else value for value in range(first, last + 1, int(step or 1))}
    return frozenset(found)
