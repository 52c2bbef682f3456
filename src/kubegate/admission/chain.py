"""The chain: all plugins in kube-apiserver's order, first those that change, later those that only check.

Which plugins can matter is worked out once for each operation and resource, so that an object that no plugin wants
costs a dictionary's look-up. Follows k8s.io/apiserver/pkg/admission (chain, reinvocation).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from msgspec import Struct

from kubegate.admission import Attributes, GroupVersionResource, Operation, Plugin
from kubegate.admission.difference import between
from kubegate.api.status import StatusError, internal
from kubegate.api.trace import Stage

_log = logging.getLogger(__name__)

_Key = tuple[Operation, GroupVersionResource, str]


class _Turn(Struct, frozen=True):
    """One plugin's turn in a pass. `idle` is asked first; `idly` is the stage that is left where it is."""

    plugin: Plugin
    ask: Callable[[Attributes], Awaitable[None]]
    idle: Callable[[Attributes], bool]
    idly: Stage


# Custom resources come and go; what is known of those that went is forgotten with the rest.
_MOST_ROUTES = 4096
# Law 5: what these hold is written to no trace, not even as a difference.
_NEVER_SHOWN = frozenset({"secrets"})


class Chain:
    """Asks each plugin in turn. Who deletes calls both passes as well, with `object` None and the stored object old.

    Each plugin that is asked leaves a stage `admission/NAME` on the trace: its decision (allow, changed, deny, error),
    the reason, the time, and through `Stage.changes()` what it changed.
    """

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._plugins = tuple(plugins)
        self._mutating: dict[_Key, tuple[_Turn, ...]] = {}
        self._validating: dict[_Key, tuple[_Turn, ...]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The plugins in the order in which they are asked."""
        return tuple(plugin.name for plugin in self._plugins)

    def replace(self, plugins: Mapping[str, Plugin]) -> None:
        """Put these, by name, in the places of those of their names."""
        self._plugins = tuple(plugins.get(plugin.name, plugin) for plugin in self._plugins)
        self._mutating.clear()
        self._validating.clear()

    async def admit(self, attributes: Attributes) -> None:
        """The mutating pass: `attributes.object` may be another afterwards. Raises StatusError where one refuses.

        Where a plugin wants those before it to look once more, all are asked a second time.
        """
        shown = attributes.resource.resource not in _NEVER_SHOWN or bool(attributes.resource.group)
        before = b""
        stages = attributes.trace.stages
        for turn in self._route(self._mutating, attributes, "admit"):
            if turn.idle(attributes):
                stages.append(turn.idly)
                continue
            start = time.perf_counter()
            stage = Stage(turn.idly.name, "allow", "admit")
            watched = turn.plugin.changes and shown and attributes.object is not None
            if watched and not before:
                before = orjson.dumps(attributes.object)
            try:
                await turn.ask(attributes)
            except Exception as error:
                raise _refused(stage, turn.plugin, error) from error
            finally:
                stage.seconds = time.perf_counter() - start
                stages.append(stage)
            if watched:
                # Encoding is far cheaper than a deep copy, and than the difference, which only few requests need.
                after = orjson.dumps(attributes.object)
                if after != before:
                    stage.decision, stage.difference = "changed", partial(between, before, after)
                before = after
            else:
                before = b""
        if attributes.reinvoke and not attributes.reinvoking:
            attributes.reinvoke, attributes.reinvoking = False, True
            await self.admit(attributes)

    async def validate(self, attributes: Attributes) -> None:
        """The validating pass, for the object as it will be stored. Raises StatusError where one refuses."""
        stages = attributes.trace.stages
        for turn in self._route(self._validating, attributes, "validate"):
            if turn.idle(attributes):
                stages.append(turn.idly)
                continue
            start = time.perf_counter()
            stage = Stage(turn.idly.name, "allow", "validate")
            try:
                await turn.ask(attributes)
            except Exception as error:
                raise _refused(stage, turn.plugin, error) from error
            finally:
                stage.seconds = time.perf_counter() - start
                stages.append(stage)

    async def close(self) -> None:
        """Let go of what plugins hold (connections); afterwards the chain is not asked again."""
        for plugin in self._plugins:
            close = getattr(plugin, "close", None)
            if close is not None:
                await close()

    def _route(self, routes: dict[_Key, tuple[_Turn, ...]], attributes: Attributes, turn: str) -> tuple[_Turn, ...]:
        key = (attributes.operation, attributes.resource, attributes.subresource)
        found = routes.get(key)
        if found is None:
            if len(routes) >= _MOST_ROUTES:
                routes.clear()
            found = routes[key] = tuple(self._asked(key, turn))
        return found

    def _asked(self, key: _Key, turn: str) -> list[_Turn]:
        operation, asked_for, subresource = key
        resource = asked_for.group_resource
        wanted = {f"{resource}/{subresource}", f"{resource}/*"} if subresource else {resource}
        asked = []
        for plugin in self._plugins:
            method: Any = getattr(plugin, turn, None)
            if method is None or operation not in plugin.handles:
                continue
            if plugin.resources is None or not wanted.isdisjoint(plugin.resources):
                idly = Stage(f"admission/{plugin.name}", "allow", turn)
                asked.append(_Turn(plugin, method, getattr(plugin, "idle", _never), idly))
        return asked


def _never(attributes: Attributes) -> bool:
    return False


def _refused(stage: Stage, plugin: Plugin, error: Exception) -> Exception:
    """What the client is told. A plugin that fails refuses: its own error goes to the log, and no further."""
    if isinstance(error, StatusError):
        stage.decision, stage.reason = "deny", error.message
        return error
    stage.decision, stage.reason = "error", type(error).__name__
    _log.exception("admission plugin %s failed", plugin.name, exc_info=error)
    return internal(f"admission plugin {plugin.name} failed")
