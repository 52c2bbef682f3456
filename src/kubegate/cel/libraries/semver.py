"""Semantic versions: `semver('1.2.3-rc.1')`. Texts of errors are those of blang/semver."""

from __future__ import annotations

from dataclasses import dataclass
from functools import total_ordering
from typing import ClassVar

from kubegate.api.field import quoted
from kubegate.cel import types
from kubegate.cel.functions import Library
from kubegate.cel.types import CelType
from kubegate.cel.values import EvaluationError

library = Library()
overload = library.overload

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-0123456789")


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Semver:
    """What comes after a `+` makes no difference."""

    cel_type: ClassVar[CelType] = types.parse("semver")
    major: int
    minor: int
    patch: int
    before: tuple[str, ...] = ()
    """The parts of the pre-release; none for the release itself, which comes after all of them."""

    @property
    def _key(self) -> tuple[object, ...]:
        parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in self.before)
        return self.major, self.minor, self.patch, not self.before, parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __lt__(self, other: Semver) -> bool:
        return self._key < other._key


def parse(text: str) -> Semver:
    """Raises EvaluationError."""
    if not text:
        raise EvaluationError("Version string empty")
    parts = text.split(".", 2)
    if len(parts) != 3:
        raise EvaluationError("No Major.Minor.Patch elements found")
    patch, plus, build = parts[2].partition("+")
    patch, minus, pre_release = patch.partition("-")
    major, minor, last = _number(parts[0], "Major"), _number(parts[1], "Minor"), _number(patch, "Patch")
    before = tuple(pre_release.split(".")) if minus else ()
    for part in before:
        if not part:
            raise EvaluationError("Prerelease is empty")
        if part.isdigit() and part.isascii():
            if len(part) > 1 and part[0] == "0":
                raise EvaluationError(f"Numeric PreRelease version must not contain leading zeroes {quoted(part)}")
        elif not set(part) <= _LETTERS:
            raise EvaluationError(f"Invalid character(s) found in prerelease {quoted(part)}")
    for part in build.split(".") if plus else ():
        if not part:
            raise EvaluationError("Build meta data is empty")
        if not set(part) <= _LETTERS:
            raise EvaluationError(f"Invalid character(s) found in build meta data {quoted(part)}")
    return Semver(major, minor, last, before)


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) and text:
        raise EvaluationError(f"Invalid character(s) found in {name.lower()} number {quoted(text)}")
    if len(text) > 1 and text[0] == "0":
        raise EvaluationError(f"{name} number must not contain leading zeroes {quoted(text)}")
    if not text:
        raise EvaluationError('strconv.ParseUint: parsing "": invalid syntax')
    if int(text[:30]) >= 2**64:
        raise EvaluationError(f"strconv.ParseUint: parsing {quoted(text)}: value out of range")
    return int(text)


def _normalized(text: str) -> str:
    parts = text.removeprefix("v").split(".", 2)
    for position, part in enumerate(parts):
        if len(part) > 1:
            stripped = part.lstrip("0")
            parts[position] = stripped if stripped[:1].isdigit() else "0" + stripped
    if len(parts) < 3:
        if set(parts[-1]) & set("+-"):
            raise EvaluationError("short version cannot contain PreRelease/Build meta data")
        parts += ["0"] * (3 - len(parts))
    return ".".join(parts)


@overload("semver(string) -> semver")
def _semver(text: str) -> Semver:
    return parse(text)


@overload("semver(string, bool) -> semver")
def _semver_normalized(text: str, normalize: bool) -> Semver:
    return parse(_normalized(text) if normalize else text)


@overload("isSemver(string) -> bool")
def _is_semver(text: str) -> bool:
    return _is_semver_normalized(text, False)


@overload("isSemver(string, bool) -> bool")
def _is_semver_normalized(text: str, normalize: bool) -> bool:
    try:
        _semver_normalized(text, normalize)
    except EvaluationError:
        return False
    return True


@overload("semver.isGreaterThan(semver) -> bool")
def _greater(first: Semver, second: Semver) -> bool:
    return first > second


@overload("semver.isLessThan(semver) -> bool")
def _less(first: Semver, second: Semver) -> bool:
    return first < second


@overload("semver.compareTo(semver) -> int")
def _compare(first: Semver, second: Semver) -> int:
    return (first > second) - (first < second)


@overload("semver.major() -> int")
def _major(version: Semver) -> int:
    return version.major


@overload("semver.minor() -> int")
def _minor(version: Semver) -> int:
    return version.minor


@overload("semver.patch() -> int")
def _patch(version: Semver) -> int:
    return version.patch
