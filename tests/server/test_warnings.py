"""Warning headers: how they are written, and what becomes of too many."""

from __future__ import annotations

from kubegate.server.responses import warning_headers


def told(*texts: str) -> list[str]:
    """The texts in the headers."""
    return [value.decode().removeprefix('299 - "').removesuffix('"') for _, value in warning_headers(texts)]


def test_a_warning_is_quoted() -> None:
    assert warning_headers(['say "a\\b" é']) == [(b"warning", '299 - "say \\"a\\\\b\\" é"'.encode())]


def test_a_warning_with_control_characters_is_left_out() -> None:
    assert told("one", "two\nlines", "tab\t", "\x85", "end") == ["one", "end"]


def test_long_warnings_stay_whole_while_there_is_room() -> None:
    assert told("a" * 3000, "b" * 1096) == ["a" * 3000, "b" * 1096]


def test_where_there_is_no_room_each_is_cut_and_others_follow() -> None:
    assert told("a" * 3000, "b" * 1097, "c" * 300, "d") == ["a" * 256, "b" * 256, "c" * 256, "d"]


def test_what_is_too_much_all_the_same_is_not_sent() -> None:
    many = [f"{number:03}" + "x" * 253 for number in range(30)]
    assert told(*many) == many[:17]
    assert told("y" * 5000, *many) == ["y" * 256, *many[:15]]
