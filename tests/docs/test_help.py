"""What `--help` prints: every command in a line that is not cut off, every flag of the server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
import typer.main

from kubegate.cli import main
from kubegate.cli.commands import load
from kubegate.cli.flags import GROUPS
from kubegate.server.options import Options


def commands(group: Any, path: str = "kubegate") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")


def test_no_line_of_the_lists_of_commands_is_cut_off() -> None:
    found = dict(commands(typer.main.get_command(load(""))))
    assert len(found) > 40
    assert {name: short for name, each in found.items() if (short := each.get_short_help_str(50)).endswith("...")} == {}


@pytest.mark.parametrize("command", ["serve", "up"])
def test_all_flags_of_the_server_are_told(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = list(chain.from_iterable(GROUPS.values()))
    assert sorted(told) == sorted(Options.__struct_fields__)
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 120
    for name in told:
        assert f"\n  --{name.replace('_', '-')}" in printed
    assert "\n  --secure-port N         the TLS port; 0 takes a free one (6443)\n" in printed
    assert "how long its answers are remembered (2m)" in printed
