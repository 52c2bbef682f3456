"""Calls to others: webhooks and issuers, over kept TLS connections, bounded in time, size and number.

`client` makes the calls to an `endpoint`: it has turns, a pool of connections, and credentials. `dial` makes the
connections (names, TLS, proxies), `http1` speaks over them, `errors` says what went wrong as Go's client does. `result`
reads answers as client-go does (Status bodies, texts for status codes); `retry` is the back-off of Kubernetes' webhook
calls.
"""
