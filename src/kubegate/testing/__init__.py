"""For tests of others: `plugin` has pytest's fixtures, `running` an API server in a thread."""
