"""Rules of the resources of core/v1: namespaces, pods, services and their like."""
