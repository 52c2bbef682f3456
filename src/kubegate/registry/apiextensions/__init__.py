"""Custom resources: their definitions, how a definition becomes resources, and the rules of those."""
