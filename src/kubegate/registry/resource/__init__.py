"""Rules of the resources of resource.k8s.io: slices of what nodes offer."""
