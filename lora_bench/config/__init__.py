"""The configuration: typed groups, registration with Hydra, checks of keys and of relations."""
