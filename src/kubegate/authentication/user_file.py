"""Users in a CSV file: a secret, user name, user uid, and groups in one quoted column.

CSV is what Go's encoding/csv reads. Python's own reader is another: it takes a carriage return for the end of a line,
and a quote within a bare field for a letter.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubegate.authentication import UserInfo, with_authenticated, with_whole_characters

_BARE_QUOTE = 'bare " in non-quoted-field'
_QUOTE = 'extraneous or missing " in quoted-field'


class BadUserFile(ValueError):
    """What is wrong in the file, and in which line; no secret is in the text."""


def read(content: bytes, what: str, columns: str) -> Iterator[tuple[str, UserInfo]]:
    """Each line's secret and user. `what` names the file in errors. Raises BadUserFile."""
    for line, fields in _records(content, what):
        record = [with_whole_characters(field.decode(errors="surrogateescape")) for field in fields]
        if len(record) < 3:
            text = f"{what} must have at least 3 columns ({columns}), found {len(record)}"
            raise BadUserFile(f"{text} in line {line}")
        secret, name, uid = record[:3]
        groups = tuple(record[3].split(",")) if len(record) > 3 else ()
        yield secret, UserInfo(name, uid, with_authenticated(name, groups))


def _records(content: bytes, what: str) -> Iterator[tuple[int, list[bytes]]]:
    """The number of the line on which each record ends, and its fields. Raises BadUserFile."""
    lines = _lines(content)
    for number, line in lines:
        if line.rstrip(b"\n"):
            yield _Record(number, line, lines, what).fields()


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines with their ends, which are one newline whatever they were; only the last may have none."""
    *ended, last = content.split(b"\n")
    for number, line in enumerate(ended, 1):
        yield number, line.removesuffix(b"\r") + b"\n"
    if last:
        yield len(ended) + 1, last.removesuffix(b"\r")


class _Record:
    """One record, which takes more lines where a quoted field goes over their ends."""

    def __init__(self, number: int, line: bytes, lines: Iterator[tuple[int, bytes]], what: str) -> None:
        self._start = self._number = number
        self._line, self._lines, self._what = line, lines, what
        self._at = 0

    def fields(self) -> tuple[int, list[bytes]]:
        found = []
        more = True
        while more:
            field, more = self._quoted() if self._line.startswith(b'"', self._at) else self._bare()
            found.append(field)
        return self._number, found

    def _bare(self) -> tuple[bytes, bool]:
        """A field, and whether there is another one after it."""
        rest = self._line[self._at :].removesuffix(b"\n")
        field, comma, _ = rest.partition(b",")
        quote = field.find(b'"')
        if quote >= 0:
            raise self._wrong(self._at + quote, _BARE_QUOTE)
        self._at += len(field) + 1
        return field, bool(comma)

    def _quoted(self) -> tuple[bytes, bool]:
        field = b""
        self._at += 1
        while True:
            quote = self._line.find(b'"', self._at)
            if quote < 0:
                field += self._line[self._at :]
                self._next_line()
                continue
            field += self._line[self._at : quote]
            self._at = quote + 1
            after = self._line[self._at :]
            if after.startswith(b'"'):
                field += b'"'
                self._at += 1
            elif after.startswith(b","):
                self._at += 1
                return field, True
            elif after in (b"", b"\n"):
                return field, False
            else:
                raise self._wrong(quote, _QUOTE)

    def _next_line(self) -> None:
        following = next(self._lines, None)
        if following is None:
            raise self._wrong(len(self._line), _QUOTE)
        self._number, self._line = following
        self._at = 0

    def _wrong(self, at: int, problem: str) -> BadUserFile:
        before = f"record on line {self._start}; " if self._start != self._number else ""
        place = f"{before}parse error on line {self._number}, column {at + 1}"
        return BadUserFile(f"{self._what}: {place}: {problem}")
