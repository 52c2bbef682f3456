"""Rules of the resources of storage.k8s.io: classes, drivers and attachments."""
