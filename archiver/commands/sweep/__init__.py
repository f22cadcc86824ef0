"""`kling-archiver sweep`."""
