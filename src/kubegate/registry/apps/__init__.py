"""Rules of the resources of apps/v1: the workload kinds that keep pods running."""
