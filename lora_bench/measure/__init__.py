"""Measurements as pure functions; every name ends in its unit."""
