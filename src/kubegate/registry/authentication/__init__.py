"""Reviews of who one is, and tokens for service accounts."""
