"""Settings: read once by an entry point, frozen, all problems said at once. `settings` is the way in."""
