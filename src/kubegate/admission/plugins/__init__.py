"""The plugins that are part of the server, a module each. Every module has `build(dependencies) -> Plugin`."""
