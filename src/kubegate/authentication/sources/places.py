"""Reading YAML so that every error names its place: `sources[1].ldap.url: …`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_MISSING = object()


class BadSources(ValueError):
    """What is wrong in a file of token sources: the file, the place, and what would be right. Never a secret."""

    def __init__(self, source: str, place: str, problem: str) -> None:
        super().__init__(f"{source}: {place}: {problem}" if place else f"{source}: {problem}")
        self.source, self.place, self.problem = source, place, problem


class Place:
    """A mapping of the file, and where it is. Every reader raises BadSources; `done` refuses what nobody has read."""

    def __init__(self, source: str, place: str, value: Any) -> None:
        self.source, self.place = source, place
        if not isinstance(value, Mapping):
            raise self.wrong("", "must be a mapping")
        self._value, self._read = value, set[str]()

    def wrong(self, name: str, problem: str) -> BadSources:
        return BadSources(self.source, self.at(name), problem)

    def at(self, name: str) -> str:
        return ".".join(part for part in (self.place, name) if part)

    def has(self, name: str) -> bool:
        return self._value.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it must be there and not be empty."""
        found = self._get(name)
        if found is _MISSING:
            if default is None:
                raise self.wrong(name, "is missing")
            return default
        if not isinstance(found, str) or (default is None and not found):
            raise self.wrong(name, "must be a text")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        found = self._get(name)
        if found is _MISSING:
            return ()
        if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
            raise self.wrong(name, "must be a list of texts")
        return tuple(found)

    def flag(self, name: str, default: bool = False) -> bool:
        found = self._get(name)
        if found is _MISSING:
            return default
        if not isinstance(found, bool):
            raise self.wrong(name, "must be true or false")
        return found

    def number(self, name: str, default: float, least: float, most: float) -> float:
        found = self._get(name)
        if found is _MISSING:
            return default
        if isinstance(found, bool) or not isinstance(found, int | float) or not least <= found <= most:
            raise self.wrong(name, f"must be a number from {least:g} to {most:g}")
        return float(found)

    def raw(self, name: str) -> Any:
        """As it stands; None where it is missing."""
        found = self._get(name)
        return None if found is _MISSING else found

    def mapping(self, name: str) -> Place:
        return Place(self.source, self.at(name), self.raw(name) or {})

    def mappings(self, name: str) -> Iterator[Place]:
        found = self._get(name)
        if found is _MISSING:
            return
        if not isinstance(found, list):
            raise self.wrong(name, "must be a list")
        for position, each in enumerate(found):
            yield Place(self.source, f"{self.at(name)}[{position}]", each)

    def items(self) -> Iterator[str]:
        for name in self._value:
            if not isinstance(name, str):
                raise self.wrong("", "its names must be texts")
            yield name

    def file(self, name: str, folder: Path) -> Path:
        """A file beside the one that names it, unless its path is absolute. It must be there."""
        path = folder / self.text(name)
        if not path.is_file():
            raise self.wrong(name, f"{path} is not there")
        return path

    def content(self, name: str, folder: Path) -> bytes:
        path = self.file(name, folder)
        try:
            return path.read_bytes()
        except OSError as error:
            raise self.wrong(name, f"{path} cannot be read: {error.strerror}") from None

    def done(self) -> None:
        unknown = [str(name) for name in self._value if name not in self._read]
        if unknown:
            raise self.wrong(unknown[0], "there is no such field")

    def _get(self, name: str) -> Any:
        self._read.add(name)
        found = self._value.get(name)
        return _MISSING if found is None else found


def parse(content: bytes, source: str) -> Any:
    """YAML. Raises BadSources with the line."""
    import yaml

    from kubegate.api import yamlcodec

    try:
        return yamlcodec.load(content)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BadSources(source, place, f"not YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from None
