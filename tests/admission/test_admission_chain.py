"""The chain: order, passes, what is left on the trace."""

from __future__ import annotations

import pytest
from admission_world import World, attributes, pod, run

from kubegate.admission import Attributes, Operation
from kubegate.admission.build import FAMILIES, MODULES
from kubegate.admission.chain import Chain
from kubegate.admission.config import PLUGINS
from kubegate.api.status import StatusError, forbidden

EVERY = frozenset(Operation)


class Recorder:
    """Notes each turn; does `act` in its mutating one."""

    handles = EVERY
    changes = True

    def __init__(self, name, log, act=None, resources=None):
        self.name, self._log, self._act, self.resources = name, log, act, resources

    async def admit(self, asked: Attributes) -> None:
        self._log.append(("admit", self.name, asked.reinvoking))
        if self._act:
            self._act(asked)

    async def validate(self, asked: Attributes) -> None:
        self._log.append(("validate", self.name, asked.reinvoking))


async def test_all_plugins_change_before_any_checks():
    log = []
    await run(Chain([Recorder("A", log), Recorder("B", log)]), attributes("configmaps", {"metadata": {"name": "a"}}))
    assert log == [
        ("admit", "A", False),
        ("admit", "B", False),
        ("validate", "A", False),
        ("validate", "B", False),
    ]


async def test_a_plugin_is_asked_only_about_the_resources_it_wants():
    log = []
    chain = Chain([Recorder("A", log, resources=frozenset({"pods", "pods/status"})), Recorder("B", log)])
    await chain.admit(attributes("configmaps", {"metadata": {"name": "a"}}))
    await chain.admit(attributes("pods", pod(), pod(), subresource="ephemeralcontainers"))
    assert [name for _, name, _ in log] == ["B", "B"]
    await chain.admit(attributes("pods", pod(), pod(), subresource="status"))
    assert [name for _, name, _ in log] == ["B", "B", "A", "B"]


async def test_who_asks_for_reinvocation_has_the_mutating_pass_run_once_more():
    log = []

    def again(asked):
        asked.reinvoke = True

    await Chain([Recorder("A", log), Recorder("B", log, again)]).admit(attributes("pods", pod()))
    assert log == [("admit", "A", False), ("admit", "B", False), ("admit", "A", True), ("admit", "B", True)]


async def test_the_trace_tells_what_each_plugin_changed():
    def label(asked):
        asked.object["metadata"].setdefault("labels", {})["a/b"] = "c"

    asked = attributes("configmaps", {"metadata": {"name": "a", "labels": {}}})
    await Chain([Recorder("A", []), Recorder("B", [], label)]).admit(asked)
    stages = [(stage.name, stage.decision, stage.changes()) for stage in asked.trace.stages]
    assert stages == [
        ("admission/A", "allow", []),
        ("admission/B", "changed", [{"op": "add", "path": "/metadata/labels/a~1b", "value": "c"}]),
    ]


async def test_changes_to_secrets_are_not_put_on_the_trace():
    def leak(asked):
        asked.object["data"] = {"password": "c2VjcmV0"}

    asked = attributes("secrets", {"metadata": {"name": "a"}})
    await Chain([Recorder("A", [], leak)]).admit(asked)
    assert [stage.changes() for stage in asked.trace.stages] == [[]]


async def test_a_refusal_ends_the_chain_and_is_on_the_trace():
    log = []

    def refuse(asked):
        raise forbidden("", "pods", "p", "no")

    asked = attributes("pods", pod())
    with pytest.raises(StatusError, match='pods "p" is forbidden: no'):
        await Chain([Recorder("A", log, refuse), Recorder("B", log)]).admit(asked)
    assert [name for _, name, _ in log] == ["A"]
    assert [(stage.decision, stage.reason) for stage in asked.trace.stages] == [
        ("deny", 'pods "p" is forbidden: no'),
    ]


async def test_a_plugin_that_breaks_refuses_without_telling_the_client_how():
    def broken(asked):
        raise KeyError("password=hunter2")

    with pytest.raises(StatusError) as caught:
        await Chain([Recorder("A", [], broken)]).admit(attributes("pods", pod()))
    assert caught.value.code == 500
    assert "hunter2" not in str(caught.value.status())


async def test_every_plugin_can_be_built_and_keeps_its_place(world: World):
    configured = {"EventRateLimit", "ImagePolicyWebhook"}
    names = [name for name in PLUGINS if name not in configured]
    assert world.chain(*names).names == tuple(names)
    assert set(MODULES) | {name for family in FAMILIES.values() for name in family} == set(PLUGINS)
