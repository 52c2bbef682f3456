"""The function libraries of Kubernetes' CEL environment, a module each."""
