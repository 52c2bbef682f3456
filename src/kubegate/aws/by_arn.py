"""Which of several objects with one ARN counts: whoever signs in by it and what they may do come from the same."""

from __future__ import annotations

from typing import Generic, TypeVar

from kubegate.api import Object

T = TypeVar("T")


class ByArn(Generic[T]):
    """What each object says, by the ARN that it is about.

    Of several with one ARN the one made first counts; of those made at once, the first by name.
    """

    def __init__(self) -> None:
        self._said: dict[str, tuple[str, str, T]] = {}
        """By an object's name: when it was made, its ARN, and what it says."""
        self._names: dict[str, list[str]] = {}

    def put(self, obj: Object, arn: str, said: T) -> list[str]:
        """The names of all with the ARN; the first is the one that counts."""
        name = obj["metadata"]["name"]
        self.remove(name)
        self._said[name] = (obj["metadata"].get("creationTimestamp") or "", arn.lower(), said)
        names = self._names.setdefault(arn.lower(), [])
        names.append(name)
        names.sort(key=lambda each: (self._said[each][0], each))
        return names

    def remove(self, name: str) -> None:
        known = self._said.pop(name, None)
        if known is not None:
            names = self._names[known[1]]
            names.remove(name)
            if not names:
                del self._names[known[1]]

    def find(self, arn: str) -> T | None:
        names = self._names.get(arn.lower())
        return self._said[names[0]][2] if names else None

    def all(self) -> dict[str, T]:
        """What each says, by its name."""
        return {name: said for name, (_, _, said) in self._said.items()}
