"""Attach tokens to the calls of HTTP libraries: one module for each, to be imported by name."""
