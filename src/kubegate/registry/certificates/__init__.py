"""Requests for certificates, and their approval."""
