"""Finds threads of the process that hang: watched code calls `pulse`, and `watch` looks."""
