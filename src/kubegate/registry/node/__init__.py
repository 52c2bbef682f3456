"""Rules of the resources of node.k8s.io: runtime classes."""
