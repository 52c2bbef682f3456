"""Text of others on a terminal: names in certificates, roles and mappings may hold anything."""

from __future__ import annotations

import re

import typer

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """What would steer the terminal, or turn the line round, is shown instead (CVE-2021-25743 was of this kind)."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def echo(text: str, *, err: bool = False) -> None:
    typer.echo(visible(text), err=err)
