"""Rules of the resources of scheduling.k8s.io: priority classes."""
