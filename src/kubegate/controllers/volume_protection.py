"""Volumes that are bound stay; see `claim_protection`, which differs in names and in what use means."""

from kubegate.controllers.claim_protection import VOLUMES, Protection


def build() -> Protection:
    return Protection(VOLUMES)
