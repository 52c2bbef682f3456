"""Users in a CSV file: a secret, user name, user uid, and groups in one quoted column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from kubegate.authentication import UserInfo, with_authenticated


class BadUserFile(ValueError):
    """What is wrong in the file, and in which line; no secret is in the text."""


def read(content: bytes, what: str, columns: str) -> Iterator[tuple[str, UserInfo]]:
    """Each line's secret and user. `what` names the file in errors. Raises BadUserFile."""
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8")), strict=True)
        for record in reader:
            if not record:
                continue
            if len(record) < 3:
                text = f"{what} must have at least 3 columns ({columns}), found {len(record)}"
                raise BadUserFile(f"{text} in line {reader.line_num}")
            secret, name, uid = record[:3]
            groups = tuple(record[3].split(",")) if len(record) > 3 else ()
            yield secret, UserInfo(name, uid, with_authenticated(name, groups))
    except (csv.Error, UnicodeDecodeError) as error:
        problem = str(error) if isinstance(error, csv.Error) else "not UTF-8"
        raise BadUserFile(f"{what}: {problem}") from None
