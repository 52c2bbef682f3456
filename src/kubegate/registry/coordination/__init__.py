"""Rules of the resources of coordination.k8s.io: leases."""
