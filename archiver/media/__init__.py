"""Identifies a file by its own bytes. Start at `identify`."""
