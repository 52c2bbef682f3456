"""What if: which subjects gain and lose what between two states of a cluster's roles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kubegate.analysis.sources import Cluster, Progress
from kubegate.authorization.rules import Rule, compact, compact_string, covers

Subject = tuple[str, str]
"""Kind and name; a service account's is `NAMESPACE/NAME`."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What one subject gains and loses in one scope ("" the whole cluster), as rules."""

    kind: str
    subject: str
    scope: str
    gains: tuple[Rule, ...]
    losses: tuple[Rule, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "subject": self.subject,
            "scope": self.scope or "cluster",
            "gains": [dict(rule) for rule in self.gains],
            "losses": [dict(rule) for rule in self.losses],
        }


def diff(old: Cluster, new: Cluster, progress: Progress | None = None) -> list[Difference]:
    """By subject and scope. A subject is judged by the bindings that name it, not by groups that it may be in.

    What is held in the whole cluster counts in each namespace, so that a binding that moves there takes nothing away.
    """
    before, after = _held(old), _held(new)
    subjects = sorted(before.keys() | after.keys())
    found: list[Difference] = []
    for done, subject in enumerate(subjects):
        if progress is not None and not done % 200:
            progress(done, len(subjects))
        found.extend(_of_subject(subject, before.get(subject, {}), after.get(subject, {})))
    return found


Held = dict[str, list[Rule]]
"""Rules by scope."""


def _held(cluster: Cluster) -> dict[Subject, Held]:
    """What each subject holds through bindings that name it."""
    found: dict[Subject, Held] = {}
    for binding in cluster.index.bindings():
        for kind, name, namespace in dict.fromkeys(binding.subjects):
            home = namespace or binding.namespace
            subject = (kind, f"{home}/{name}" if kind == "ServiceAccount" else name)
            found.setdefault(subject, {}).setdefault(binding.namespace, []).extend(binding.role.rules or ())
    return found


def _of_subject(subject: Subject, before: Held, after: Held) -> Iterable[Difference]:
    if before == after:
        return
    everywhere = (before.get("", []), after.get("", []))
    for scope in sorted(before.keys() | after.keys()):
        was, now = before.get(scope, []), after.get(scope, [])
        if scope:
            # a namespace has no paths of its own
            was, now = _resources(was), _resources(now)
            gains = covers([*was, *everywhere[0]], now)
            losses = covers([*now, *everywhere[1]], was)
        else:
            gains, losses = covers(was, now), covers(now, was)
        if gains or losses:
            yield Difference(*subject, scope, _tidy(gains), _tidy(losses))


def _resources(rules: Iterable[Rule]) -> list[Rule]:
    return [{**rule, "nonResourceURLs": ()} for rule in rules if rule.get("resources")]


def _tidy(parts: list[Rule]) -> tuple[Rule, ...]:
    return tuple(sorted(compact(list({compact_string(part): part for part in parts}.values())), key=compact_string))
