"""Where audit events go: nothing waits for a slow disk or webhook, and what is lost is counted and told of."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit_log import logged
from server_client import Start

from kubegate.server.audit_sinks import LogFile, Webhook
from kubegate.storage.filelock import FileLock
from kubegate.transport.metrics import Counter


class HandClock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def errors() -> Counter:
    return Counter("errors", "", ("plugin",))


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[Path]:
    """Held by somebody else: nothing is written until the end of the test."""
    held = FileLock(tmp_path / "lock")
    held.wait()
    yield tmp_path / "lock"
    held.close()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def rotated(folder: Path) -> list[Path]:
    return list(folder.glob("audit-*.log"))


# ---------------------------------------------------------------------- the file
async def test_the_log_is_rotated_by_size_and_old_files_go(tmp_path: Path, errors: Counter) -> None:
    path = tmp_path / "audit.log"
    log = LogFile(str(path), max_megabytes=1, max_backups=2, errors=errors)
    line = b'{"x":"' + b"y" * 600_000 + b'"}'
    for _ in range(8):
        log(line)
    await log.close()
    assert log.lost == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(rotated(tmp_path)) == 2


async def test_several_processes_write_whole_lines_to_one_log_and_rotate_it_once(
    tmp_path: Path, errors: Counter
) -> None:
    path = tmp_path / "audit.log"
    logs = [LogFile(str(path), max_megabytes=1, lock=tmp_path / "lock", errors=errors) for _ in range(3)]
    for number in range(400):
        for name, log in enumerate(logs):
            log(b'{"line": "%d-%d", "filling": "%s"}' % (name, number, b"x" * 3000))
    for log in logs:
        await log.close()
        assert log.lost == 0
    files = [path, *rotated(tmp_path)]
    lines = [json.loads(line)["line"] for file in files for line in file.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{name}-{number}" for name in range(3) for number in range(400))
    assert len(files) > 2


async def test_what_is_lost_is_told_of_at_once_and_then_at_most_each_minute(
    tmp_path: Path, lock: Path, errors: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    now = HandClock()
    log = LogFile(str(tmp_path / "log"), limit=2, lock=lock, errors=errors, now=now, patience=0)
    for _ in range(4):
        log(b"x")
    assert told(caplog) == [
        f"audit log {tmp_path}/log: events come faster than they are written; 1 events were lost so far"
    ]
    now.time = 59
    log(b"x")
    assert len(told(caplog)) == 1
    now.time = 60
    log(b"x")
    assert told(caplog)[1].endswith("; 4 events were lost so far")
    assert errors.values == {("buffered",): 4, ("log",): 0}


async def test_what_waits_for_the_disk_is_bounded_in_bytes(tmp_path: Path, lock: Path, errors: Counter) -> None:
    log = LogFile(str(tmp_path / "log"), most_bytes=10, lock=lock, errors=errors)
    for line in (b"123456", b"12345", b"1234", b"1"):
        log(line)
    assert log.lost == 2


async def test_what_cannot_be_written_is_lost_and_told_of(
    tmp_path: Path, errors: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    log = LogFile(str(tmp_path / "log"), errors=errors)
    (tmp_path / "log").unlink()
    (tmp_path / "log").mkdir()
    log(b"x")
    await log.close()
    assert errors.values == {("buffered",): 0, ("log",): 1}
    assert told(caplog) == [f"audit log {tmp_path}/log: Is a directory; 1 events were lost so far"]


async def test_a_disk_that_hangs_does_not_keep_the_server_from_its_end(
    tmp_path: Path, lock: Path, errors: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    log = LogFile(str(tmp_path / "log"), lock=lock, errors=errors, patience=0)
    log(b"x")
    log(b"y")
    await log.close()
    assert log.lost == 2
    assert told(caplog)[0].endswith("the server ends before they are written; 2 events were lost so far")


# ---------------------------------------------------------------------- the webhook
async def test_what_waits_for_the_webhook_is_bounded_in_number_and_bytes(errors: Counter) -> None:
    async def send(_: bytes) -> None: ...

    few = Webhook(send, max_size=10, max_wait=30, buffer=2, errors=errors)
    small = Webhook(send, max_size=10, max_wait=30, buffer=100, most_bytes=5, errors=errors)
    for line in (b"123", b"12", b"1"):
        few(line)
        small(line)
    assert (few.lost, small.lost) == (1, 1)
    assert errors.values[("buffered",)] == 2


async def test_at_the_end_what_waits_is_sent_without_waiting_for_a_whole_batch(errors: Counter) -> None:
    sent: list[list[int]] = []

    async def send(body: bytes) -> None:
        sent.append(json.loads(body)["items"])

    webhook = Webhook(send, max_size=2, max_wait=3600, buffer=100, errors=errors)
    running = asyncio.create_task(webhook.run())
    for number in range(5):
        webhook(b"%d" % number)
    await webhook.close()
    await running
    assert sent == [[0, 1], [2, 3], [4]]


async def test_what_the_webhook_refuses_is_lost_and_told_of(errors: Counter, caplog: pytest.LogCaptureFixture) -> None:
    async def send(_: bytes) -> None:
        raise OSError("it is away")

    webhook = Webhook(send, max_size=2, max_wait=3600, buffer=100, errors=errors)
    running = asyncio.create_task(webhook.run())
    for _ in range(4):
        webhook(b"1")
    await webhook.close()
    await running
    assert errors.values == {("buffered",): 0, ("webhook",): 4}
    assert told(caplog) == [
        "audit webhook: it is away; 2 events were lost so far",
        "audit webhook: it is away; 4 events were lost so far",
    ]


async def test_a_webhook_that_hangs_does_not_keep_the_server_from_its_end(errors: Counter) -> None:
    async def send(_: bytes) -> None:
        await asyncio.Event().wait()

    webhook = Webhook(send, max_size=2, max_wait=3600, buffer=100, errors=errors, patience=0)
    running = asyncio.create_task(webhook.run())
    for _ in range(3):
        webhook(b"1")
    await webhook.close()
    assert webhook.lost == 3
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# ---------------------------------------------------------------------- metrics
async def test_events_are_counted_under_kube_apiserver_s_names(start: Start, tmp_path: Path) -> None:
    policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, users: [alice]}, {level: Metadata}]\n"
    running = await logged(start, tmp_path, policy)
    await running.client.ask("GET", "/version", token="alice-token")
    await running.client.ask("GET", "/version", token="bob-token")
    lines = (await running.client.ask("GET", "/metrics")).body.decode().splitlines()
    assert [line for line in lines if line.startswith("apiserver_audit_")] == [
        "apiserver_audit_event_total 3",
        'apiserver_audit_level_total{level="Metadata"} 2',
        'apiserver_audit_level_total{level="None"} 1',
        'apiserver_audit_error_total{plugin="buffered"} 0',
        'apiserver_audit_error_total{plugin="log"} 0',
    ]
