"""`--workers`: several processes on one port and one store are one server, whatever becomes of one of them."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from server_process import ServerProcess, command, serving
from worker_clients import CONFIGMAPS, Account, Connection, connect_to_each, once

from kubegate.controllers.leader import LEASE_SECONDS

WORKERS = ("--workers=2",)
ROOT = Path(__file__).resolve().parents[2]
ROLES = "/apis/rbac.authorization.k8s.io/v1"


@asynccontextmanager
async def under_load(
    server: ServerProcess, writers: int = 8
) -> AsyncIterator[tuple[Account, list[asyncio.Task[None]]]]:
    """Writers and two watchers at work; at the end, after the writers stopped, all is checked."""
    account = Account(server)
    seen: tuple[list[tuple[int, str, str]], list[tuple[int, str, str]]] = ([], [])
    watching = [asyncio.create_task(account.watch(each)) for each in seen]
    writing = [asyncio.create_task(account.write()) for _ in range(writers)]
    try:
        await asyncio.wait_for(account.await_more(50).wait(), 60)
        yield account, writing
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        await account.check(*seen)
    finally:
        for task in (*writing, *watching):
            task.cancel()
        await asyncio.gather(*writing, *watching, return_exceptions=True)


async def from_now_on(server: ServerProcess) -> str:
    """The path of a watch."""
    _, answer = await once(server, "GET", CONFIGMAPS)
    revision = answer["metadata"]["resourceVersion"]
    return f"{CONFIGMAPS}?watch=1&resourceVersion={revision}&fieldSelector=metadata.name!=kube-root-ca.crt"


async def replaced(server: ServerProcess, name: str, pid: int) -> int:
    """The process that took the place of the one that had `pid`."""
    async with asyncio.timeout(30):
        while (found := server.children().get(name, pid)) == pid:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def gone(pid: int) -> None:
    async with asyncio.timeout(30):
        while runs(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_what_one_worker_wrote_each_reads_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "s", WORKERS) as server:
        workers = await connect_to_each(server)
        status, _ = await workers[0].ask("POST", CONFIGMAPS, {"metadata": {"name": "a"}, "data": {"n": "-1"}})
        assert status == 201
        for number in range(100):
            writer, reader = workers[number % 2], workers[1 - number % 2]
            status, written = await writer.ask("PATCH", f"{CONFIGMAPS}/a", {"data": {"n": str(number)}})
            assert status == 200
            assert await reader.ask("GET", f"{CONFIGMAPS}/a") == (200, written)
            status, listed = await reader.ask("GET", CONFIGMAPS)
            assert written in [{**item, "kind": "ConfigMap", "apiVersion": "v1"} for item in listed["items"]]


async def test_what_one_worker_allows_each_allows_at_once(tmp_path: Path) -> None:
    with serving(tmp_path / "s", WORKERS) as server:
        admins, alices = await connect_to_each(server), await connect_to_each(server, token="alice-token")
        rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
        await admins[0].ask("POST", f"{ROLES}/clusterroles", {"metadata": {"name": "r"}, "rules": [rule]})
        binding = {
            "metadata": {"name": "b"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
        }
        for number in range(20):
            admin = admins[number % 2]
            status, answer = await admin.ask("POST", f"{ROLES}/clusterrolebindings", binding)
            assert status == 201, answer
            assert [(await alice.ask("GET", "/api/v1/secrets"))[0] for alice in alices] == [200, 200]
            await admin.ask("DELETE", f"{ROLES}/clusterrolebindings/b")
            assert [(await alice.ask("GET", "/api/v1/secrets"))[0] for alice in alices] == [403, 403]


async def test_watches_of_all_workers_bring_each_change_once_and_in_order(tmp_path: Path) -> None:
    with serving(tmp_path / "s", WORKERS) as server:
        watches, writers = await connect_to_each(server), await connect_to_each(server)
        for watch in watches:
            await watch.watch(await from_now_on(server))
        written = []
        for number in range(60):
            body = {"metadata": {"name": f"c-{number}"}}
            status, answer = await writers[number % 2].ask("POST", CONFIGMAPS, body)
            assert status == 201, answer
            written.append((answer["metadata"]["name"], answer["metadata"]["resourceVersion"]))
        for watch in watches:
            events = [(await watch.event())["object"]["metadata"] for _ in written]
            assert [(meta["name"], meta["resourceVersion"]) for meta in events] == written


async def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:
    with serving(tmp_path / "s", WORKERS) as server:
        async with under_load(server) as (account, _):
            pid = server.children()["worker 2"]
            os.kill(pid, signal.SIGKILL)
            await asyncio.wait_for(account.await_more(100).wait(), 60)
            await replaced(server, "worker 2", pid)
            await asyncio.wait_for(account.await_more(100).wait(), 60)
            assert account.failed == [], "only connections of the dead worker may fail"
            await connect_to_each(server)
        assert "worker 2 was ended by SIGKILL; it starts again" in server.log


async def test_a_keeper_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with serving(tmp_path / "s", WORKERS) as server:
        async with under_load(server) as (account, _):
            for _ in range(3):
                pid = server.children()["the keeper"]
                os.kill(pid, signal.SIGKILL)
                await replaced(server, "the keeper", pid)
                await asyncio.wait_for(account.await_more(100).wait(), 60)
            unknown = [text for status, text in account.failed if status == 504]
            assert all("not known" in text for text in unknown)
            refused = [each for each in account.failed if each[0] not in (409, 503, 504)]
            assert refused == [], "a write is done, of unknown outcome, or refused for now"


async def test_without_a_keeper_reads_go_on_and_writes_are_refused_until_it_is_back(tmp_path: Path) -> None:
    with serving(tmp_path / "s", WORKERS) as server:
        _, made = await once(server, "POST", CONFIGMAPS, {"metadata": {"name": "a"}})
        server.process.send_signal(signal.SIGSTOP)  # nobody starts it again for now
        try:
            os.kill(server.children()["the keeper"], signal.SIGKILL)
            async with asyncio.timeout(30):
                while (await once(server, "GET", "/readyz"))[0] == 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            _, text = await once(server, "GET", "/readyz?verbose")
            assert b"[-]poststarthook/storage-readiness failed" in text
            assert await once(server, "GET", f"{CONFIGMAPS}/a") == (200, made)
            status, answer = await once(server, "POST", CONFIGMAPS, {"metadata": {"name": "b"}})
            assert status == 503
            assert "the process that keeps the store is gone" in answer["message"]
        finally:
            server.process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            while (await once(server, "GET", "/readyz"))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await once(server, "POST", CONFIGMAPS, {"metadata": {"name": "b"}}))[0] == 201


async def test_a_definition_made_through_one_worker_is_served_by_all(tmp_path: Path) -> None:
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    definition = {
        "metadata": {"name": "things.example.org"},
        "spec": {"group": "example.org", "scope": "Cluster", "names": names, "versions": [version]},
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    with serving(tmp_path / "s", WORKERS) as server:
        workers = await connect_to_each(server)
        assert (await workers[0].ask("POST", definitions, definition))[0] == 201
        async with asyncio.timeout(30):
            path = f"{definitions}/things.example.org"
            while not established((await workers[0].ask("GET", path))[1]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        things = "/apis/example.org/v1/things"
        for number, worker in enumerate(workers):
            thing = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": f"t-{number}"}}
            status, answer = await worker.ask("POST", things, thing)
            assert status == 201, answer
        for worker in workers:
            _, answer = await worker.ask("GET", things)
            assert [item["metadata"]["name"] for item in answer["items"]] == ["t-0", "t-1"]


def established(definition: Any) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


async def test_what_is_sealed_at_rest_is_sealed_by_the_keeper(tmp_path: Path) -> None:
    key = base64.b64encode(b"k" * 32).decode()
    config = tmp_path / "encryption.yaml"
    config.write_text(
        "{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{resources: [secrets], "
        f"providers: [{{aesgcm: {{keys: [{{name: one, secret: {key}}}]}}}}]}}]}}"
    )
    with serving(tmp_path / "s", (*WORKERS, f"--encryption-provider-config={config}")) as server:
        workers = await connect_to_each(server)
        for name in ("configmaps", "secrets"):
            body = {"metadata": {"name": "a", "annotations": {"said": f"plain {name}"}}}
            assert (await workers[0].ask("POST", f"/api/v1/namespaces/default/{name}", body))[0] == 201
            _, found = await workers[1].ask("GET", f"/api/v1/namespaces/default/{name}/a")
            assert found["metadata"]["annotations"] == {"said": f"plain {name}"}
        server.stop()
    stored = b"".join(file.read_bytes() for file in (tmp_path / "s").glob("kubegate.db*"))
    assert b"plain configmaps" in stored
    assert b"plain secrets" not in stored
    assert b"k8s:enc:aesgcm:v1:one:" in stored


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[str]:
    """The URL of a member of its own."""
    binary = ROOT / ".tools" / "etcd"
    if not binary.exists():
        pytest.skip("no etcd here: `python scripts/tools.py etcd` brings it")
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{each.getsockname()[1]}" for each in (one, two)]
    words = [
        *(str(binary), f"--data-dir={tmp_path / 'etcd'}", "--unsafe-no-fsync", "--log-level=error"),
        *(f"--listen-client-urls={urls[0]}", f"--advertise-client-urls={urls[0]}"),
        *(f"--listen-peer-urls={urls[1]}", f"--initial-advertise-peer-urls={urls[1]}"),
        f"--initial-cluster=default={urls[1]}",
    ]
    process = subprocess.Popen(words)
    yield urls[0]
    process.kill()
    process.wait()


async def test_on_etcd_workers_are_processes_of_the_cluster(tmp_path: Path, etcd: str) -> None:
    with serving(tmp_path / "s", (*WORKERS, f"--etcd-servers={etcd}")) as server:
        assert set(server.children()) == {"worker 1", "worker 2"}
        workers = await connect_to_each(server)
        await workers[0].ask("POST", CONFIGMAPS, {"metadata": {"name": "a"}})
        for number in range(20):
            writer, reader = workers[number % 2], workers[1 - number % 2]
            status, written = await writer.ask("PATCH", f"{CONFIGMAPS}/a", {"data": {"n": str(number)}})
            assert status == 200
            assert await reader.ask("GET", f"{CONFIGMAPS}/a") == (200, written)
        lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kubegate-controllers"
        async with asyncio.timeout(30):
            while (await workers[0].ask("GET", lease))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert server.stop() == 0
    with serving(tmp_path / "s", (f"--etcd-servers={etcd}",)) as again:
        # The lead was given back: nobody waits for the Lease to lapse.
        await once(again, "POST", "/api/v1/namespaces", {"metadata": {"name": "n"}})
        async with asyncio.timeout(LEASE_SECONDS - 5):
            while (await once(again, "GET", "/api/v1/namespaces/n/serviceaccounts/default"))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_all_end_in_good_order_when_told_to(tmp_path: Path) -> None:
    with serving(tmp_path / "s", WORKERS) as server:
        children = server.children()
        account = Account(server)
        writing = [asyncio.create_task(account.write()) for _ in range(8)]
        await asyncio.wait_for(account.await_more(50).wait(), 60)
        watches = await connect_to_each(server)
        for watch in watches:
            await watch.watch(await from_now_on(server))
        server.process.send_signal(signal.SIGTERM)
        for watch in watches:
            while await watch.event() is not None:
                pass
        assert await asyncio.to_thread(server.process.wait, 30) == 0
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        assert not any(map(runs, children.values()))
        assert "Traceback" not in server.log
    with serving(tmp_path / "s", ()) as again:
        account.server = again
        await account.check()


def test_ctrl_c_which_a_terminal_sends_to_all_ends_them_in_good_order(tmp_path: Path) -> None:
    with subprocess.Popen(
        command(tmp_path, *WORKERS), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("kubegate serves on ")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


async def test_workers_end_when_the_process_that_watches_over_them_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path / "s", WORKERS) as server:
        children = server.children()
        assert set(children) == {"the keeper", "worker 1", "worker 2"}
        server.process.kill()
        for pid in children.values():
            await gone(pid)


async def test_one_worker_leads_the_controllers_and_another_takes_over(tmp_path: Path) -> None:
    async def has_service_account(name: str) -> None:
        await once(server, "POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        async with asyncio.timeout(30):
            while (await once(server, "GET", path))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    with serving(tmp_path / "s", (*WORKERS, "--v=1")) as server:
        await has_service_account("one")
        children = server.children()
        leaders = [line for line in server.log.splitlines() if "leads the controllers" in line]
        assert len(leaders) == 1
        leader = next(name for name in children if f" {name} " in leaders[0])
        os.kill(children[leader], signal.SIGKILL)
        await has_service_account("two")


async def test_no_two_services_are_given_the_same_address_or_port(tmp_path: Path) -> None:
    """In ranges that are full at the end, so that every choice is one of few."""
    ranges = ("--service-cluster-ip-range=10.96.0.0/26", "--service-node-port-range=30000-30059")
    with serving(tmp_path / "s", (*WORKERS, *ranges, "--controllers=none")) as server:
        path = "/api/v1/namespaces/default/services"

        async def make(connection: Connection, number: int, spec: dict[str, Any]) -> int:
            body = {"metadata": {"name": f"s-{number}"}, "spec": {**spec, "ports": [{"port": 80}]}}
            return (await connection.ask("POST", path, body))[0]

        connections = [each for _ in range(4) for each in await connect_to_each(server)]
        # the same address, asked for through all: one gets it
        asked = [make(each, n, {"clusterIP": "10.96.0.9"}) for n, each in enumerate(connections)]
        assert sorted(await asyncio.gather(*asked)) == [201] + [422] * 7

        async def fill(number: int) -> list[int]:
            return [await make(connections[number], 100 * (number + 1) + n, {"type": "NodePort"}) for n in range(9)]

        statuses = [status for each in await asyncio.gather(*map(fill, range(8))) for status in each]
        _, answer = await connections[0].ask("GET", path)
        addresses = [item["spec"]["clusterIP"] for item in answer["items"]]
        ports = [port["nodePort"] for item in answer["items"] for port in item["spec"]["ports"] if "nodePort" in port]
        assert len(set(addresses)) == len(addresses) == 62, "10.96.0.1 to 10.96.0.62"
        assert len(set(ports)) == len(ports) == statuses.count(201) == 60
        assert statuses.count(500) == 12


async def test_a_quota_holds_for_all_workers_together(tmp_path: Path) -> None:
    most = 5
    with serving(tmp_path / "s", WORKERS) as server:
        secrets = "/api/v1/namespaces/default/secrets"
        quota = {"metadata": {"name": "q"}, "spec": {"hard": {"count/secrets": str(most)}}}
        quotas = "/api/v1/namespaces/default/resourcequotas"
        assert (await once(server, "POST", quotas, quota))[0] == 201
        async with asyncio.timeout(30):
            while "used" not in (await once(server, "GET", f"{quotas}/q"))[1].get("status", {}):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        _, listed = await once(server, "GET", secrets)
        assert listed["items"] == []
        (watch, *_) = await connect_to_each(server)
        await watch.watch(f"{secrets}?watch=1&resourceVersion={listed['metadata']['resourceVersion']}")

        async def come_and_go(number: int, connection: Connection) -> int:
            made = 0
            for turn in range(30):
                name = f"s-{number}-{turn}"
                status, _ = await connection.ask("POST", secrets, {"metadata": {"name": name}})
                assert status in (201, 403)
                made += status == 201
                await connection.ask("DELETE", f"{secrets}/{name}")
            return made

        connections = [each for _ in range(4) for each in await connect_to_each(server)]
        made = sum(await asyncio.gather(*(come_and_go(n, each) for n, each in enumerate(connections))))
        there, highest = 0, 0
        for _ in range(2 * made):
            there += {"ADDED": 1, "DELETED": -1}[(await watch.event())["type"]]
            highest = max(highest, there)
        assert there == 0
        assert 0 < highest <= most


POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: [alice]}
- {level: None}
"""


async def test_the_audit_log_has_the_lines_of_all_workers_whole(tmp_path: Path) -> None:
    policy, log = tmp_path / "policy.yaml", tmp_path / "audit.log"
    policy.write_text(POLICY)
    with serving(tmp_path / "s", (*WORKERS, f"--audit-policy-file={policy}", f"--audit-log-path={log}")) as server:
        alices = await connect_to_each(server, token="alice-token")

        async def ask(number: int) -> None:
            for count in range(100):
                await alices[number].ask("GET", f"{CONFIGMAPS}/{number}-{count}-{'x' * 2000}")

        await asyncio.gather(ask(0), ask(1))
        assert server.stop() == 0
    events = [orjson.loads(line) for line in log.read_bytes().splitlines()]
    asked = [event["requestURI"] for event in events if event["requestURI"].startswith(CONFIGMAPS)]
    assert len(asked) == len(set(asked)) == 200
    assert len({event["auditID"] for event in events}) == len(events)


async def test_metrics_of_any_worker_are_those_of_all_also_of_one_that_died(tmp_path: Path) -> None:
    async def counted(connection: Connection, number: int) -> None:
        async with asyncio.timeout(30):
            while True:
                _, text = await connection.ask("GET", "/metrics")
                lines = [line for line in text.decode().splitlines() if line.startswith("apiserver_request_total")]
                told = [line for line in lines if 'resource="secrets"' in line and 'verb="LIST"' in line]
                if sum(int(line.rpartition(" ")[2]) for line in told) == number:
                    return

    with serving(tmp_path / "s", (*WORKERS, "--controllers=none")) as server:
        workers = await connect_to_each(server)
        for each in workers:
            for _ in range(20):
                await each.ask("GET", "/api/v1/secrets")
        for each in workers:
            await counted(each, 40)
        pid = server.children()["worker 2"]
        os.kill(pid, signal.SIGKILL)
        await replaced(server, "worker 2", pid)
        for each in await connect_to_each(server):
            await counted(each, 40)


def test_the_folder_that_they_share_is_locked_against_those_who_tidy_and_gone_at_the_end(tmp_path: Path) -> None:
    with serving(tmp_path / "s", WORKERS) as server:
        links = [descriptor.readlink() for descriptor in Path(f"/proc/{server.process.pid}/fd").iterdir()]
        (folder,) = (link for link in links if link.name.startswith("kubegate-workers-"))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        tidying = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(tidying, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(tidying)
        assert server.stop() == 0
        assert not folder.exists()


def test_they_say_that_they_serve_once_and_when_all_do(tmp_path: Path) -> None:
    with serving(tmp_path / "s", ("--workers=3",)) as server:
        assert set(server.children()) == {"the keeper", "worker 1", "worker 2", "worker 3"}
        assert server.stop() == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--workers=2", "--storage=memory"), "lives in one process and cannot be shared"),
        (("--workers=0",), "--workers=0: expected a number from 1 to 64"),
        (("--workers=2", "--authorization-mode=Nonsense"), "Nonsense"),
        (("--workers=2", "--encryption-provider-config=/none.yaml"), "cannot read /none.yaml"),
    ],
)
def test_what_cannot_be_is_said_once(tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    started = time.monotonic()
    done = subprocess.run(command(tmp_path, *flags), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert time.monotonic() - started < 30


def test_a_port_that_another_program_has_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        words = command(tmp_path, *WORKERS, f"--secure-port={other.getsockname()[1]}")
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "--secure-port: cannot listen on 127.0.0.1:" in done.stderr


def test_a_file_that_another_server_has_is_named(tmp_path: Path) -> None:
    with serving(tmp_path / "s", WORKERS):
        done = subprocess.run(command(tmp_path / "s", *WORKERS), capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "is in use by another process" in done.stderr
