"""The HTTP server: listening, limits, draining, and what every endpoint uses: replies, bodies, turns."""
