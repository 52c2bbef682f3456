"""Roles and bindings: what may be stored, and who may store it. One module for each of the four resources."""
