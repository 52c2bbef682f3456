"""ReplicationControllers, which are ReplicaSets by an older name."""

from kubegate.controllers.replicasets import REPLICATION_CONTROLLER, Replicas


def build() -> Replicas:
    return Replicas(REPLICATION_CONTROLLER)
