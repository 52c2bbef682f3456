"""pytest's fixtures: `gate_client` asks policies without a server, `kubegate` is a whole API server.

@pytest.fixture
def gate_policies():
    return "policies.py"                       # or a Gate

def test_latest_is_refused(gate_client):
    assert not gate_client.admit(deployment).allowed

@pytest.mark.kubegate("--gate=policies.py")    # flags of `kubegate serve`
def test_kubectl(kubegate):
    subprocess.run(["kubectl", "--kubeconfig", kubegate.kubeconfig, "get", "ns"], check=True)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kubegate.testing.running import Kubegate
    from kubegate.webhooks.client import GateClient
    from kubegate.webhooks.gate import Gate


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kubegate(*flags): flags for the server of the `kubegate` fixture")


@pytest.fixture
def gate_policies(request: pytest.FixtureRequest) -> Gate | Path:
    """Which policies `gate_client` asks: `policies.py` beside the test, or beside pytest's configuration.

    Override it to give another path, or a Gate.
    """
    for folder in (request.path.parent, request.config.rootpath):
        if (folder / "policies.py").exists():
            return folder / "policies.py"
    raise pytest.UsageError("gate_client: there is no policies.py; override the fixture gate_policies")


@pytest.fixture
def gate_client(gate_policies: Gate | Path) -> Iterator[GateClient]:
    """Reviews in and out, no server: `admit`, `authenticate`, `authorize`, `images`, `review`."""
    from kubegate.webhooks.client import GateClient

    with GateClient(gate_policies) as client:
        yield client


@pytest.fixture(scope="session")
def kubegate_pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of all servers of this process, made once. With pytest-xdist each worker has its own."""
    return tmp_path_factory.mktemp("kubegate-pki")


@pytest.fixture
def kubegate(request: pytest.FixtureRequest, tmp_path: Path, kubegate_pki: Path) -> Iterator[Kubegate]:
    """An API server of this test's own: empty, on a free port, ended with the test.

    `kubegate.url`, `kubegate.kubeconfig` (the administrator's), and `get`, `create`, `replace`, `patch`, `delete`.
    """
    from kubegate.testing.running import Kubegate

    marker = request.node.get_closest_marker("kubegate")
    flags = marker.args if marker is not None else ()
    with Kubegate(tmp_path / "kubegate", *flags, pki=kubegate_pki) as server:
        yield server
