"""Tokens for clients: where `kubegate token` gets them, how kubectl is told of them, and where they are kept.

A source gives a `Credential`; `store` remembers it in a file of its owner's alone; `credential` writes it as the
ExecCredential that client-go reads from a credential plugin.
"""
