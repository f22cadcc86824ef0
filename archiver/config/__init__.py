"""Settings: read once by an entry point, frozen. Start at `settings`."""
