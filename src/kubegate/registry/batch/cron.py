"""Schedules of CronJobs: whether one can be read, in the words of kube-apiserver's cron library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kubegate.api import durations

_DESCRIPTORS: Final = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_LONGEST: Final = 2**63 - 1
_MOST_DIGITS: Final = 19
_MONTH_NAMES: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: place for place, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: place for place, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}


@dataclass(frozen=True, slots=True)
class _Bounds:
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)


_FIELDS: Final = (_Bounds(0, 59), _Bounds(0, 23), _Bounds(1, 31), _Bounds(1, 12, _MONTHS), _Bounds(0, 6, _DAYS))


class ScheduleError(Exception):
    """A schedule that cannot be read; the message is the library's."""


def check(schedule: str) -> None:
    """Raises ScheduleError."""
    if not schedule:
        raise ScheduleError("empty spec string")
    text = schedule
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        space = schedule.find(" ")
        if space < 0:
            zone = schedule.partition("=")[2]
            raise ScheduleError(f"provided bad location {zone}: unknown time zone {zone}")
        text = schedule[space:].strip()
    if text.startswith("@"):
        _descriptor(text)
        return
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ScheduleError(f"expected exactly {len(_FIELDS)} fields, found {len(parts)}: [{' '.join(parts)}]")
    for part, bounds in zip(parts, _FIELDS, strict=True):
        _field(part, bounds)


def _descriptor(text: str) -> None:
    if text in _DESCRIPTORS:
        return
    if text.startswith("@every "):
        _duration(text.removeprefix("@every "), text)
        return
    raise ScheduleError(f"unrecognized descriptor: {text}")


def _duration(text: str, whole: str) -> None:
    try:
        durations.nanoseconds(text)
    except ValueError as error:
        raise ScheduleError(f"failed to parse duration {whole}: time: {error}") from None


def _field(text: str, bounds: _Bounds) -> None:
    for expression in text.split(","):
        if expression:
            _range(expression, bounds)


def _range(expression: str, bounds: _Bounds) -> None:
    """`number`, `number-number`, `*`, `?`, each with an optional `/step`."""
    ends_and_step = expression.split("/")
    ends = ends_and_step[0].split("-")
    extra = False
    if ends[0] in ("*", "?"):
        start, end, extra = bounds.low, bounds.high, True
    else:
        start = _value(ends[0], bounds)
        if len(ends) > 2:
            raise ScheduleError(f"too many hyphens: {expression}")
        end = start if len(ends) == 1 else _value(ends[1], bounds)
    step = 1
    if len(ends_and_step) > 2:
        raise ScheduleError(f"too many slashes: {expression}")
    if len(ends_and_step) == 2:
        step = _number(ends_and_step[1])
        if len(ends) == 1 and not extra:
            end = bounds.high
    if start < bounds.low:
        raise ScheduleError(f"beginning of range ({start}) below minimum ({bounds.low}): {expression}")
    if end > bounds.high:
        raise ScheduleError(f"end of range ({end}) above maximum ({bounds.high}): {expression}")
    if start > end:
        raise ScheduleError(f"beginning of range ({start}) beyond end of range ({end}): {expression}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {expression}")


def _value(text: str, bounds: _Bounds) -> int:
    named = bounds.names.get(text.lower())
    return _number(text) if named is None else named


def _number(text: str) -> int:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise ScheduleError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if len(digits.lstrip("0")) > _MOST_DIGITS or abs(number := int(text)) > _LONGEST:
        raise ScheduleError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": value out of range')
    if number < 0:
        raise ScheduleError(f"negative number ({number}) not allowed: {text}")
    return number
