"""Rules of the resources of discovery.k8s.io: endpoint slices."""
