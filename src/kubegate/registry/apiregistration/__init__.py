"""Rules of the resources of apiregistration.k8s.io: aggregated API services."""
