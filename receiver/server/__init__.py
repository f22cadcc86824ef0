"""The HTTP server: listening, limits, draining, and replies that every endpoint sends."""
