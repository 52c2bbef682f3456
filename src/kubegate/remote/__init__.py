"""Calls to others: webhooks and issuers, over pooled TLS connections, bounded in time, size and number.

`client` makes the calls and says what went wrong as Go's client does; `result` reads answers as client-go does
(Status bodies, texts for status codes); `retry` is the back-off of Kubernetes' webhook calls.
"""
