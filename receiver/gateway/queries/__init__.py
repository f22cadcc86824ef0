"""Queries and lists of clients: Kling's answer with links, or the archive's answer. Start at `handler`."""
