"""Rules of the resources of events.k8s.io: events in their newer form."""
