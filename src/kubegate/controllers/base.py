"""What most controllers begin with."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.controllers import Client, World
from kubegate.controllers.objects import key_of
from kubegate.controllers.queue import Queue
from kubegate.storage import ObjectEvent, Reader


class Loop:
    """A queue, and from `start` on what is read, whom one writes as, and the time.

    `account` names the service account in kube-system whose permissions the controller has; its own name where it is
    left out.
    """

    name: str
    account: str = ""
    _reader: Reader
    _client: Client
    _clock: Clock

    def __init__(self) -> None:
        self.queue = Queue()

    def start(self, world: World) -> None:
        """Remember the world. Who follows something subscribes to it after this."""
        self._reader, self._clock = world.reader, world.clock
        self._client = world.clients(self.account or self.name)

    def _there(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        """For `subscribe`: whatever is there, or changes, is to be looked at."""
        if event is not ObjectEvent.DELETED:
            self.queue.add(key_of(obj))
