"""`kling-archiver submit`."""
