"""Webhook configurations and admission policies: their rules, and what their plugins need to know of objects."""
