"""The HTTP server: listening, limits, draining, and the answers that every endpoint gives."""
