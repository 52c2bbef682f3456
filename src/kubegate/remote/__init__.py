"""Calls to others: webhooks and issuers, over pooled TLS connections, bounded in time, size and number."""
