"""The lab of two teams with real kubectl: commands in pods act as the pods' service accounts, and reach no further."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kubegate.testing.running import ApiError, Kubegate

TOOLS = Path(__file__).resolve().parents[2] / ".tools"
VERSIONS = [version for version in ("1.36", "1.32") if (TOOLS / f"kubectl-{version}").exists()]
pytestmark = [
    pytest.mark.skipif(not VERSIONS, reason="wants .tools/kubectl-*"),
    pytest.mark.kubegate("--simulate-nodes=2", "--simulate-nodes-exec"),
]
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=VERSIONS)
def program(request: pytest.FixtureRequest) -> Path:
    return TOOLS / f"kubectl-{request.param}"


@pytest.fixture
def kubectl(kubegate: Kubegate, program: Path, tmp_path: Path) -> Kubectl:
    """`kubectl("get", "pods")`; `user` is who one acts as."""

    def run(*words: str, user: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
        acting = [f"--as={user}"] if user else []
        command = [
            str(program),
            f"--kubeconfig={kubegate.kubeconfig}",
            f"--cache-dir={tmp_path}/cache",
            *acting,
            *words,
        ]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)

    return run


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def running(
    kubegate: Kubegate, kubectl: Kubectl, name: str, namespace: str = "default", account: str = "default"
) -> None:
    spec = {"serviceAccountName": account, "containers": [{"name": "c", "image": "example.org/tools:1"}]}
    kubegate.create(f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": name}, "spec": spec})
    done(kubectl("wait", "-n", namespace, f"pod/{name}", "--for=condition=Ready", "--timeout=30s"))


def test_two_teams_with_an_account_each(kubegate: Kubegate, kubectl: Kubectl, program: Path) -> None:
    for team in ("dev", "infra"):
        namespace = f"{team}-team"
        done(kubectl("create", "namespace", namespace))
        done(kubectl("create", "serviceaccount", f"{team}-k8s", "-n", namespace))
        done(kubectl("create", "role", "reads-pods", "--verb=get,list", "--resource=pods", "-n", namespace))
        bound = f"--serviceaccount={namespace}:{team}-k8s"
        done(kubectl("create", "rolebinding", "reads-pods", "--role=reads-pods", bound, "-n", namespace))
        running(kubegate, kubectl, f"{team}-kubectl", namespace, f"{team}-k8s")

    def inside(*words: str) -> subprocess.CompletedProcess[str]:
        return kubectl("exec", "-n", "dev-team", "dev-kubectl", "--", str(program), *words)

    assert done(inside("get", "pods", "-o", "name")) == "pod/dev-kubectl\n"
    whoami = "jsonpath={.status.userInfo.username}"
    assert done(inside("auth", "whoami", "-o", whoami)) == "system:serviceaccount:dev-team:dev-k8s"
    other = inside("get", "pods", "-n", "infra-team")
    assert other.returncode == 1
    assert (
        'Error from server (Forbidden): pods is forbidden: User "system:serviceaccount:dev-team:dev-k8s" cannot list '
        'resource "pods" in API group "" in the namespace "infra-team"' in other.stderr
    )
    assert inside("auth", "can-i", "delete", "pods").stdout == "no\n"
    assert "Forbidden" in done(kubectl("logs", "-n", "dev-team", "dev-kubectl"))


def test_streams_and_exit_codes(kubegate: Kubegate, kubectl: Kubectl) -> None:
    running(kubegate, kubectl, "a")
    found = kubectl("exec", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (found.returncode, found.stdout) == (7, "out\n")
    assert found.stderr == "err\ncommand terminated with exit code 7\n"
    text = "line\n" * 50_000
    assert done(kubectl("exec", "-i", "a", "--", "cat", stdin=text)) == text
    assert kubectl("exec", "a", "--", "no-such-program").returncode == 127


def test_a_command_has_the_pods_variables_and_nothing_of_the_servers(
    kubegate: Kubegate, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "hidden")
    env = [
        {"name": "COLOUR", "value": "red"},
        {"name": "LD_PRELOAD", "value": "/evil.so"},
        {"name": "PATH", "value": "/e"},
    ]
    spec = {"containers": [{"name": "c", "image": "i", "env": env}]}
    kubegate.create("/api/v1/namespaces/default/pods", {"metadata": {"name": "a"}, "spec": spec})
    done(kubectl("wait", "pod/a", "--for=condition=Ready", "--timeout=30s"))
    found = dict(line.partition("=")[::2] for line in done(kubectl("exec", "a", "--", "env")).splitlines())
    assert (found["COLOUR"], found["HOSTNAME"], found["PATH"]) == ("red", "a", os.environ["PATH"])
    assert found["KUBERNETES_SERVICE_PORT"] == kubegate.url.rpartition(":")[2]
    assert not found.keys() & {"SECRET_OF_THE_SERVER", "LD_PRELOAD"}


def test_logs(kubegate: Kubegate, kubectl: Kubectl) -> None:
    running(kubegate, kubectl, "a")
    first = done(kubectl("logs", "a"))
    assert first.startswith("kubegate simulates this container: nothing of example.org/tools:1 runs on node-")
    done(kubectl("exec", "a", "--", "sh", "-c", "echo one; echo two"))
    assert done(kubectl("logs", "a")) == first + "one\ntwo\n"
    assert done(kubectl("logs", "a", "--tail=1")) == "two\n"
    stamped = done(kubectl("logs", "a", "--tail=1", "--timestamps"))
    assert stamped.endswith("Z two\n")
    assert "previous terminated container" in kubectl("logs", "a", "--previous").stderr


def test_a_followed_log_ends_with_the_pod(kubegate: Kubegate, kubectl: Kubectl, program: Path) -> None:
    running(kubegate, kubectl, "a")
    command = [str(program), f"--kubeconfig={kubegate.kubeconfig}", "logs", "--follow", "a"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert "simulates" in following.stdout.readline()
        done(kubectl("exec", "a", "--", "echo", "hello"))
        assert following.stdout.readline() == "hello\n"
        done(kubectl("delete", "pod", "a"))
        assert following.wait(30) == 0


def test_who_may_not_create_may_not_run_commands(kubegate: Kubegate, kubectl: Kubectl) -> None:
    """A websocket begins with a GET; `get` of pods/exec alone is not enough."""
    running(kubegate, kubectl, "a")
    done(kubectl("create", "clusterrole", "looks", "--verb=get", "--resource=pods,pods/exec,pods/log"))
    done(kubectl("create", "clusterrolebinding", "looks", "--clusterrole=looks", "--user=looker"))
    refused = kubectl("exec", "a", "--", "id", user="looker")
    assert refused.returncode == 1
    assert 'User "looker" cannot create resource "pods/exec"' in refused.stderr
    assert "simulates" in done(kubectl("logs", "a", user="looker"))
    nobody = kubectl("exec", "a", "--", "id", user="nobody")
    assert nobody.returncode == 1
    assert "forbidden" in nobody.stderr


@pytest.mark.kubegate("--simulate-nodes=1")
def test_nothing_is_run_without_the_second_switch(kubegate: Kubegate, kubectl: Kubectl) -> None:
    running(kubegate, kubectl, "a")
    refused = kubectl("exec", "a", "--", "id")
    assert refused.returncode == 1
    assert "--simulate-nodes-exec" in refused.stderr
    assert "simulates" in done(kubectl("logs", "a"))


def test_a_pod_that_is_gone_takes_its_credentials_along(kubegate: Kubegate, kubectl: Kubectl, program: Path) -> None:
    running(kubegate, kubectl, "a")
    uid = kubegate.get("/api/v1/namespaces/default/pods/a")["metadata"]["uid"]
    folder = kubegate.folder / "pods" / uid
    file = next((folder / "volumes").glob("*/token"))
    token = file.read_text()
    done(kubectl("delete", "pod", "a"))
    assert not file.exists()
    review = {"spec": {"token": token}}
    status = kubegate.create("/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert "authenticated" not in status


def test_a_node_is_drained(kubegate: Kubegate, kubectl: Kubectl) -> None:
    done(kubectl("create", "deployment", "web", "--image=i", "--replicas=4"))
    done(kubectl("rollout", "status", "deployment", "web", "--timeout=30s"))
    done(kubectl("drain", "node-1", "--timeout=30s"))
    done(kubectl("rollout", "status", "deployment", "web", "--timeout=30s"))
    where = done(kubectl("get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"))
    assert where.split() == ["node-2"] * 4
    done(kubectl("uncordon", "node-1"))


def test_kubegate_exec(kubegate: Kubegate, kubectl: Kubectl, program: Path) -> None:
    """The same without the API server: by whoever owns the folder."""
    running(kubegate, kubectl, "a")

    def execute(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kubegate", "exec", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    data = f"--data-dir={kubegate.folder}"
    found = execute("a", data, "--", str(program), "auth", "whoami", "-o", "json")
    assert json.loads(done(found))["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"
    missing = execute("b", "-n", "kube-system", data, "--", "id")
    assert missing.returncode == 1
    assert "no pod kube-system/b runs on a simulated node" in missing.stderr
    assert 'container not found ("x"); there are c' in execute("a", "-c", "x", data, "--", "id").stderr


def test_without_mount_namespaces_variables_say_where_the_files_are(
    kubegate: Kubegate, kubectl: Kubectl, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubegate.nodes.commands._isolation", lambda: (None, "not permitted"))
    running(kubegate, kubectl, "a")
    found = kubectl("exec", "a", "--", str(program), "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert done(found) == "system:serviceaccount:default:default"
    assert "no mount namespace (not permitted)" in found.stderr
    assert done(kubectl("exec", "a", "--", "sh", "-c", "ls $KUBEGATE_VOLUMES/*/token")).endswith("/token\n")


def test_a_pod_waits_for_what_it_cannot_do_without(kubegate: Kubegate, kubectl: Kubectl) -> None:
    spec = {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "secret": {"secretName": "later"}}],
    }
    kubegate.create("/api/v1/namespaces/default/pods", {"metadata": {"name": "a"}, "spec": spec})
    waiting = "--for=jsonpath={.status.containerStatuses[0].state.waiting.reason}=ContainerCreating"
    done(kubectl("wait", "pod/a", waiting, "--timeout=30s"))
    assert "is waiting to start: ContainerCreating" in kubectl("logs", "a").stderr
    with pytest.raises(ApiError, match="no websocket was asked for"):
        kubegate.create("/api/v1/namespaces/default/pods/a/exec?command=id", {})
    done(kubectl("create", "secret", "generic", "later", "--from-literal=a=b"))
    done(kubectl("wait", "pod/a", "--for=condition=Ready", "--timeout=30s"))
