"""Writing policies: what is taken, what is refused with a word of help, and where functions run."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from kubegate import Deny, Gate
from kubegate.webhooks.calls import Caller, PolicyFailed
from kubegate.webhooks.gate import GateError, Policy, ResourceName, Review
from kubegate.webhooks.policyfile import PolicyFileError, load


@pytest.mark.parametrize(
    ("text", "resource", "group", "version"),
    [
        ("pods", "pods", "", "*"),
        ("deployments.apps", "deployments", "apps", "*"),
        ("deployments.v1.apps", "deployments", "apps", "v1"),
        ("pods.v1", "pods", "", "v1"),
        ("certificates.cert-manager.io", "certificates", "cert-manager.io", "*"),
        ("deployments.apps/scale", "deployments/scale", "apps", "*"),
        ("*", "*", "*", "*"),
        ("*.apps", "*", "apps", "*"),
    ],
)
def test_resources_are_written_as_kubectl_has_them(text: str, resource: str, group: str, version: str) -> None:
    assert ResourceName.parse(text) == ResourceName(resource, group, version)


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda gate: gate.validate()(lambda obj: None), "needs the resources"),
        (lambda gate: gate.validate("pods", operations=["create"], name="x")(lambda obj: None), "is no operation"),
        (lambda gate: gate.validate("Pods", name="x")(lambda obj: None), "names no resource"),
        (lambda gate: gate.validate("pods", name="x")(lambda: None), "takes 0 arguments"),
        (lambda gate: gate.validate("pods", name="Not A Name")(lambda obj: None), "cannot be a policy's name"),
        (lambda gate: gate.validate("pods", timeout=60, name="x")(lambda obj: None), "wanted is 1 to 30"),
        (lambda gate: gate.validate("pods", objects={"a b": "c"}, name="x")(lambda obj: None), "is no selector"),
        (lambda gate: gate.authenticate("a token"), "goes before a function"),
    ],
)
def test_what_cannot_be_registered_is_told_in_a_line(register: Any, message: str) -> None:
    with pytest.raises(GateError, match=message):
        register(Gate())


def test_two_policies_of_one_name_are_refused() -> None:
    gate = Gate()
    gate.validate("pods", name="same")(lambda obj: None)
    gate.mutate("pods", name="same")(lambda obj: None)  # of another kind, at another path
    with pytest.raises(GateError, match="two policies 'same'"):
        gate.validate("pods", name="same")(lambda obj: None)


def test_a_denial_that_would_allow_is_refused() -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        Deny("no", code=200)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "there is no Gate in it"),
        ("from kubegate import Gate\ngate = Gate()\n", "has no policy"),
        ("\n1 / 0\n", r":2: ZeroDivisionError"),
        ("def f(:\n", r":1: invalid syntax"),
        ("raise SystemExit(3)\n", ":1: SystemExit"),
    ],
)
def test_a_file_that_is_no_policy_file_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "policies.py").write_text(text)
    with pytest.raises(PolicyFileError, match=message):
        load(tmp_path / "policies.py")


async def test_a_function_that_blocks_holds_up_no_other() -> None:
    """Both wait for each other: one thread alone would never end."""
    gate, meeting = Gate(), threading.Barrier(2, timeout=20)

    @gate.validate("pods")
    def meets(pod: Any) -> int:
        return meeting.wait()

    import asyncio

    caller = Caller(threads=2)
    found = await asyncio.gather(*(caller.call(gate.policies[0], {}, Review({})) for _ in range(2)))
    caller.close()
    assert sorted(found) == [0, 1]


async def test_asynchronous_functions_run_on_the_loop_and_others_beside_it() -> None:
    gate = Gate()

    @gate.validate("pods")
    async def on_it(pod: Any) -> int:
        return threading.get_ident()

    @gate.validate("pods")
    def beside_it(pod: Any) -> int:
        return threading.get_ident()

    caller = Caller()
    here, there = [await caller.call(policy, {}, Review({})) for policy in gate.policies]
    caller.close()
    assert here == threading.get_ident() != there


async def test_a_policy_that_does_not_answer_in_time_fails() -> None:
    import asyncio

    async def never(pod: Any) -> None:
        await asyncio.Event().wait()

    policy = Policy("validate", "never", never, asynchronous=True, takes_review=False)
    with pytest.raises(PolicyFailed, match="policy never failed"):
        await Caller(longest=0.01).call(policy, {}, Review({}))


@pytest.mark.parametrize(
    "raised", [SystemExit(1), StopIteration(), RecursionError("deep"), BaseException("base"), KeyboardInterrupt()]
)
async def test_whatever_a_function_raises_is_a_failure_and_no_more(raised: BaseException) -> None:
    def raises(pod: Any) -> None:
        raise raised

    caller = Caller()
    with pytest.raises(PolicyFailed):
        await caller.call(Policy("validate", "raises", raises, False, False), {}, Review({}))
    caller.close()


def test_importing_kubegate_loads_nothing_else() -> None:
    code = "import sys, kubegate; print(sum(name.startswith('kubegate.') for name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "0"
