"""The checker of histories finds what it is there to find."""

from __future__ import annotations

from storage_history import Operation, Written, faults

LOG = [Written(2, "a", 1), Written(3, "a", 2), Written(4, "b", 3), Written(5, "a", None)]


def put(id: int, key: str, start: float, end: float, expected: int, revision: int) -> Operation:
    return Operation(id, "put", key, start, expected, end, revision)


def get(id: int, key: str, start: float, end: float, revision: int) -> Operation:
    return Operation(id, "get", key, start, 0, end, revision)


WRITES = [
    put(1, "a", 0, 1, 0, 2),
    put(2, "a", 2, 3, 2, 3),
    put(3, "b", 4, 5, 0, 4),
    Operation(4, "delete", "a", 6, 3, 7, 5),
]


def test_a_history_that_fits_the_log_has_no_faults() -> None:
    reads = [get(5, "a", 1.5, 1.6, 2), get(6, "a", 2.5, 2.6, 2), get(7, "a", 2.5, 2.6, 3), get(8, "a", 8, 9, 0)]
    assert faults([*WRITES, *reads], LOG) == []


def test_a_lost_write_is_found() -> None:
    lost = Operation(9, "put", "b", 8, 4, 9, 6)
    assert any("was acknowledged" in fault for fault in faults([*WRITES, lost], LOG))


def test_a_stale_read_is_found() -> None:
    assert any("saw an old state" in fault for fault in faults([*WRITES, get(5, "a", 3.5, 3.6, 2)], LOG))
    assert any("did not see" in fault for fault in faults([*WRITES, get(5, "b", 5.5, 5.6, 0)], LOG))
    assert any("saw an old state" in fault for fault in faults([*WRITES, get(5, "a", 7.5, 7.6, 3)], LOG))


def test_reads_that_go_back_are_found() -> None:
    reads = [get(5, "a", 2.2, 2.3, 3), get(6, "a", 2.4, 2.5, 2)]
    assert any("saw an old state" in fault for fault in faults([*WRITES, *reads], LOG))


def test_a_read_of_the_future_is_found() -> None:
    assert any("not yet asked for" in fault for fault in faults([*WRITES, get(5, "a", 1.2, 1.3, 3)], LOG))


def test_a_write_over_a_change_that_it_did_not_know_is_found() -> None:
    blind = [WRITES[0], put(2, "a", 2, 3, 0, 3), *WRITES[2:]]
    assert any("was to follow" in fault for fault in faults(blind, LOG))


def test_a_write_that_nobody_asked_for_is_found() -> None:
    assert any("nobody asked" in fault for fault in faults(WRITES, [*LOG, Written(6, "b", 77)]))


def test_a_write_that_came_true_after_it_was_refused_is_found() -> None:
    refused = [*WRITES[:2], Operation(3, "put", "b", 4, 0, 5, 0, refused=True), WRITES[3]]
    assert any("told otherwise" in fault for fault in faults(refused, LOG))


def test_writes_of_unknown_outcome_may_have_happened_or_not() -> None:
    unknown = [*WRITES[:2], Operation(3, "put", "b", 4, 0), WRITES[3], Operation(9, "put", "b", 8, 4)]
    assert faults(unknown, LOG) == []
