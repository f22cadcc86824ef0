"""Settings: read once by an entry point, frozen, all problems reported at once. Start at `settings`."""
